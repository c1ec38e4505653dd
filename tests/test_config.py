"""Typed configuration: what is refused and how it is named, the sheets beside the paper, and paths."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from fabricate import make_experiment
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.config import (
    EVERY,
    Boxes,
    CrfSearch,
    Dataset,
    Experiment,
    Network,
    Sampling,
    Solver,
    Study,
    config_hash,
    estep_runs,
    load_paper,
    load_sheet,
    load_study,
    resolve_path,
    shown_run,
    study_experiments,
    study_tables,
)
from weakseg.config.dataset import OtherDataset
from weakseg.errors import WeaksegError
from weakseg.joint_labels import shared_classes
from weakseg.labels import COCO, SCENES28, VOC, voc_palette
from weakseg.train.setup import images_of_batch

EXPERIMENTS = """
lists: {pixel_labelled: 10, training: 20, evaluation: 8, held_out: 2}
experiments:
- {id: weak_one, table: table1, line: 1, title: EM-Fixed (Weak), fov: small,
   streams: [{annotation: image, images: 9, method: em_fixed}]}
- {id: strong_one, table: table1, line: 2, title: Strong, fov: large,
   streams: [{annotation: strong, images: 10, method: pixel_labels}]}
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
        ({"solver_for": {"weak": {"learning_rate": 1}}}, "solver_for.weak.learning_rate: Extra inputs"),
        ({"solver_for": {"strong_one": {"lr": 0}}}, "solver_for.strong_one.lr: Input should be greater than 0"),
        # A kind that no experiment has is looked at, too.
        ({"solver_for": {"semi": {"learning_rate": 1}}}, "solver_for.semi.learning_rate: Extra inputs"),
        ({"solver_for": {"weak": 3}}, "solver_for.weak: Input should be a valid dict"),
        ({"methods": {"em_fixd": {}}}, "methods.em_fixd: Extra inputs"),
        ({"methods": {"em_fixed": {"bg_bais": 1}}}, "methods.em_fixed.bg_bais: Extra inputs"),
        ({"methods_for": {"weekly": {}}}, "methods_for.weekly is neither a kind nor an experiment"),
        ({"methods_for": {"weak": {"em_fixd": {}}}}, "methods_for.weak.em_fixd: there is no such method"),
        ({"methods_for": {"semi": {"em_fixed": {"bg_bais": 1}}}}, "methods_for.semi.em_fixed.bg_bais: Extra inputs"),
        ({"methods_for": {"weak_one": {"em_adapt": {"bg_portion": 2}}}},
         "methods_for.weak_one.em_adapt.bg_portion: Input should be less than or equal to 1"),
        ({"counts": "all"}, "counts: Input should be 'paper' or 'images'"),
        ({"experiments": []}, "experiments: .*at least 1"),
        ({"dataset": {"name": "mine", "source": "path", "path": "x", "labels": "pascal"}}, "dataset.labels"),
        ({"dataset": {"name": "mine", "source": "path", "path": "x", "labels": []}}, "dataset.labels"),
        ({"dataset": {"name": "mine", "source": "path", "path": "x", "labels": [{"name": "cat", "colour": "red"}]}},
         "dataset.labels.*colour: String should match pattern"),
        ({"dataset": {"name": "mine", "source": "path", "path": "x", "lists": {"trian": "t"}}},
         "dataset.lists.trian: Extra inputs"),
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


