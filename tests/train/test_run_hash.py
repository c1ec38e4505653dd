"""The hash of a run changes with all that decides it and with nothing else; a changed file is an error."""

import os
import shutil

import numpy as np
import pytest
from fabricate import make_study, write_voc
from PIL import Image
from safetensors.torch import load_file, save_file

from train.runs import (
    ADAPT,
    BOX_EM,
    RECT,
    SEG,
    SEMI,
    STRONG,
    WEAK_IDS,
    network,
    noise,
    ready,
    run_hash,
    same,
    trained,
)
from weakseg.data.images import write_index_png
from weakseg.data.prepare import prepare_data
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.train.features import cache_features
from weakseg.train.loop import train_run

STRONG_ID = "2007_000001"


def paint(root, image_id):
    """Replace a photo by another of its size."""
    Image.fromarray(noise(7)[..., None].repeat(3, 2) * 60).save(root / "JPEGImages" / f"{image_id}.jpg")


def move_objects(root):
    """Let the objects of weak images stand elsewhere: the photos' labels stay, those of their crops do not."""
    for image_id in WEAK_IDS:
        path = root / "SegmentationClassAug" / f"{image_id}.png"
        labels = np.array(Image.open(path))
        shown = np.unique(labels)
        moved = np.zeros_like(labels)
        moved[0, : 2 * len(shown)] = shown.repeat(2)
        write_index_png(path, moved, VOC)


def edit_row(paths):
    header, *rows = paths.image_labels.read_text().splitlines()
    rows[-1] = rows[-1][:-1] + "1"  # the last label is shown too
    paths.image_labels.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def sections(own_voc, tmp_path):
    return {"network": network(tmp_path, frozen=False)}


def other_photos(root, tmp_path):
    shutil.rmtree(root)
    write_voc(root, seed=1)


FILES = {
    "photos of another seed": other_photos,
    "a strong photo": lambda root, tmp_path: paint(root, STRONG_ID),
    "a weak photo": lambda root, tmp_path: paint(root, WEAK_IDS[0]),
    "a strong mask": lambda root, tmp_path: write_index_png(
        root / "SegmentationClassAug" / f"{STRONG_ID}.png", noise(), VOC
    ),
    "weights": lambda root, tmp_path: shutil.copy(
        network(tmp_path, seed=1)["weights"]["path"], tmp_path / "trunk0.safetensors"
    ),
    "a list": lambda root, tmp_path: (root / "ImageSets/Segmentation/train_aug.txt").write_text(
        "".join(f"2007_{n:06d}\n" for n in range(7))
    ),
}
"""Changes of files, after which data and annotation are read again."""


@pytest.mark.parametrize("name", FILES)
def test_changed_files_are_another_run(own_voc, tmp_path, sections, name):
    study = make_study(own_voc, **sections)
    before = run_hash(study, SEMI, ready(study, tmp_path / "results", [SEMI]))
    FILES[name](own_voc, tmp_path)
    assert run_hash(study, SEMI, ready(study, tmp_path / "results", [SEMI])) != before


def test_labels_of_crops_decide_beside_those_of_photos(own_voc, tmp_path):
    study = make_study(own_voc)
    paths = ready(study, tmp_path / "results", [SEMI])
    before, tags, crops = run_hash(study, SEMI, paths), paths.image_labels.read_bytes(), paths.crop_labels.read_bytes()
    move_objects(own_voc)
    ready(study, tmp_path / "results", [SEMI])
    assert paths.image_labels.read_bytes() == tags and paths.crop_labels.read_bytes() != crops
    assert run_hash(study, SEMI, paths) != before


def test_a_changed_tag_is_another_run_where_tags_are_read(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI, ADAPT, STRONG, RECT])
    before = [run_hash(study, row, paths) for row in (SEMI, ADAPT, STRONG, RECT)]
    drawn = make_study(voc, sampling={"repeat_factor_threshold": 0.5})
    drawn_before = run_hash(drawn, STRONG, paths)
    edit_row(paths)
    after = [run_hash(study, row, paths) for row in (SEMI, ADAPT, STRONG, RECT)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, True]
    assert run_hash(drawn, STRONG, paths) != drawn_before  # tags draw its images


