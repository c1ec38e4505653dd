"""The table of methods: what it refuses, and what planning a study costs."""

import subprocess
import sys

import pytest
from fabricate import make_experiment, make_study

from weakseg.config import Study
from weakseg.errors import WeaksegError
from weakseg.methods import METHODS, Method
from weakseg.methods.registry import register


def nothing(scores, shown, constants):
    raise AssertionError("not called")


def test_every_method_of_the_paper_is_there():
    assert set(METHODS) >= {"pixel_labels", "em_fixed", "em_adapt", "bbox_rect", "bbox_seg", "bbox_em_fixed"}
    assert all(method.name == name for name, method in METHODS.items())


def test_two_of_one_name_are_refused():
    known = dict(METHODS)
    with pytest.raises(WeaksegError, match="method em_fixed: there are two of this name"):
        register(Method("em_fixed", annotation="image", estep=nothing))
    assert known == METHODS


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"annotation": "image", "estep": nothing, "loss": nothing}, "an E-step and a loss"),
        ({"annotation": "image", "estep": nothing, "label_maps": "bbox_rect"}, "label_maps go with"),
        ({"annotation": "strong", "label_maps": "bbox_seg"}, "label_maps go with"),
        ({"annotation": "box", "loss": nothing}, "label_maps go with"),
        ({"annotation": "image"}, "need an E-step or a loss"),
    ],
)
def test_methods_that_could_not_teach_are_refused(fields, what):
    with pytest.raises(WeaksegError, match=f"method odd: .*{what}"):
        Method("odd", **fields)


def test_constants_of_every_method_stand_in_a_study_by_its_name():
    for name, method in METHODS.items():
        if method.constants.model_fields:
            section = Study.model_fields["methods"].annotation.model_fields[name]
            assert section.annotation is method.constants and section.get_default(call_default_factory=True)
            assert all(field.description for field in method.constants.model_fields.values())


def test_constants_of_an_experiment_override_those_of_its_kind_and_of_the_study(tmp_path):
    study = make_study(
        tmp_path,
        methods={"em_fixed": {"bg_bias": 1.0, "fg_bias": 2.0}},
        methods_for={"semi": {"em_fixed": {"fg_bias": 3.0}}, "mine": {"em_fixed": {"fg_bias": 4.0}}},
    )
    rows = [
        make_experiment("plain", weak=10582, method="em_fixed"),
        make_experiment("half", strong=1464, weak=9118, method="em_fixed"),
        make_experiment("mine", strong=1464, weak=9118, method="em_fixed"),
    ]
    found = [study.constants_of(row, "em_fixed") for row in rows]
    assert [(c.bg_bias, c.fg_bias) for c in found] == [(1.0, 2.0), (1.0, 3.0), (1.0, 4.0)]
    assert study.constants_of(rows[0], "pixel_labels").model_dump() == {}


def test_planning_a_study_waits_for_neither_torch_nor_pandas():
    code = (
        "import sys, weakseg.config, weakseg.decides, weakseg.methods\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