@pytest.mark.parametrize("text", ["", "just text", "{id: a}", "- just text", EXPERIMENTS.partition("exper")[0]])
def test_a_sheet_that_is_no_list_of_rows_is_refused(config_dir: Path, text: str) -> None:
    (config_dir / "experiments.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"experiments\.yaml"):
        load_sheet(config_dir)


def test_a_sheet_without_experiments_is_refused(config_dir: Path) -> None:
    (config_dir / "experiments.yaml").write_text(
        EXPERIMENTS.partition("experiments:")[0] + "experiments: []\n", encoding="utf-8"
    )
    with pytest.raises(WeaksegError, match=r"experiments: Tuple should have at least 1 item"):
        load_sheet(config_dir)


@pytest.mark.parametrize(
    ("lines", "key", "line"),
    [
        (["name: mine", "seeds: [0]", "seeds: [1]"], "seeds", 3),
        (["name: mine", "solver:", "  lr: 0.1", "  momentum: 0", "  lr: 0.2"], "lr", 5),
        (["name: mine", "solver: {lr: 0.1, lr: 0.2}"], "lr", 2),
    ],
)
def test_a_key_that_stands_there_twice_is_named_with_its_line(
    config_dir: Path, lines: list[str], key: str, line: int
) -> None:
    path = config_dir / "studies" / "mine.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(WeaksegError, match=rf"mine\.yaml: .*'{key}' stands there twice; remove one\n.*line {line},"):
        load_study("mine", config_dir)


def test_anchors_may_be_merged_and_odd_keys_are_refused(config_dir: Path) -> None:
    path = written(config_dir, a_study())
    text = path.read_text(encoding="utf-8") + (
        "solver: &a {lr: 0.5, batch: 7}\nsolver_for:\n  weak: &b {<<: *a, lr: 0.25}\n  semi: {<<: *b, lr: 0.125}\n"
    )
    path.write_text(text, encoding="utf-8")
    study = load_study("mine", config_dir)
    assert study.solver_for == {"weak": {"lr": 0.25, "batch": 7}, "semi": {"lr": 0.125, "batch": 7}}
    path.write_text("? [a, b]\n: 1\n", encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"mine\.yaml: not valid YAML: [^$]*unhashable key"):
        load_study("mine", config_dir)


def test_a_file_in_another_encoding_is_named(config_dir: Path) -> None:
    study, sheet = written(config_dir, a_study(description="Käfer")), config_dir / "experiments.yaml"
    paper = config_dir / "paper.yaml"
    for path, read in ((study, load_study), (sheet, load_sheet), (paper, load_paper)):
        before = path.read_bytes() if path.exists() else b""
        path.write_bytes("description: K\xe4fer\n".encode("latin-1"))
        with pytest.raises(WeaksegError, match=rf"{path.name}: not UTF-8 text"):
            read(path if read is load_study else config_dir)
        path.write_bytes(before)


def stream(annotation: str = "strong", images: int | str = 5, method: str = "pixel_labels", **more: Any) -> dict:
    return {"annotation": annotation, "images": images, "method": method, **more}


IMAGE = stream("image", 5, "em_fixed")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"streams": []}, "streams: .*at least 1"),
        ({"streams": [stream(images=0)]}, "streams.0.images"),
        ({"streams": [stream(images="some")]}, "streams.0.images"),
        ({"streams": [stream(estep="none")]}, "streams.0.estep: Extra inputs are not permitted"),
        (
            {"streams": [stream(method="em_fixd")]},
            "streams.0: .*no method 'em_fixd'; there are bbox_em_fixed, .*em_fixed",
        ),
        ({"streams": [stream("image", 5, "bbox_seg")]}, "method bbox_seg needs the annotation 'box', not 'image'"),
        ({"streams": [stream("box", 5, "em_fixed")]}, "method em_fixed needs the annotation 'image', not 'box'"),
        ({"streams": [stream("image", 5, "pixel_labels")]}, "pixel_labels needs the annotation 'strong', not 'image'"),
        ({"streams": [IMAGE, stream()]}, "streams with pixel labels come first"),
        ({"streams": [stream(share=0.5), IMAGE]}, "give every stream a share, or none"),
        ({"streams": [stream(weight=0.5), IMAGE]}, "give every stream a weight, or none"),
        ({"streams": [stream(share=0.5), {**IMAGE, "share": 0.4}]}, "the shares of its streams must sum to 1"),
        ({"streams": [stream(weight=0.7), {**IMAGE, "weight": 0.7}]}, "the weights of its streams must sum to 1"),
        ({"streams": [stream(share=0)]}, "streams.0.share: Input should be greater than 0"),
        ({"streams": [stream(weight=-1)]}, "streams.0.weight: Input should be greater than or equal to 0"),
        ({"streams": [stream()], "fov": "wide"}, "fov: Input should be 'small', 'rate8', 'seven' or 'large'"),
        ({"streams": [stream()], "id": "My run"}, "id: String should match pattern"),
    ],
)
def test_experiments_that_make_no_batch_are_refused(config_dir: Path, row: dict[str, Any], message: str) -> None:
    sheet = yaml.safe_load(EXPERIMENTS)
    sheet["experiments"] = [{"id": "x", "table": "table1", "line": 1, "title": "m", "fov": "large", **row}]
    path = config_dir / "experiments.yaml"
    path.write_text(yaml.safe_dump(sheet), encoding="utf-8")
    with pytest.raises(WeaksegError, match=message) as raised:
        load_sheet(config_dir)
    assert str(path) in str(raised.value)
    if "streams." in message or ":" in message:
        assert "experiments.0." in str(raised.value)


