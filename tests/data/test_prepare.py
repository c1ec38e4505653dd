"""Preparing a study's data: what the manifest says, and which folders are refused."""

import json

import numpy as np
import pytest
from fabricate import make_study, write_voc

from weakseg.config import DATA_ROOT_VARIABLE
from weakseg.data.prepare import held_out, open_data, prepare_data, read_manifest
from weakseg.data.voc import VocFolder, write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import CLASSES
from weakseg.paths import StudyPaths


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


def prepared(root, tmp_path):
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(make_study(root), paths)
    return paths


def test_the_manifest(root, tmp_path):
    paths = prepared(root, tmp_path)
    manifest = read_manifest(paths.manifest)
    assert manifest["name"] == "rectangles" and manifest["counts"] == {
        "train": 4,
        "train_aug": 8,
        "val": 4,
        "crf_val": 1,
    }
    folder = open_data(paths.manifest)
    assert folder.root == root
    counted = {name: 0 for name in CLASSES}
    for image_id in folder.ids("train_aug"):
        for label in set(np.unique(folder.labels(image_id)).tolist()) - {255}:
            counted[CLASSES[label]] += 1
    assert manifest["class_images"] == counted
    assert held_out(paths.manifest) == manifest["crf_val"] and set(manifest["crf_val"]) < set(folder.ids("val"))


def test_a_list_of_held_out_images_is_taken_as_it_is(root, tmp_path):
    chosen = VocFolder(root).ids("val")[1:3]
    VocFolder(root).list_path("crf_val").write_text("\n".join(chosen[::-1]))
    assert held_out(prepared(root, tmp_path).manifest) == chosen


def test_the_manifest_follows_the_lists_not_their_place(root, tmp_path):
    first = read_manifest(prepared(root, tmp_path / "a").manifest)
    other = write_voc(tmp_path / "other")
    assert read_manifest(prepared(other, tmp_path / "b").manifest)["list_sha256"] == first["list_sha256"]
    path = VocFolder(other).list_path("val")
    path.write_text("\n".join(VocFolder(other).ids("val")[:-1]))
    changed = read_manifest(prepared(other, tmp_path / "c").manifest)["list_sha256"]
    assert {name for name in changed if changed[name] != first["list_sha256"][name]} == {"val"}


@pytest.mark.parametrize("name", ["train", "train_aug", "val"])
def test_a_missing_list_says_how_to_make_it(root, tmp_path, name):
    VocFolder(root).list_path(name).unlink()
    with pytest.raises(WeaksegError, match=rf"{name}\.txt: no such list.*write one image id a line"):
        prepared(root, tmp_path)


def move(root, source, target):
    """Let the first image of a list stand in another one too."""
    folder = VocFolder(root)
    image_id = folder.ids(source)[0]
    ids = folder.ids(target) if folder.has_list(target) else []
    folder.list_path(target).write_text("\n".join([*ids, image_id]))
    return image_id


def test_val_images_in_train_aug_are_refused(root, tmp_path):
    image_id = move(root, "val", "train_aug")
    with pytest.raises(WeaksegError, match=rf"val\.txt: 1 images are also in train_aug, {image_id}"):
        prepared(root, tmp_path)


def test_train_outside_train_aug_is_refused(root, tmp_path):
    image_id = move(root, "val", "train")
    with pytest.raises(WeaksegError, match=rf"train\.txt: 1 images are not in train_aug, {image_id}"):
        prepared(root, tmp_path)


def test_held_out_images_outside_val_are_refused(root, tmp_path):
    image_id = move(root, "train", "crf_val")
    with pytest.raises(WeaksegError, match=rf"crf_val\.txt: image {image_id} is not in val"):
        prepared(root, tmp_path)


def test_a_faulty_image_leaves_no_manifest(root, tmp_path):
    folder = VocFolder(root)
    image_id = folder.ids("val")[-1]
    write_index_png(folder.mask_path(image_id), np.full((40, 52), 99))
    with pytest.raises(WeaksegError, match=f"{image_id}.*label 99"):
        prepared(root, tmp_path)
    assert not StudyPaths("fabricated", tmp_path / "results").manifest.exists()


def test_nothing_is_written_into_the_users_folder(root, tmp_path):
    before = sorted(root.rglob("*"))
    prepared(root, tmp_path)
    assert sorted(root.rglob("*")) == before


def test_the_data_root_is_put_in(root, tmp_path, monkeypatch):
    study = make_study("{data_root}/voc")
    paths = StudyPaths("fabricated", tmp_path / "results")
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    with pytest.raises(WeaksegError, match=DATA_ROOT_VARIABLE):
        prepare_data(study, paths)
    prepare_data(study, paths, tmp_path)
    assert open_data(paths.manifest).root == root
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(WeaksegError, match="nowhere/voc: no such folder"):
        prepare_data(study, paths)


def test_generated_scenes(tmp_path):
    scenes = {"train": 2, "train_aug": 4, "val": 3, "crf_val": 2, "pretrain_per_class": 1, "classes": 3}
    study = make_study(tmp_path, dataset={"name": "scenes", "source": "scenes", "scenes": scenes})
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study, paths)
    manifest = read_manifest(paths.manifest)
    assert manifest["counts"] == {"train": 2, "train_aug": 4, "val": 3, "crf_val": 2}
    assert manifest["source"] == "generated, seed 0" and manifest["crf_val"] == ["val_000000", "val_000001"]
    assert all(manifest["class_images"][name] == 0 for name in CLASSES[4:])


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"root": "x"})])
def test_files_that_are_no_manifest(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(WeaksegError, match=r"manifest\.json: not a manifest"):
        read_manifest(path)


def test_no_manifest(tmp_path):
    with pytest.raises(WeaksegError, match="run `weakseg data` first"):
        read_manifest(tmp_path / "manifest.json")


def test_the_real_photos(shared_root, tmp_path):
    """Counts of the data set's own description."""
    path = str(shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012")
    paths = StudyPaths("fabricated", tmp_path)
    prepare_data(make_study(path), paths)
    manifest = read_manifest(paths.manifest)
    assert manifest["counts"] == {"train": 664, "train_aug": 1934, "val": 553, "crf_val": 50}
    by_class = [24, 25, 38, 22, 70, 21, 91, 403, 140, 262, 43, 406, 339, 28, 521, 72, 299, 107, 21, 63]
    assert [manifest["class_images"][name] for name in CLASSES[1:]] == by_class