def test_another_folder_of_maps_is_another_run_where_it_is_read(voc, tmp_path):
    study = make_study(voc)
    hashes = []
    for alpha in (0.1, 0.9):
        paths = ready(study, tmp_path, [SEG], alpha=alpha)
        hashes.append([run_hash(study, row, paths) for row in (SEG, ADAPT, RECT, BOX_EM)])
    assert [a == b for a, b in zip(*hashes, strict=True)] == [False, True, True, True]


SETTINGS = {
    "labels": {"dataset": {"labels": ["aeroplane", "bicycle", "bird"]}},
    "constant": {"methods": {"em_fixed": {"fg_bias": 6.0}}},
    "constant of the run alone": {"methods_for": {"semi": {"em_fixed": {"bg_bias": 4.0}}}},
    "iterations": {"solver": {"iterations": 7}},
    "rate": {"solver_for": {"semi": {"lr": 0.02}}},
    "schedule": {"solver": {"schedule": "poly"}},
    "step": {"solver": {"step_iterations": 3}},
    "crop": {"network": {"crop_px": 25 + 16}},
    "dropout": {"network": {"dropout": 0.4}},
    "repeats": {"sampling": {"repeat_factor_threshold": 0.3}},
    "padding": {"sampling": {"valid_cells_only": True}},
}
"""What decides the semi-supervised run with EM-Fixed."""

UNREAD = {
    "constants of others": {"methods": {"em_adapt": {"fg_portion": 0.3}, "bbox_em_fixed": {"fg_bias": 8.0}}},
    "constants of other runs": {"methods_for": {"weak": {"em_fixed": {"bg_bias": 4.0}}}},
    "solver of other runs": {"solver_for": {"strong": {"lr": 0.02}}},
    "resume states": {"solver": {"checkpoint_iterations": 5}},
    "power": {"solver": {"poly_power": 0.5}},
    "quality_images": {"boxes": {"quality_images": 3}},
    "box_images": {"report": {"box_images": 2, "qualitative_images": 1}},
    "crf": {"crf": {"refine_rounds": 2}},
    "words": {"description": "Other words.", "dataset": {"name": "other"}},
    "further seeds": {"seeds": [0, 1, 2]},
    "defaults written out": {"solver": {"momentum": 0.9, "weight_decay": 5e-4}, "network": {"output_stride": 8}},
}
"""What does not."""

BASE = {
    "solver": {"iterations": 6, "batch": 4, "checkpoint_iterations": 2, "lr": 0.01},
    "network": {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True},
}


def changed_study(root, changes):
    base = {**BASE, "dataset": {"name": "rectangles", "source": "path", "path": str(root)}}
    merged = {k: {**base.get(k, {}), **v} if isinstance(v, dict) else v for k, v in changes.items()}
    return make_study(root, **{**base, **merged})


@pytest.fixture(scope="module")
def plain(voc, tmp_path_factory):
    results = tmp_path_factory.mktemp("hashes")
    study = changed_study(voc, {})
    return results, run_hash(study, SEMI, ready(study, results, [SEMI]))


@pytest.mark.parametrize("name", [*SETTINGS, *UNREAD])
def test_settings_that_decide_a_run_and_those_that_do_not(voc, tmp_path, plain, name):
    study = changed_study(voc, SETTINGS.get(name) or UNREAD[name])
    paths = ready(study, tmp_path, [SEMI])
    assert (run_hash(study, SEMI, paths) == plain[1]) == (name in UNREAD)


def test_steps_do_not_decide_under_poly_nor_padding_a_run_without_e_step(voc, tmp_path):
    one = changed_study(voc, {"solver": {"schedule": "poly"}})
    other = changed_study(voc, {"solver": {"schedule": "poly", "step_iterations": 3, "step_factor": 0.5}})
    padded = changed_study(voc, {"sampling": {"valid_cells_only": True}})
    paths = ready(one, tmp_path, [SEMI, STRONG])
    assert run_hash(one, SEMI, paths) == run_hash(other, SEMI, paths)
    assert run_hash(changed_study(voc, {}), STRONG, paths) == run_hash(padded, STRONG, paths)