def test_an_experiment_on_a_data_set_that_the_study_lacks_is_left_out_and_refused_where_it_is_named(
    config_dir: Path,
) -> None:
    sheet = yaml.safe_load(EXPERIMENTS)
    sheet["experiments"][1]["streams"][0]["dataset"] = "pets"
    sheet_path = config_dir / "experiments.yaml"
    sheet_path.write_text(yaml.safe_dump(sheet), encoding="utf-8")
    written(config_dir, a_study())
    with pytest.raises(WeaksegError, match=r"lists\.other does not say how many training images 'pets' has"):
        load_study("mine", config_dir)
    sheet["lists"]["other"] = {"pets": 100}
    sheet_path.write_text(yaml.safe_dump(sheet), encoding="utf-8")
    study = load_study("mine", config_dir)
    assert [row.id for row in study_experiments(study, config_dir)] == ["weak_one"]
    path = written(config_dir, a_study(experiments=["strong_one"]))
    with pytest.raises(
        WeaksegError, match=r"strong_one draws from the data set 'pets'; .* other_datasets has none"
    ) as e:
        load_study("mine", config_dir)
    assert str(path) in str(e.value)
    pets = {"name": "photos of pets", "source": "path", "path": "x", "labels": ["cat"]}
    written(config_dir, a_study(experiments=["strong_one"], other_datasets={"pets": pets}))
    study = load_study("mine", config_dir)
    assert [row.id for row in study_experiments(study, config_dir)] == ["strong_one"]
    assert study.of_dataset("pets").dataset.label_set().classes == ("cat",) and study.of_dataset(None) is study


def test_a_study_has_labels_of_its_own_with_colours() -> None:
    folder = {"name": "garden", "source": "path", "path": "x"}
    own = ["lawn mower", {"name": "hedgehog", "colour": "#10a0FF"}, {"name": "cat"}]
    labels = Dataset.model_validate({**folder, "labels": own}).label_set()
    assert labels.names == ("background", "lawn mower", "hedgehog", "cat")
    palette = labels.palette().tolist()
    assert palette[2] == [0x10, 0xA0, 0xFF]
    # The others, and what is beyond the labels, have VOC's colours.
    assert [palette[n] for n in (0, 1, 3, 4, 255)] == [voc_palette()[n].tolist() for n in (0, 1, 3, 4, 255)]
    assert Dataset.model_validate(folder).label_set() is VOC
    assert Dataset.model_validate({**folder, "labels": "coco"}).label_set() is COCO
    with pytest.raises(ValueError, match="'cat' and 'Cat' are one name"):
        Dataset.model_validate({**folder, "labels": ["cat", "Cat"]})


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
def test_seeds_are_some_distinct_and_not_negative(config_dir: Path, seeds: list[int]) -> None:
    for field in ("seeds", "seeds_for"):
        written(config_dir, a_study(**{field: seeds if field == "seeds" else {"weak_one": seeds}}))
        with pytest.raises(WeaksegError, match=field):
            load_study("mine", config_dir)


