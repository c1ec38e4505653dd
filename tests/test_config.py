"""Typed configuration: what is refused and how it is named, the sheets beside the paper, and paths."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.config import (
    Boxes,
    CrfSearch,
    EStep,
    Experiment,
    Solver,
    Study,
    config_hash,
    load_experiments,
    load_paper,
    load_study,
    resolve_path,
    study_experiments,
    study_tables,
)
from weakseg.errors import WeaksegError

EXPERIMENTS = """
- {id: weak_one, table: table1, line: 1, method: EM-Fixed (Weak), weak: 9, weak_annotation: image, estep: em_fixed,
   fov: small}
- {id: strong_one, table: table1, line: 2, method: Strong, strong: 10, fov: large}
"""


def a_study(**changes: Any) -> dict[str, Any]:
    """The smallest study, with changes."""
    study: dict[str, Any] = {
        "name": "mine",
        "description": "A study.",
        "dataset": {"name": "mine", "source": "path", "path": "photos"},
        "network": {"trunk": "tiny"},
    }
    return study | changes


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A folder with two experiments."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "experiments.yaml").write_text(EXPERIMENTS, encoding="utf-8")
    return tmp_path


def written(config_dir: Path, study: dict[str, Any]) -> Path:
    path = config_dir / "studies" / "mine.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [0]}, "seed: Extra inputs are not permitted"),
        ({"solver": {"learning_rate": 1}}, "solver.learning_rate: Extra inputs are not permitted"),
        ({"solver": {"lr": -1}}, "solver.lr: Input should be greater than 0"),
        ({"crf": {"coarse": {"w": []}}}, "crf.coarse.w: .*at least 1"),
        ({"network": {"trunk": "resnet"}}, "network.trunk: Input should be 'vgg16'"),
        ({"network": {"trunk": "tiny", "crop_px": 320}}, "network.crop_px 320 is not a multiple of output_stride 8"),
        ({"dataset": {"name": "mine", "source": "path"}}, "dataset.path is needed"),
        ({"dataset": {"name": "mine", "source": "scenes"}}, "dataset.scenes is needed"),
        ({"name": "Mine!"}, "name: String should match pattern"),
        ({"seeds": []}, "seeds: .*at least 1"),
        ({"experiments": ["weak_two"]}, "no experiment named 'weak_two'"),
        ({"seeds_for": {"weak_two": [1]}}, "no experiment named 'weak_two'"),
        ({"solver_for": {"weekly": {"lr": 1}}}, "solver_for.weekly is neither a kind nor an experiment"),
        ({"solver_for": {"weak": {"learning_rate": 1}}}, "learning_rate: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_file_and_field(
    config_dir: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(config_dir, a_study(**changes))
    with pytest.raises(WeaksegError, match=message) as raised:
        load_study("mine", config_dir)
    assert str(path) in str(raised.value)


def test_all_wrong_fields_are_named_at_once(config_dir: Path) -> None:
    written(config_dir, a_study(seed=1, solver={"lr": 0, "batch": 0}))
    with pytest.raises(WeaksegError, match=r"3 field\(s\)") as raised:
        load_study("mine", config_dir)
    assert all(name in str(raised.value) for name in ("seed:", "solver.lr:", "solver.batch:"))


@pytest.mark.parametrize("text", ["name: [", "- just\n- a list", ""])
def test_files_that_are_no_study_are_refused(config_dir: Path, text: str) -> None:
    path = config_dir / "studies" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"mine\.yaml"):
        load_study(path, config_dir)


@pytest.mark.parametrize("text", ["", "just text", "{id: a}", "- just text"])
def test_a_sheet_that_is_no_list_of_rows_is_refused(config_dir: Path, text: str) -> None:
    (config_dir / "experiments.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"experiments\.yaml"):
        load_experiments(config_dir)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"strong": 0, "weak": 0}, "strong and weak are both 0"),
        ({"strong": 5, "weak": 5}, "must be given together"),
        ({"strong": 5, "weak": 0, "estep": "em_fixed"}, "must be given together"),
        ({"strong": -1}, "strong: Input should be greater than or equal to 0"),
        ({"strong": 5, "estpe": "none"}, "estpe: Extra inputs are not permitted"),
        ({"weak": 5, "weak_annotation": "image", "estep": "bbox_seg"}, "does not go with weak_annotation image"),
        ({"weak": 5, "weak_annotation": "box", "estep": "em_fixed"}, "does not go with weak_annotation box"),
    ],
)
def test_half_given_experiments_are_refused(config_dir: Path, row: dict[str, Any], message: str) -> None:
    full = {"id": "x", "table": "table1", "line": 1, "method": "m", "fov": "large", **row}
    (config_dir / "experiments.yaml").write_text(yaml.safe_dump([full]), encoding="utf-8")
    with pytest.raises(WeaksegError, match=message):
        load_experiments(config_dir)


def test_doubled_ids_are_refused(config_dir: Path) -> None:
    (config_dir / "experiments.yaml").write_text(EXPERIMENTS.replace("strong_one", "weak_one"), encoding="utf-8")
    with pytest.raises(WeaksegError, match="ids occur twice: weak_one"):
        load_experiments(config_dir)


def test_solver_of_the_kind_then_of_the_experiment(config_dir: Path) -> None:
    changes = {"weak": {"lr": 0.5, "batch": 7}, "weak_one": {"lr": 0.25}}
    written(config_dir, a_study(solver={"momentum": 0.5}, solver_for=changes))
    study = load_study("mine", config_dir)
    weak, strong = load_experiments(config_dir)
    assert study.solver_of(weak) == Solver(momentum=0.5, lr=0.25, batch=7)
    assert study.solver_of(strong) == Solver(momentum=0.5)


def test_chosen_experiments_and_their_seeds(config_dir: Path) -> None:
    written(config_dir, a_study(experiments=["strong_one"], seeds=[3], seeds_for={"strong_one": [1, 2]}))
    study = load_study("mine", config_dir)
    assert [row.id for row in study_experiments(study, config_dir)] == ["strong_one"]
    assert study.seeds_of("strong_one") == (1, 2) and study.seeds_of("weak_one") == (3,)


# The paper, typed off again here: (strong, weak, mean IOU in percent) by line of its Table 1.
TABLE_1 = [
    (0, 10582, 20.8), (0, 10582, 38.2), (200, 10382, 47.6), (500, 10082, 56.9), (750, 9832, 59.8),
    (1000, 9582, 62.0), (1464, 5000, 63.2), (1464, 9118, 64.6), (1464, 0, 62.5), (10582, 0, 67.6),
]  # fmt: skip


def test_sheets_are_table_1_of_the_paper(project_root: Path) -> None:
    lines = [row for row in load_experiments(project_root / "config") if row.table == "table1"]
    originals = {row.line: row for row in lines if row.variant is None}
    figures = {row.line: row for row in load_paper(project_root / "config") if row.table == "table1"}
    assert Counter(row.line for row in lines if row.variant is None) == Counter(range(1, len(TABLE_1) + 1))
    for line, (strong, weak, iou) in enumerate(TABLE_1, start=1):
        row, figure = originals[line], figures[line]
        assert (row.strong, row.weak, figure.iou) == (strong, weak, iou)
        assert (row.method, row.fov) == (figure.method, figure.fov)
        assert (figure.strong, figure.weak) == tuple(f"{n:,}" if n else "-" for n in (strong, weak))
        # 10,582 training images in all; only line 7 leaves some of the weak ones out.
        assert strong + weak == 10582 or line in (7, 9)


# (method, strong, boxes, mean IOU in percent) by line of its Table 3; the last two are lines 9 and 10 of Table 1.
TABLE_3 = [
    ("Bbox-Rect (Weak)", 0, 10582, 52.5), ("Bbox-EM-Fixed (Weak)", 0, 10582, 54.1), ("Bbox-Seg (Weak)", 0, 10582, 60.6),
    ("Bbox-Rect (Semi)", 1464, 9118, 62.1), ("Bbox-EM-Fixed (Semi)", 1464, 9118, 64.8),
    ("Bbox-Seg (Semi)", 1464, 9118, 65.1), ("Strong", 1464, 0, 62.5), ("Strong", 10582, 0, 67.6),
]  # fmt: skip


def test_sheets_are_table_3_of_the_paper(project_root: Path) -> None:
    rows = load_experiments(project_root / "config")
    lines = {line: row for row in rows if (line := row.line_in("table3"))}
    figures = {figure.line: figure for figure in load_paper(project_root / "config") if figure.table == "table3"}
    assert sorted(lines) == sorted(figures) == list(range(1, 9))
    for line, (method, strong, boxes, iou) in enumerate(TABLE_3, start=1):
        row, figure = lines[line], figures[line]
        assert (row.method, row.strong, row.weak, figure.iou) == (method, strong, boxes, iou)
        assert (figure.method, figure.strong, figure.weak) == (
            method, *(f"{n:,}" if n else "-" for n in (strong, boxes)),
        )  # fmt: skip
        assert figure.fov in (row.fov, "unknown")
        assert row.weak_annotation == ("box" if boxes else "none")
    assert [row.id for row in rows if row.watched] == ["bbox_em_fixed_weak"]


def test_a_study_without_boxes_leaves_their_experiments_out_but_not_in_silence(project_root: Path) -> None:
    config = project_root / "config"
    study = load_study("voc", config)
    without = study.model_copy(update={"boxes": None})
    left = study_experiments(without, config)
    assert study_tables(left) == ["table1"] and study_tables(study_experiments(study, config)) == ["table1", "table3"]
    assert all(row.weak_annotation != "box" for row in left) and len(left) == 12


def test_named_experiments_with_boxes_need_boxes(config_dir: Path, project_root: Path) -> None:
    (config_dir / "experiments.yaml").write_text((project_root / "config/experiments.yaml").read_text())
    written(config_dir, a_study(boxes=None, experiments=["strong_1464", "bbox_rect_weak"]))
    with pytest.raises(WeaksegError, match="bbox_rect_weak needs boxes, but the study says `boxes: null`"):
        load_study("mine", config_dir)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.2])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(ValidationError, match="alphas must lie between 0 and 1"):
        Boxes(alphas=(alpha,))


def test_variants_differ_from_their_line_in_the_field_of_view_only(project_root: Path) -> None:
    rows = load_experiments(project_root / "config")
    originals = {(row.table, row.line): row for row in rows if row.variant is None}
    for row in rows:
        if row.variant is not None:
            original = originals[row.table, row.line]
            same = row.model_dump(exclude={"id", "fov", "variant"})
            assert same == original.model_dump(exclude={"id", "fov", "variant"}) and row.fov != original.fov


def test_kinds() -> None:
    common = {"id": "x", "table": "table1", "line": 1, "method": "m", "fov": "large"}
    image = {"weak_annotation": "image", "estep": "em_adapt"}
    assert Experiment.model_validate({**common, "strong": 1}).kind == "strong"
    assert Experiment.model_validate({**common, "weak": 1, **image}).kind == "weak"
    assert Experiment.model_validate({**common, "weak": 1, "strong": 1, **image}).kind == "semi"


def test_defaults_are_the_paper_s() -> None:
    # DeepLab v1 release, solver.prototxt and train.prototxt.
    solver = Solver()
    assert (solver.lr, solver.momentum, solver.weight_decay) == (0.001, 0.9, 0.0005)
    assert (solver.schedule, solver.iterations, solver.step_iterations, solver.step_factor) == ("step", 6000, 2000, 0.1)
    assert (solver.batch, solver.batch_strong, solver.batch_weak) == (30, 15, 15)
    assert (solver.bias_lr_multiplier, solver.head_lr_multiplier, solver.fc8_lr_multiplier) == (2, 1, 10)
    # Papandreou et al. 2015, Alg. 1 and section 3.2; the weights of the mixed loss are the release's.
    estep = EStep()
    assert (estep.bg_bias, estep.fg_bias) == (3, 5)
    assert (estep.bg_portion, estep.fg_portion, estep.rounds) == (0.4, 0.2, 5)
    assert solver.strong_weight == 0.7
    # Chen et al. 2015, section 4: w1 in {5, 10}, sigma_alpha in {50, 60, ..., 100}, sigma_beta in {3, 4, ..., 10}.
    search = CrfSearch()
    assert search.coarse.w == (5, 10)
    assert search.coarse.sigma_xy == (50, 60, 70, 80, 90, 100)
    assert search.coarse.sigma_rgb == (3, 4, 5, 6, 7, 8, 9, 10)
    assert (search.w_pos, search.sigma_pos, search.iterations) == (3, 3, 10)


def test_the_full_study_follows_the_paper_s_protocol(project_root: Path) -> None:
    study = load_study("voc", project_root / "config")
    assert (study.network.trunk, study.network.crop_px, study.network.image_scale) == ("vgg16", 321, 1.0)
    assert study.sampling.repeat_factor_threshold == 0 and not study.estep.valid_cells_only
    assert (study.estep, study.crf.coarse) == (EStep(), CrfSearch().coarse)


def test_every_field_says_what_it_is() -> None:
    def undescribed(schema: dict[str, Any]) -> list[str]:
        models = {"Study": schema, **schema["$defs"]}
        return [
            f"{model}.{name}"
            for model, part in models.items()
            for name, field in part["properties"].items()
            if "description" not in field and "$ref" not in str(field)
        ]

    assert undescribed(Study.model_json_schema()) == []


def test_paths_are_resolved_by_argument_then_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEAKSEG_DATA_ROOT", raising=False)
    with pytest.raises(WeaksegError, match=r"--config data_root=FOLDER.*WEAKSEG_DATA_ROOT"):
        resolve_path("{data_root}/a")
    assert resolve_path("photos") == Path("photos")
    assert resolve_path("{results}/w", results="out/demo") == Path("out/demo/w")
    monkeypatch.setenv("WEAKSEG_DATA_ROOT", "env")
    assert resolve_path("{data_root}/a") == Path("env/a")
    assert resolve_path("{data_root}/a", data_root="given") == Path("given/a")


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_hash_is_equal_for_equal_configurations_only(first: int, second: int) -> None:
    assert (config_hash(Solver(iterations=first)) == config_hash(Solver(iterations=second))) == (first == second)
