"""Reading the VOC layout: what is right comes back, what is wrong is named by its file."""

import numpy as np
import pytest
from fabricate import write_voc
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from weakseg.data.voc import VocFolder, read_index_png, write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import CLASSES, palette


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


LABELS = st.sampled_from([*range(21), 255])


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=LABELS))
def test_masks_come_back_bit_by_bit(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    write_index_png(path, labels)
    assert np.array_equal(read_index_png(path), labels)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture.convert("RGB")), palette()[labels])


def test_colours_are_those_of_voc():
    known = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "cat": (64, 0, 0), "person": (192, 128, 128)}
    known |= {"tvmonitor": (0, 64, 128), "sheep": (128, 64, 0)}
    for name, colour in known.items():
        assert tuple(palette()[CLASSES.index(name)]) == colour
    assert tuple(palette()[255]) == (224, 224, 192)


def test_photo_labels_and_size_agree(root):
    folder = VocFolder(root)
    for image_id in folder.ids("train_aug"):
        image, labels = folder.image(image_id), folder.labels(image_id)
        assert image.dtype == labels.dtype == np.uint8
        assert image.shape == (*labels.shape, 3) and folder.size(image_id) == labels.shape


def test_images_are_rgb(root):
    image_id = VocFolder(root).ids("val")[0]
    flat = np.broadcast_to(np.array([200, 30, 60], np.uint8), (40, 52, 3))
    Image.fromarray(flat).save(VocFolder(root).image_path(image_id), quality=95)
    assert np.abs(VocFolder(root).image(image_id).mean((0, 1)) - [200, 30, 60]).max() < 4


def test_instances_where_the_folder_has_them(root):
    folder = VocFolder(root)
    image_id = folder.ids("train")[0]
    assert folder.instances(image_id) is None
    instances = np.array([[0, 1], [77, 255]], np.uint8)  # instance numbers are not labels: 77 is allowed
    write_index_png(root / "SegmentationObject" / f"{image_id}.png", instances)
    assert np.array_equal(folder.instances(image_id), instances)


def test_masks_of_segmentation_class_where_there_are_no_augmented_ones(root):
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    assert VocFolder(root).labels(VocFolder(root).ids("val")[0]).shape == (40, 52)


def test_check_returns_the_labels_present(root):
    folder = VocFolder(root)
    present = folder.check(["train", "val"])
    assert set(present) == {*folder.ids("train"), *folder.ids("val")}
    for image_id, flags in present.items():
        assert set(np.flatnonzero(flags)) == set(np.unique(folder.labels(image_id)).tolist()) - {255}


@pytest.mark.parametrize("missing", ["JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"])
def test_a_missing_folder_is_named(root, missing, tmp_path):
    (root / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(WeaksegError, match=missing):
        VocFolder(root)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(WeaksegError, match="nowhere"):
        VocFolder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("2007_000000\n2007_000001\n2007_000000\n", "2007_000000 stands.* twice"),
    ],
)
def test_lists_that_cannot_be_used(root, text, message):
    VocFolder(root).list_path("train").write_text(text)
    with pytest.raises(WeaksegError, match=rf"train\.txt.*{message}"):
        VocFolder(root).ids("train")


def test_a_missing_list(root):
    assert not VocFolder(root).has_list("crf_val")
    with pytest.raises(WeaksegError, match=r"crf_val\.txt"):
        VocFolder(root).ids("crf_val")


def test_lists_with_windows_line_ends(root):
    path = VocFolder(root).list_path("train")
    ids = VocFolder(root).ids("train")
    path.write_bytes("\r\n".join(ids).encode() + b"\r\n")
    assert VocFolder(root).ids("train") == ids


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def colours_as_mask(path):
    with Image.open(path) as picture:
        picture.convert("RGB").save(path)


FAULTS = {
    "photo missing": (lambda image, mask: image.unlink(), "jpg", "no such photo"),
    "mask missing": (lambda image, mask: mask.unlink(), "png", "no such mask"),
    "photo truncated": (lambda image, mask: truncate(image), "jpg", "truncated"),
    "photo is text": (lambda image, mask: image.write_text("not a photo"), "jpg", "not a readable image"),
    "photo is empty": (lambda image, mask: image.write_bytes(b""), "jpg", "not a readable image"),
    "mask truncated": (lambda image, mask: truncate(mask), "png", "not a readable PNG"),
    "mask in colours": (lambda image, mask: colours_as_mask(mask), "png", "RGB"),
    "mask of another size": (lambda image, mask: write_index_png(mask, np.zeros((39, 52))), "png", "52x39.*52x40"),
    "mask turned": (lambda image, mask: write_index_png(mask, np.zeros((52, 40))), "png", "40x52.*52x40"),
    "label 21": (lambda image, mask: write_index_png(mask, np.full((40, 52), 21)), "png", "label 21"),
    "label 254": (lambda image, mask: write_index_png(mask, np.full((40, 52), 254)), "png", "label 254"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_names_the_faulty_file(root, fault):
    spoil, suffix, message = FAULTS[fault]
    folder = VocFolder(root)
    image_id = folder.ids("train_aug")[3]
    spoil(folder.image_path(image_id), folder.mask_path(image_id))
    with pytest.raises(WeaksegError, match=rf"1 faulty image\(s\):\n.*{image_id}\.{suffix}.*{message}"):
        folder.check(["train_aug"])


def test_check_counts_all_faults_and_names_the_first_ones(root):
    folder = VocFolder(root)
    for image_id in folder.ids("train_aug")[:7]:
        folder.mask_path(image_id).unlink()
    with pytest.raises(WeaksegError) as caught:
        folder.check(["train_aug", "val"])
    assert "7 faulty" in str(caught.value) and str(caught.value).count("\n") == 5


def test_a_failed_write_leaves_the_old_mask(tmp_path):
    path = tmp_path / "mask.png"
    write_index_png(path, np.ones((3, 4)))
    with pytest.raises((TypeError, ValueError)):
        write_index_png(path, np.ones((3, 4, 2, 2)))
    assert np.array_equal(read_index_png(path), np.ones((3, 4))) and list(tmp_path.iterdir()) == [path]


def test_the_real_photos(shared_root):
    folder = VocFolder(shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012")
    assert [len(folder.ids(n)) for n in ("train", "train_aug", "val", "crf_val")] == [664, 1934, 553, 50]
    present = folder.check(["val"], threads=2)
    by_class = np.sum(list(present.values()), axis=0)
    assert by_class[1:].tolist() == [17, 15, 14, 16, 19, 18, 35, 92, 41, 59, 22, 96, 62, 17, 160, 29, 47, 31, 19, 20]