def test_doubled_ids_are_refused(config_dir: Path) -> None:
    (config_dir / "experiments.yaml").write_text(EXPERIMENTS.replace("strong_one", "weak_one"), encoding="utf-8")
    with pytest.raises(WeaksegError, match="ids occur twice: weak_one"):
        load_sheet(config_dir)


def test_solver_of_the_kind_then_of_the_experiment(config_dir: Path) -> None:
    changes = {"weak": {"lr": 0.5, "batch": 7}, "weak_one": {"lr": 0.25}}
    written(config_dir, a_study(solver={"momentum": 0.5}, solver_for=changes))
    study = load_study("mine", config_dir)
    weak, strong = load_sheet(config_dir).experiments
    assert study.solver_of(weak) == Solver(momentum=0.5, lr=0.25, batch=7)
    assert study.solver_of(strong) == Solver(momentum=0.5)


def test_constants_of_the_kind_then_of_the_experiment(config_dir: Path) -> None:
    changes = {"weak": {"em_fixed": {"bg_bias": 1, "fg_bias": 2}}, "weak_one": {"em_fixed": {"fg_bias": 7}}}
    written(config_dir, a_study(methods={"em_fixed": {"bg_bias": 9}}, methods_for=changes))
    study = load_study("mine", config_dir)
    weak, strong = load_sheet(config_dir).experiments
    assert study.constants_of(weak, "em_fixed").model_dump() == {"bg_bias": 1, "fg_bias": 7}
    assert study.constants_of(strong, "em_fixed").model_dump() == {"bg_bias": 9, "fg_bias": 5}
    assert study.constants_of(strong, "pixel_labels").model_dump() == {}


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
    lines = [row for row in load_sheet(project_root / "config").experiments if row.table == "table1"]
    originals = {row.line: row for row in lines if row.variant is None}
    figures = {row.line: row for row in load_paper(project_root / "config") if row.table == "table1"}
    assert Counter(row.line for row in lines if row.variant is None) == Counter(range(1, len(TABLE_1) + 1))
    for line, (strong, weak, iou) in enumerate(TABLE_1, start=1):
        row, figure = originals[line], figures[line]
        assert (row.strong, row.weak, figure.iou) == (strong, weak, iou)
        assert (row.title, row.fov) == (figure.method, figure.fov)
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
    rows = load_sheet(project_root / "config").experiments
    lines = {line: row for row in rows if (line := row.line_in("table3"))}
    figures = {figure.line: figure for figure in load_paper(project_root / "config") if figure.table == "table3"}
    assert sorted(lines) == sorted(figures) == list(range(1, 9))
    for line, (method, strong, boxes, iou) in enumerate(TABLE_3, start=1):
        row, figure = lines[line], figures[line]
        assert (row.title, row.strong, row.weak, figure.iou) == (method, strong, boxes, iou)
        assert (figure.method, figure.strong, figure.weak) == (
            method, *(f"{n:,}" if n else "-" for n in (strong, boxes)),
        )  # fmt: skip
        assert figure.fov in (row.fov, "unknown")
        assert row.weak_annotation == ("box" if boxes else "none")


