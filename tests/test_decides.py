"""What decides each kind of file: what changes it, what does not, and the state of a user's folder."""

import os
from pathlib import Path

import pytest
import yaml
from fabricate import make_experiment, make_study, write_voc, write_voc_boxes
from PIL import Image

from weakseg import decides
from weakseg.config import load_sheet, load_study, study_experiments
from weakseg.data.prepare import prepare_data
from weakseg.files import sha256_json
from weakseg.paths import StudyPaths

PAPER = load_sheet().lists
SEMI = make_experiment("semi", strong=1464, weak=9118, method="em_fixed")
BOX_EM = make_experiment("box_em", weak=10582, method="bbox_em_fixed", table="table3")
FIRST = "2007_000000"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc_boxes(write_voc(tmp_path / "VOC2012"))


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths("fabricated", tmp_path / "results")


def state(root: Path, paths: StudyPaths, **dataset) -> str:
    dataset = {"name": "rectangles", "source": "path", "path": str(root), **dataset}
    return sha256_json(decides.data(make_study(root, dataset=dataset), PAPER, paths))


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def files_of(root: Path) -> list[Path]:
    lists = root / "ImageSets" / "Segmentation"
    return [
        root / "JPEGImages" / f"{FIRST}.jpg",
        root / "SegmentationClassAug" / f"{FIRST}.png",
        root / "Annotations" / f"{FIRST}.xml",
        lists / "val.txt",
        lists / "train.txt",
    ]


def test_the_state_of_a_folder_is_the_same_before_and_after_it_is_read(root, paths):
    """A first plan knows no contents; what it recorded must still hold when they are known."""
    planned = state(root, paths)
    prepare_data(make_study(root), paths)
    assert state(root, paths) == planned
    prepare_data(make_study(root), paths)
    assert state(root, paths) == planned


def test_another_date_of_the_same_content_changes_nothing(root, paths):
    planned = state(root, paths)
    prepare_data(make_study(root), paths)
    for path in files_of(root):
        touch(path)
    assert state(root, paths) == planned


@pytest.mark.parametrize("index", range(5))
def test_another_content_changes_the_state(root, paths, index):
    prepare_data(make_study(root), paths)
    planned, path = state(root, paths), files_of(root)[index]
    if path.suffix == ".txt":
        path.write_text("\n".join(path.read_text().split()[:-1]) + "\n")
    elif path.suffix == ".xml":
        path.write_text(path.read_text().replace("<xmin>1<", "<xmin>2<"))
    else:
        with Image.open(path) as picture:
            turned = picture.transpose(Image.Transpose.ROTATE_180)
        turned.save(path)
    assert state(root, paths) != planned


def test_a_file_removed_or_added_changes_the_state(root, paths):
    prepare_data(make_study(root), paths)
    planned = state(root, paths)
    photo = root / "JPEGImages" / f"{FIRST}.jpg"
    content, status = photo.read_bytes(), photo.stat()
    photo.unlink()
    assert state(root, paths) != planned
    photo.write_bytes(content)
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert state(root, paths) == planned
    (root / "image_labels.csv").write_text(f"image,labels\n{FIRST},dog\n")
    assert state(root, paths) != planned
    (root / "image_labels.csv").unlink()
    (root / "notes.txt").write_text("files that nothing reads do not count")
    assert state(root, paths) == planned


def test_another_folder_with_the_same_files_is_another_state(root, paths, tmp_path):
    prepare_data(make_study(root), paths)
    planned = state(root, paths)
    moved = root.rename(tmp_path / "elsewhere")
    assert state(moved, paths) != planned
    assert state(root, paths) != planned  # it is not there any more


def test_a_data_root_that_is_not_given_again_is_the_one_that_was_used(root, tmp_path, monkeypatch):
    monkeypatch.delenv("WEAKSEG_DATA_ROOT", raising=False)
    study = make_study(root, dataset={"name": "rectangles", "source": "path", "path": "{data_root}/VOC2012"})
    paths = StudyPaths(study.name, tmp_path / "results")
    assert decides.data(study, PAPER, paths)[-1] is None  # nothing is known of the folder yet
    planned = decides.data(study, PAPER, paths, tmp_path)
    prepare_data(study, paths, tmp_path)
    assert decides.data(study, PAPER, paths, tmp_path) == planned == decides.data(study, PAPER, paths)
    other = tmp_path / "other"
    other.mkdir()
    root.rename(other / "VOC2012")
    assert decides.data(study, PAPER, paths, other) != planned


