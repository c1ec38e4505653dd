"""Preparing a study's data: what the manifest says, and which folders are refused."""

import json

import numpy as np
import pytest
from fabricate import make_study, write_voc
from PIL import Image

from weakseg import decides
from weakseg.config import DATA_ROOT_VARIABLE, Scenes, load_sheet
from weakseg.data.contents import read_contents
from weakseg.data.dataset import open_data, read_manifest
from weakseg.data.images import write_index_png
from weakseg.data.prepare import prepare_data
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet
from weakseg.paths import StudyPaths
from weakseg.scenes.write import write_scenes


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


def prepared(root, tmp_path, **dataset):
    paths = StudyPaths("fabricated", tmp_path / "results")
    sections = {"name": "rectangles", "source": "path", "path": str(root), **dataset}
    prepare_data(make_study(root, dataset=sections), paths)
    return paths


def write_mask(folder, image_id, values):
    write_index_png(folder.mask_path(image_id), values, VOC)


def test_the_manifest(root, tmp_path):
    paths = prepared(root, tmp_path)
    manifest = read_manifest(paths.manifest)
    assert manifest["name"] == "rectangles" and manifest["counts"] == {
        "pixel_labelled": 4,
        "training": 8,
        "evaluation": 4,
        "held_out": 1,
    }
    folder = open_data(paths.manifest)
    assert folder.root == root and folder.labels == VOC
    for role, name in (("pixel_labelled", "train"), ("training", "train_aug"), ("evaluation", "val")):
        assert folder.ids(role) == folder.read_list(name)
    assert set(folder.ids("held_out")) < set(folder.ids("evaluation"))
    counted = dict.fromkeys(VOC.names, 0)
    for image_id in folder.ids("training"):
        for label in set(np.unique(folder.pixel_labels(image_id)).tolist()) - {255}:
            counted[VOC.names[label]] += 1
    assert manifest["class_images"] == counted and manifest["pixel_labelled_training"] == 8
    facts = read_contents(paths.contents).facts
    assert set(facts) >= {f"{kind}/{i}" for kind in ("photo", "mask") for i in folder.ids("evaluation")}
    assert {name for name in facts if "/" not in name} == {"list train", "list train_aug", "list val"}


def test_a_list_of_held_out_images_is_taken_as_it_is(root, tmp_path):
    chosen = VocFolder(root).read_list("val")[1:3]
    VocFolder(root).list_path("crf_val").write_text("\n".join(chosen[::-1]))
    assert open_data(prepared(root, tmp_path).manifest).ids("held_out") == chosen[::-1]


def test_the_manifest_follows_the_lists_not_their_place(root, tmp_path):
    first = read_manifest(prepared(root, tmp_path / "a").manifest)
    other = write_voc(tmp_path / "other")
    assert read_manifest(prepared(other, tmp_path / "b").manifest)["list_sha256"] == first["list_sha256"]
    path = VocFolder(other).list_path("train")
    path.write_text("\n".join(VocFolder(other).read_list("train")[:-1]))
    changed = read_manifest(prepared(other, tmp_path / "c").manifest)["list_sha256"]
    assert {name for name in changed if changed[name] != first["list_sha256"][name]} == {"pixel_labelled"}


def test_lists_by_other_names(root, tmp_path):
    folder = VocFolder(root)
    folder.list_path("train_aug").rename(folder.list_path("mine"))
    folder.list_path("val").rename(folder.list_path("test"))
    data = open_data(prepared(root, tmp_path, lists={"training": "mine", "evaluation": "test"}).manifest)
    assert data.ids("training") == folder.read_list("mine") and data.ids("evaluation") == folder.read_list("test")


@pytest.mark.parametrize(("gone", "missing"), [(["val"], "val"), (["train", "train_aug"], "train_aug")])
def test_a_missing_list_says_how_to_make_it(root, tmp_path, gone, missing):
    for name in gone:
        VocFolder(root).list_path(name).unlink()
    with pytest.raises(WeaksegError, match=rf"{missing}\.txt: no such list.*write one image id a line"):
        prepared(root, tmp_path)