# Kind, counts and methods of every row: (kind, strong images, weak images, weak method, folders of label maps).
ROWS = {
    "em_fixed_weak": ("weak", 0, 10582, "em_fixed", ()),
    "em_fixed_weak_largefov": ("weak", 0, 10582, "em_fixed", ()),
    "em_adapt_weak": ("weak", 0, 10582, "em_adapt", ()),
    "em_adapt_weak_largefov": ("weak", 0, 10582, "em_adapt", ()),
    "em_fixed_semi_200": ("semi", 200, 10382, "em_fixed", ()),
    "em_fixed_semi_500": ("semi", 500, 10082, "em_fixed", ()),
    "em_fixed_semi_750": ("semi", 750, 9832, "em_fixed", ()),
    "em_fixed_semi_1000": ("semi", 1000, 9582, "em_fixed", ()),
    "em_fixed_semi_1464_5000": ("semi", 1464, 5000, "em_fixed", ()),
    "em_fixed_semi_1464_9118": ("semi", 1464, 9118, "em_fixed", ()),
    "strong_1464": ("strong", 1464, 0, None, ()),
    "strong_10582": ("strong", 10582, 0, None, ()),
    "bbox_rect_weak": ("weak", 0, 10582, "bbox_rect", ("bbox_rect",)),
    "bbox_em_fixed_weak": ("weak", 0, 10582, "bbox_em_fixed", ("bbox_rect",)),
    "bbox_seg_weak": ("weak", 0, 10582, "bbox_seg", ("bbox_seg",)),
    "bbox_rect_semi": ("semi", 1464, 9118, "bbox_rect", ("bbox_rect",)),
    "bbox_em_fixed_semi": ("semi", 1464, 9118, "bbox_em_fixed", ("bbox_rect",)),
    "bbox_seg_semi": ("semi", 1464, 9118, "bbox_seg", ("bbox_seg",)),
}  # fmt: skip


def test_the_eighteen_rows(project_root: Path) -> None:
    # Rows of one's own may stand beside the paper's.
    rows = [row for row in load_sheet(project_root / "config").experiments if row.table in ("table1", "table3")]
    found = {row.id: (row.kind, row.strong, row.weak, row.weak_method, row.label_maps) for row in rows}
    assert list(found.items()) == list(ROWS.items())
    for row in rows:
        halves = [(one.share, one.weight) for one in row.streams]
        # Mixed batches are half strong, half weak; the weights of the mixed loss are the release's.
        assert halves == ([(0.5, 0.7), (0.5, 0.3)] if row.kind == "semi" else [(None, None)])
        assert all(one.method == "pixel_labels" for one in row.streams if one.annotation == "strong")
        estep = row.weak_method if row.weak_method in ("em_fixed", "em_adapt", "bbox_em_fixed") else None
        assert (row.estep_stream and row.estep_stream.method) == estep
    study = load_study("voc", project_root / "config")
    assert shown_run(study, list(rows)) == ("bbox_em_fixed_weak", 0)
    weak = ["em_fixed_weak", "em_adapt_weak", "bbox_em_fixed_weak"]
    assert estep_runs(study, list(rows)) == [(name, study.seeds_of(name)[0]) for name in weak]
    mixed = [row for row in rows if row.kind != "weak"]
    assert [name for name, _ in estep_runs(study, mixed)] == ["em_fixed_semi_200", "bbox_em_fixed_semi"]
    assert load_sheet(project_root / "config").lists.sizes() == {
        "pixel_labelled": 1464, "training": 10582, "evaluation": 1449, "held_out": 100,
    }  # fmt: skip


def test_a_study_without_boxes_leaves_their_experiments_out_but_not_in_silence(project_root: Path) -> None:
    config = project_root / "config"
    study = load_study("voc", config)
    without = study.model_copy(update={"boxes": None})
    left = study_experiments(without, config)
    assert "table3" not in study_tables(left) and "table3" in study_tables(study_experiments(study, config))
    assert all(row.weak_annotation != "box" for row in left) and len([r for r in left if r.table == "table1"]) == 12


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
    """But the start of a line, which is shown beside it."""
    rows = load_sheet(project_root / "config").experiments
    originals = {(row.table, row.line): row for row in rows if row.variant is None}
    for row in rows:
        if row.variant is not None and originals[row.table, row.line].init_from != row.id:
            original = originals[row.table, row.line]
            same = row.model_dump(exclude={"id", "fov", "variant"})
            assert same == original.model_dump(exclude={"id", "fov", "variant"}) and row.fov != original.fov