def test_lists_labels_and_sizes_of_scenes_decide_the_data(root, paths):
    planned = state(root, paths)
    assert state(root, paths, labels=["aeroplane", "bicycle", "bird"]) != planned
    assert state(root, paths, lists={"pixel_labelled": "val"}) != planned
    scenes = {"height_px": 48, "width_px": 64, "train": 2, "train_aug": 4, "val": 2, "crf_val": 1}
    generated = [
        sha256_json(
            decides.data(
                make_study(root, dataset={"name": "s", "source": "scenes", "scenes": {**scenes, "seed": seed}}),
                PAPER,
                paths,
            )
        )
        for seed in (0, 0, 1)
    ]
    assert generated[0] == generated[1] != generated[2]


def test_a_study_in_other_words_decides_the_same(tmp_path):
    """Order of keys, comments, defaults written out and the description are no part of any result."""
    study = {
        "name": "mine",
        "description": "One.",
        "dataset": {"name": "mine", "source": "path", "path": str(tmp_path)},
        "network": {"trunk": "tiny"},
        "solver": {"lr": 0.001, "iterations": 100},
    }
    other = {
        "solver": {"iterations": 100, "lr": 0.001, "momentum": 0.9},
        "network": {"output_stride": 8, "trunk": "tiny", "dropout": 0.5},
        "methods": {"em_fixed": {"fg_bias": 5, "bg_bias": 3}},
        "dataset": {"path": str(tmp_path), "source": "path", "name": "mine", "labels": "voc"},
        "description": "Two.",
        "name": "mine",
    }
    loaded = []
    for number, content in enumerate((study, other)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"# {number}\n" + yaml.safe_dump(content, sort_keys=False))
        loaded.append(load_study(path))
    paths = StudyPaths("mine", tmp_path / "results")
    for row in study_experiments(loaded[0]):
        assert decides.training(loaded[0], row, PAPER) == decides.training(loaded[1], row, PAPER)
        assert decides.estep_maps(loaded[0], row) == decides.estep_maps(loaded[1], row)
    for what in (decides.scenes, decides.annotation, decides.features, decides.label_quality, decides.crf_search):
        assert what(loaded[0]) == what(loaded[1])
    assert decides.bbox_seg_search(loaded[0]) == decides.bbox_seg_search(loaded[1])
    assert decides.data(loaded[0], PAPER, paths) == decides.data(loaded[1], PAPER, paths)