def test_lists_that_may_be_missing(root, tmp_path):
    """Without train no image has pixel labels first of all; without train_aug those of train are all there are."""
    folder = VocFolder(root)
    train, train_aug = folder.read_list("train"), folder.read_list("train_aug")
    folder.list_path("train").unlink()
    data = open_data(prepared(root, tmp_path / "a").manifest)
    assert (data.ids("pixel_labelled"), data.ids("training")) == ([], train_aug)
    folder.list_path("train_aug").unlink()
    folder.list_path("train").write_text("\n".join(train))
    data = open_data(prepared(root, tmp_path / "b").manifest)
    assert (data.ids("pixel_labelled"), data.ids("training")) == (train, train)


def move(root, source, target):
    """Let the first image of a list stand in another one too."""
    folder = VocFolder(root)
    image_id = folder.read_list(source)[0]
    folder.list_path(target).write_text("\n".join([*(folder.read_list(target) or []), image_id]))
    return image_id


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("val", "train_aug", r"val\.txt: 1 images are also in train_aug"),
        ("val", "train", r"train\.txt: 1 images are not in train_aug"),
        ("train", "crf_val", r"crf_val\.txt: 1 images are not in val"),
    ],
)
def test_lists_that_contradict_each_other(root, tmp_path, source, target, message):
    image_id = move(root, source, target)
    with pytest.raises(WeaksegError, match=f"{message}, {image_id} the first"):
        prepared(root, tmp_path)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def colours_as_mask(path):
    with Image.open(path) as picture:
        picture.convert("RGB").save(path)


def full(label, size=(40, 52)):
    return lambda image, mask: write_index_png(mask, np.full(size, label), VOC)