def test_kinds() -> None:
    def row(*streams: dict[str, Any]) -> Experiment:
        common = {"id": "x", "table": "table1", "line": 1, "title": "m", "fov": "large"}
        return Experiment.model_validate({**common, "streams": streams})

    box = stream("box", "all", "bbox_em_fixed")
    kinds = [row(*streams).kind for streams in ([stream()], [IMAGE], [stream(), IMAGE], [IMAGE, box])]
    assert kinds == ["strong", "weak", "semi", "weak"]
    every = row(stream(), IMAGE, box)
    assert (every.strong, every.weak, every.weak_annotation, every.weak_method) == (5, EVERY, "image", "em_fixed")
    assert row(stream()).weak_annotation == "none" and row(stream()).estep_stream is None
    assert row(stream(), box).weak_annotation == "box" and row(stream(), box).label_maps == ("bbox_rect",)


def test_defaults_are_the_paper_s() -> None:
    # DeepLab v1 release, solver.prototxt and train.prototxt.
    solver = Solver()
    assert (solver.lr, solver.momentum, solver.weight_decay) == (0.001, 0.9, 0.0005)
    assert (solver.schedule, solver.iterations, solver.step_iterations, solver.step_factor) == ("step", 6000, 2000, 0.1)
    assert solver.batch == 30
    assert (solver.bias_lr_multiplier, solver.head_lr_multiplier, solver.fc8_lr_multiplier) == (2, 1, 10)
    # Papandreou et al. 2015, Alg. 1 and section 3.2; those of Bbox-EM-Fixed are the released code's.
    methods = Study.model_validate(a_study()).methods.model_dump()
    assert methods == {
        "em_fixed": {"bg_bias": 3, "fg_bias": 5},
        "em_adapt": {"bg_portion": 0.4, "fg_portion": 0.2, "rounds": 5},
        "bbox_em_fixed": {"bg_bias": 5, "fg_bias": 6, "fixed_map_iterations": 0},
    }
    # Chen et al. 2015, section 4: w1 in {5, 10}, sigma_alpha in {50, 60, ..., 100}, sigma_beta in {3, 4, ..., 10}.
    search = CrfSearch()
    assert search.coarse.w == (5, 10)
    assert search.coarse.sigma_xy == (50, 60, 70, 80, 90, 100)
    assert search.coarse.sigma_rgb == (3, 4, 5, 6, 7, 8, 9, 10)
    assert (search.w_pos, search.sigma_pos, search.iterations) == (3, 3, 10)


def test_the_full_study_follows_the_paper_s_protocol(project_root: Path) -> None:
    study = load_study("voc", project_root / "config")
    assert (study.network.trunk, study.network.crop_px, study.network.image_scale) == ("vgg16", 321, 1.0)
    assert study.sampling == Sampling() and study.sampling.repeat_factor_threshold == 0
    assert not study.sampling.valid_cells_only and study.counts == "paper"
    assert (study.methods, study.crf.coarse) == (Study.model_validate(a_study()).methods, CrfSearch().coarse)
    assert study.solver == Solver(batch_for_fov={"small": 20}) and not study.methods_for
    assert study.solver_for == {"test_stage": {"iterations": 8000}}


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


def test_the_batch_of_a_field_of_view_stands_before_that_of_all_and_behind_an_experiment_s() -> None:
    def batch(fov: str, **sections) -> int:
        study = Study.model_validate({**a_study(), **sections})
        solver = study.solver_of(make_experiment("semi", strong=1464, weak=9118, method="em_fixed", fov=fov))
        assert solver.batch_for_fov == {}
        return solver.batch

    solver = {"batch": 30, "batch_for_fov": {"small": 20}}
    assert (batch("small", solver=solver), batch("large", solver=solver)) == (20, 30)
    assert batch("small", solver={"batch": 12}) == 12
    for key in ("semi", "weak"):
        changed = {key: {"batch": 8}}
        expected = 8 if key == "semi" else 20
        assert batch("small", solver=solver, solver_for=changed) == expected
    assert batch("small", solver=solver, solver_for={"semi": {"batch_for_fov": {"small": 6}}}) == 6
    assert batch("small", solver=solver, solver_for={"semi": {"batch": 8}, "other": {"batch": 9}}) == 8