CHANGES = {
    "em_fixed": {"methods": {"em_fixed": {"fg_bias": 6.0}}},
    "bbox_em_fixed": {"methods": {"bbox_em_fixed": {"fg_bias": 7.0}}},
    "quality_images": {"boxes": {"quality_images": 3}},
    "alphas": {"boxes": {"quality_images": 5, "alphas": [0.3]}},
    "box_images": {"report": {"box_images": 2}},
    "qualitative_images": {"report": {"qualitative_images": 2}},
    "crf": {"crf": {"refine_rounds": 2}},
    "lr": {"solver": {"lr": 0.5}},
    "checkpoints": {"solver": {"checkpoint_iterations": 7}},
    "crop_px": {"network": {"trunk": "tiny", "crop_px": 41}},
    "image_scale": {"network": {"trunk": "tiny", "crop_px": 33, "image_scale": 0.5}},
    "head": {"network": {"trunk": "tiny", "crop_px": 33, "head_channels": 4}},
    "no boxes": {"boxes": None},
    "precision": {"compute": {"precision": "bf16"}},
    "photos": {"compute": {"photos": "host"}},
    "crf's device": {"compute": {"crf": "device"}},
    "precision of the reference": {"compute": {"precision": "fp32"}},
    "start": {"network": {"trunk": "tiny", "crop_px": 33, "fresh_start": "measured"}},
    "test_px": {"network": {"trunk": "tiny", "crop_px": 33, "test_px": 65}},
    "batch of the other field of view": {"solver": {"batch_for_fov": {"small": 7}}},
    "batch of its field of view": {"solver": {"batch_for_fov": {"large": 7}}},
    "same batch": {"solver": {"batch": 7, "batch_for_fov": {"large": 30}}},
    "finer grids": {"crf": {"finer": [{"w": 1}]}},
    "finer grids of boxes": {"boxes": {"quality_images": 5, "search": {"finer": [{"w": 1}]}}},
}
DECIDED = {
    "em_fixed": {"semi"},
    "bbox_em_fixed": {"box_em", "maps"},
    "quality_images": {"maps", "quality"},
    "alphas": {"seg"},
    "box_images": {"maps"},
    "qualitative_images": set(),
    "crf": {"crf"},
    "lr": {"semi", "box_em"},
    "checkpoints": set(),
    "crop_px": {"semi", "box_em", "annotation"},
    "image_scale": {"semi", "box_em", "annotation", "features", "quality"},
    "head": {"semi", "box_em"},
    "no boxes": {"seg", "annotation", "maps", "quality"},
    "precision": {"semi", "box_em"},
    "photos": set(),
    "crf's device": {"crf"},
    "precision of the reference": set(),
    "start": {"semi", "box_em"},
    "test_px": {"scores"},
    "batch of the other field of view": set(),
    "batch of its field of view": {"semi", "box_em"},
    "same batch": set(),
    "finer grids": {"crf"},
    "finer grids of boxes": {"seg"},
}
"""Which results each change makes stale."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_stale_what_it_decides_and_nothing_else(tmp_path, name):
    def decided(study):
        return {
            "semi": decides.training(study, SEMI, PAPER),
            "box_em": decides.training(study, BOX_EM, PAPER),
            "maps": decides.estep_maps(study, BOX_EM),
            "annotation": decides.annotation(study),
            "features": decides.features(study),
            "seg": decides.bbox_seg_search(study),
            "quality": decides.label_quality(study),
            "crf": decides.crf_search(study),
            "scores": decides.scoring(study),
            "scenes": decides.scenes(study),
        }

    base = {"solver": {}, "crf": {}, "network": {"trunk": "tiny", "crop_px": 33}, "boxes": {"quality_images": 5}}
    before = decided(make_study(tmp_path, **base))
    after = decided(make_study(tmp_path, **{**base, **CHANGES[name]}))
    assert {what for what in before if before[what] != after[what]} == DECIDED[name]


def test_fields_that_came_later_leave_the_hashes_of_before_as_they_were(tmp_path):
    study = make_study(tmp_path, compute={"precision": "fp32", "photos": "device"})
    assert not {"compute", "precision"} & decides.training(study, SEMI, PAPER).keys()
    assert decides.crf_search(study) == study.crf.model_dump(mode="json", exclude={"finer"})
    other = make_study(tmp_path, compute={"precision": "tf32", "crf": "device"})
    assert decides.training(other, SEMI, PAPER)["precision"] == "tf32"
    assert decides.crf_search(other)["crf"] == "device"


def test_archives_count_by_checksum_for_studies_that_download_them():
    study, other = load_study("voc"), load_study("demo")
    paths = StudyPaths("voc", Path("nowhere"))

    def value(which, **changes):
        row = {"checksum": "md5:1", "expected": {"train": 2}, "addresses": ["https://a"], **changes}
        return decides.data(which, PAPER, paths, archives={"voc2012": row})

    assert value(study, addresses=["https://b"]) == value(study)
    assert value(study, checksum="md5:2") != value(study)
    assert value(other, checksum="md5:2") == value(other)


def test_the_paper_s_lists_decide_where_counts_are_shares_of_them(root: Path) -> None:
    other = PAPER.model_copy(update={"pixel_labelled": 1000})
    for counts, same in (("paper", False), ("images", True)):
        study = make_study(root, counts=counts)
        assert (decides.training(study, SEMI, PAPER) == decides.training(study, SEMI, other)) == same


def test_weights_are_known_by_their_content(root: Path) -> None:
    def study(path: str, sha256: str):
        weights = {"path": path, "sha256": sha256}
        return make_study(root, network={"trunk": "tiny", "crop_px": 33, "weights": weights})

    for part in (decides.features, lambda s: decides.training(s, SEMI, PAPER)):
        assert part(study("a", "0" * 64)) == part(study("b", "0" * 64)) != part(study("a", "1" * 64))


@pytest.mark.parametrize("name", ["demo", "voc-subset"])
def test_fields_that_came_later_are_no_part_of_runs_that_are_what_they_were(name):
    study = load_study(name)
    for row in study_experiments(study):
        decided = decides.training(study, row, load_sheet().lists)
        assert {"fresh_start", "test_px"}.isdisjoint(decided["network"]) and "batch_for_fov" not in decided["solver"]
    assert "finer" not in decides.crf_search(study) and "finer" not in decides.bbox_seg_search(study)["search"]