FAULTS = {
    "photo missing": (lambda image, mask: image.unlink(), "jpg", "no such photo"),
    "photo truncated": (lambda image, mask: truncate(image), "jpg", "truncated"),
    "photo is text": (lambda image, mask: image.write_text("not a photo"), "jpg", "not a readable image"),
    "photo is empty": (lambda image, mask: image.write_bytes(b""), "jpg", "not a readable image"),
    "mask truncated": (lambda image, mask: truncate(mask), "png", "not a readable image"),
    "mask in colours": (lambda image, mask: colours_as_mask(mask), "png", "RGB"),
    "mask of another size": (full(0, (39, 52)), "png", "52x39.*52x40"),
    "mask turned": (full(0, (52, 40)), "png", "40x52.*52x40"),
    "label 21": (full(21), "png", "label 21"),
    "label 254": (full(254), "png", "label 254"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_faulty_file_is_named_and_no_manifest_is_left(root, tmp_path, fault):
    spoil, suffix, message = FAULTS[fault]
    folder = VocFolder(root)
    image_id = folder.read_list("train_aug")[6]
    spoil(folder.image_path(image_id), folder.mask_path(image_id))
    with pytest.raises(WeaksegError, match=rf"1 faulty image\(s\):\n.*{image_id}\.{suffix}.*{message}"):
        prepared(root, tmp_path)
    assert not StudyPaths("fabricated", tmp_path / "results").manifest.exists()


def test_all_faults_are_counted_and_the_first_ones_named(root, tmp_path):
    folder = VocFolder(root)
    for image_id in [*folder.read_list("train_aug")[:4], *folder.read_list("val")[:3]]:
        folder.image_path(image_id).unlink()
    with pytest.raises(WeaksegError) as caught:
        prepared(root, tmp_path)
    assert "7 faulty" in str(caught.value) and str(caught.value).count("\n") == 5


def test_training_images_need_no_masks_and_evaluated_ones_do(root, tmp_path):
    folder = VocFolder(root)
    training, val = folder.read_list("train_aug"), folder.read_list("val")
    for image_id in training[2:]:
        folder.mask_path(image_id).unlink()
    manifest = read_manifest(prepared(root, tmp_path).manifest)
    assert manifest["pixel_labelled_training"] == 2 and manifest["counts"]["training"] == 8
    for image_id in training[:2]:
        folder.mask_path(image_id).unlink()
    manifest = read_manifest(prepared(root, tmp_path).manifest)
    assert manifest["pixel_labelled_training"] == 0 and set(manifest["class_images"].values()) == {0}
    folder.mask_path(val[1]).unlink()
    with pytest.raises(WeaksegError, match=rf"1 faulty image\(s\):\n.*{val[1]}\.png: no such mask"):
        prepared(root, tmp_path)


def test_masks_in_which_nothing_can_be_learned(root, tmp_path, capsys):
    folder = VocFolder(root)
    for image_id in folder.read_list("train_aug"):
        values = np.zeros((40, 52), np.uint8)
        values[10:30, 10:30] = 255
        write_mask(folder, image_id, values)
    with pytest.raises(WeaksegError, match=r"no class but the background occurs in the 8 masks.*255 for void"):
        prepared(root, tmp_path)
    one, void = folder.read_list("train_aug")[5], folder.read_list("train_aug")[2]
    write_mask(folder, one, np.full((40, 52), 7))
    write_mask(folder, void, np.full((40, 52), 255))
    prepared(root, tmp_path)
    assert f"1 of 12 masks are void everywhere and say nothing, {void} the first" in capsys.readouterr().out


def test_nothing_is_written_into_the_users_folder(root, tmp_path):
    before = sorted(root.rglob("*"))
    prepared(root, tmp_path)
    assert sorted(root.rglob("*")) == before


def test_labels_and_tags_of_ones_own(tmp_path):
    own = LabelSet.of_classes("own", ["cat", "lawn mower", "dog"], {"dog": "#102030"})
    root = write_voc(tmp_path / "voc", labels=own)
    tags = tmp_path / "tags.csv"
    tags.write_text("image,labels\n2007_000001,Lawn Mower\n")
    classes = ["cat", "lawn mower", {"name": "dog", "colour": "#102030"}]
    dataset = {"labels": classes, "image_labels": "{data_root}/tags.csv"}
    sections = {"name": "garden", "source": "path", "path": "{data_root}/voc", **dataset}
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(make_study(root, dataset=sections), paths, tmp_path)
    data = open_data(paths.manifest)
    assert data.labels == own and set(read_manifest(paths.manifest)["class_images"]) == set(own.names)
    assert data.tag_file == tags and data.tags("2007_000001").tolist() == [True, False, True, False]
    assert "tags" in read_contents(paths.contents).facts
    write_index_png(data.mask_path(data.ids("training")[0]), np.full((40, 52), 4), own)
    with pytest.raises(WeaksegError, match=r"label 4 is out of range; 0\.\.3"):
        prepare_data(make_study(root, dataset=sections), paths, tmp_path)


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
    sizes = {"train": 2, "train_aug": 4, "val": 3, "crf_val": 2, "pretrain_per_class": 1, "classes": 3}
    study = make_study(tmp_path, dataset={"name": "scenes", "source": "scenes", "scenes": sizes})
    paths = StudyPaths("fabricated", tmp_path / "results")
    with pytest.raises(WeaksegError, match=r"images.voc: no such folder; run `weakseg scenes` first"):
        prepare_data(study, paths)
    write_scenes(paths.images, Scenes(**sizes))
    prepare_data(study, paths)
    manifest = read_manifest(paths.manifest)
    assert manifest["counts"] == {"pixel_labelled": 2, "training": 4, "evaluation": 3, "held_out": 2}
    assert manifest["source"] == "generated, seed 0"
    assert manifest["lists"]["held_out"] == ["val_000000", "val_000001"]
    assert all(manifest["class_images"][name] == 0 for name in VOC.names[4:])


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"root": "x"})])
def test_files_that_are_no_manifest(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    for read in (read_manifest, open_data):
        with pytest.raises(WeaksegError, match=r"manifest\.json: not a manifest"):
            read(path)


@pytest.mark.parametrize(
    "change", [{"reader": "none"}, {"labels": {"name": "x"}}, {"lists": {}}], ids=lambda change: next(iter(change))
)
def test_manifests_of_another_kind(root, tmp_path, change):
    path = prepared(root, tmp_path).manifest
    path.write_text(json.dumps(read_manifest(path) | change))
    with pytest.raises(WeaksegError, match=r"manifest\.json: not a manifest .*run `weakseg data`"):
        read_manifest(path)


def test_no_manifest(tmp_path):
    for read in (read_manifest, open_data):
        with pytest.raises(WeaksegError, match="run `weakseg data` first"):
            read(tmp_path / "manifest.json")


def test_a_manifest_that_was_made_anew_is_opened_anew(root, tmp_path):
    first = open_data(prepared(root, tmp_path).manifest)
    path = VocFolder(root).list_path("train_aug")
    path.write_text("\n".join(first.read_list("train_aug")[:-1]))
    manifest = prepared(root, tmp_path).manifest
    assert len(open_data(manifest).ids("training")) == 7 and open_data(manifest) is open_data(manifest)


def test_the_real_photos(shared_root, tmp_path):
    """Counts of the data set's own description."""
    paths = prepared(shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012", tmp_path)
    manifest = read_manifest(paths.manifest)
    assert manifest["counts"] == {"pixel_labelled": 664, "training": 1934, "evaluation": 553, "held_out": 50}
    by_class = [24, 25, 38, 22, 70, 21, 91, 403, 140, 262, 43, 406, 339, 28, 521, 72, 299, 107, 21, 63]
    assert [manifest["class_images"][name] for name in VOC.classes] == by_class
    data = open_data(paths.manifest)
    by_class = np.sum([VOC.present(data.pixel_labels(image_id)) for image_id in data.ids("evaluation")], axis=0)
    assert by_class[1:].tolist() == [17, 15, 14, 16, 19, 18, 35, 92, 41, 59, 22, 96, 62, 17, 160, 29, 47, 31, 19, 20]


def test_test_photos_come_from_a_folder_of_their_own_and_may_be_missing(tmp_path, capsys):
    root = write_voc(tmp_path / "voc")
    dataset = {"name": "v", "source": "path", "path": str(root), "lists": {"test": "test"}}
    study = make_study(root, dataset={**dataset, "test_photos": str(tmp_path / "test")})
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study, paths)
    assert json.loads(paths.manifest.read_text())["lists"]["test"] == []
    assert "test: not there, so runs of the test stage cannot be made" in capsys.readouterr().out
    before = decides.data(study, load_sheet().lists, paths)

    other = write_voc(tmp_path / "test", train_aug=1, val=1, seed=3)
    photos = [
        path.rename(path.with_name(f"2009_{n:06d}.jpg"))
        for n, path in enumerate(sorted((other / "JPEGImages").iterdir()))
    ]
    (other / "ImageSets" / "Segmentation" / "test.txt").write_text("".join(f"{path.stem}\n" for path in photos))
    assert decides.data(study, load_sheet().lists, paths) != before
    prepare_data(study, paths)
    data = open_data(paths.manifest)
    assert data.ids("test") == [path.stem for path in photos] and data.size(photos[0].stem) == (40, 52)
    assert not data.has_pixel_labels(photos[0].stem)


@pytest.mark.parametrize(
    ("test", "said"),
    [([], "no such list, or an empty one"), (["2007_000009"], "1 images are trained on as well, 2007_000009")],
)
def test_test_lists_that_cannot_be_used(tmp_path, test, said):
    root = write_voc(tmp_path / "voc")
    if test:
        (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(test))
    dataset = {"name": "v", "source": "path", "path": str(root), "lists": {"test": "test"}}
    with pytest.raises(WeaksegError, match=said):
        prepare_data(make_study(root, dataset=dataset), StudyPaths("fabricated", tmp_path / "results"))