def test_the_study_voc_follows_the_release() -> None:
    """Batch 20 in the release for the small field of view, 30 for the large one; halves where two streams draw."""
    study = load_study("voc")
    halves = {row.id: images_of_batch(row, study.solver_of(row).batch) for row in load_sheet().experiments}
    fov = {row.id: row.fov for row in load_sheet().experiments}
    for name, counts in halves.items():
        if name != "coco_cross_joint_semi":  # half of it is VOC's
            assert counts == [sum(counts) // len(counts)] * len(counts)
        assert sum(counts) == {"small": 20}.get(fov[name], 30)
    assert halves["em_fixed_semi_1464_9118"] == [15, 15] and halves["em_adapt_weak"] == [20]
    assert sorted(halves["coco_cross_joint_semi"]) == [7, 8, 15] and halves["coco_cross_joint_semi"][0] == 15
    assert (study.network.test_px, study.network.crop_px, study.network.fresh_start) == (513, 321, "measured")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"test_px": 512}, "network.test_px 512 is not a multiple of output_stride 8 plus 1"),
        ({"test_px": 513, "freeze_trunk": True}, "cannot be used with network.freeze_trunk"),
    ],
)
def test_sizes_of_tests_that_cannot_be_used_are_named(fields, said) -> None:
    with pytest.raises(ValueError, match=said):
        Study.model_validate({**a_study(), "network": {"trunk": "tiny", **fields}})


def test_only_a_data_set_that_is_not_scored_is_without_images_to_score(config_dir: Path) -> None:
    scenes = {"seed": 1, "train": 10, "train_aug": 40, "val": 0, "crf_val": 0, "classes": 28}
    more = {"name": "more scenes", "source": "scenes", "labels": "scenes28", "scenes": scenes}
    written(config_dir, a_study(other_datasets={"more": more}))
    other = load_study("mine", config_dir).of_dataset("more").dataset
    assert other.label_set() is SCENES28 and other.scenes is not None
    assert (other.scenes.val, other.scenes.crf_val) == (0, 0)
    assert shared_classes(VOC, SCENES28) == {name: name for name in VOC.classes}
    for missing in ({"val": 5}, {"crf_val": 5}, {}):
        own = {**more, "scenes": {**scenes, **missing}}
        path = written(config_dir, a_study(dataset=own))
        with pytest.raises(
            WeaksegError, match=r"scenes\.val and crf_val must be 1 at least.*only one of other_datas"
        ) as e:
            load_study("mine", config_dir)
        assert str(path) in str(e.value)
    with pytest.raises(ValueError, match="more than the 28 of the labels"):
        OtherDataset.model_validate({**more, "scenes": {**scenes, "classes": 29}})


def test_the_start_of_fresh_layers_goes_by_the_trunk() -> None:
    starts = {trunk: Network(trunk=trunk).fresh_start for trunk in ("vgg16", "squeezenet1_1", "mobilenet_v2", "tiny")}
    assert starts == {"vgg16": "measured", "squeezenet1_1": "measured", "mobilenet_v2": "he", "tiny": "he"}
    assert Network(trunk="vgg16", fresh_start="he").fresh_start == "he"


def test_a_sheet_is_parsed_again_only_when_it_says_something_else(tmp_path: Path, project_root: Path) -> None:
    path = shutil.copy(project_root / "config" / "experiments.yaml", tmp_path)
    first = load_sheet(tmp_path)
    assert load_sheet(tmp_path) is first
    text = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(text.replace("table1", "table4"), encoding="utf-8")
    assert {row.table for row in first.experiments} - {row.table for row in load_sheet(tmp_path).experiments} == {
        "table1"
    }