def test_the_seed_is_part_of_the_hash(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI])
    assert run_hash(study, SEMI, paths) == run_hash(study, SEMI, paths) != run_hash(study, SEMI, paths, seed=1)


def test_the_mask_of_a_weak_image_is_no_part_of_it_even_if_it_is_read_again(own_voc, tmp_path):
    study = make_study(own_voc)
    paths = ready(study, tmp_path / "results", [SEMI, RECT])
    before = [run_hash(study, row, paths) for row in (SEMI, RECT)]
    write_index_png(own_voc / "SegmentationClassAug" / f"{WEAK_IDS[0]}.png", noise(), VOC)
    assert [run_hash(study, row, paths) for row in (SEMI, RECT)] == before
    prepare_data(study, paths)
    assert [run_hash(study, row, paths) for row in (SEMI, RECT)] == before


def test_a_run_is_not_resumed_into_one_that_something_else_decides(own_voc, tmp_path):
    """Stopped half-way, then a strong mask is replaced: it starts anew, on the new mask."""
    study = make_study(own_voc)
    paths = ready(study, tmp_path / "results", [SEMI])
    old = trained(study, SEMI, paths)
    shutil.rmtree(paths.run("semi", 0).root)
    train_run(study, SEMI, 0, paths, stop_after=3)
    write_index_png(own_voc / "SegmentationClassAug" / f"{STRONG_ID}.png", noise(), VOC)
    paths = ready(study, tmp_path / "results", [SEMI])
    train_run(study, SEMI, 0, paths)
    resumed = load_file(paths.run("semi", 0).model)
    assert not same(resumed, old) and same(resumed, trained(study, SEMI, paths))


@pytest.mark.parametrize("kind", ["JPEGImages", "SegmentationClassAug"])
def test_a_file_that_changed_since_it_was_read_is_named(own_voc, tmp_path, kind):
    study = make_study(own_voc)
    paths = ready(study, tmp_path / "results", [SEMI])
    path = next((own_voc / kind).glob(f"{STRONG_ID}.*"))
    content = path.read_bytes()
    os.utime(path, ns=(1, 1))  # a date alone is no change
    run_hash(study, SEMI, paths)
    if kind == "JPEGImages":
        paint(own_voc, STRONG_ID)
    else:
        write_index_png(path, noise(), VOC)
    with pytest.raises(WeaksegError, match=f"{path}: it was changed, .* since `weakseg data`"):
        run_hash(study, SEMI, paths)
    path.unlink()
    with pytest.raises(WeaksegError, match=f"{STRONG_ID}.*(changed|no such)"):
        run_hash(study, SEMI, paths)
    path.write_bytes(content)
    run_hash(study, SEMI, paths)


@pytest.mark.parametrize("what", ["output_stride", "weights", "photos"])
def test_a_feature_cache_of_something_else_is_refused(own_voc, tmp_path, what):
    study = make_study(own_voc, network=network(tmp_path))
    paths = ready(study, tmp_path / "results", [SEMI])
    run_hash(study, SEMI, paths)
    if what == "output_stride":
        study = make_study(own_voc, network=network(tmp_path, output_stride=16))
    elif what == "weights":
        study = make_study(own_voc, network=network(tmp_path, seed=1))
    else:
        paint(own_voc, STRONG_ID)
        prepare_data(study, paths)
    with pytest.raises(WeaksegError, match=rf"training\.safetensors: made with {what}.*run `weakseg features` again"):
        run_hash(study, STRONG, paths)
    cache_features(study, paths, "training")
    run_hash(study, STRONG, paths)


def test_torn_labels_of_crops_are_named(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI])
    save_file({}, paths.crop_labels)
    with pytest.raises(WeaksegError, match=r"crop_labels\.safetensors: not labels of crops"):
        run_hash(study, SEMI, paths)
