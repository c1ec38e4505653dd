"""Reading the VOC layout: what is right comes back, what is wrong is named by its file."""

import numpy as np
import pytest
from fabricate import write_voc, write_voc_boxes, write_xml
from PIL import Image

from weakseg.data.boxes import Box
from weakseg.data.images import write_index_png
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def folder(root):
    return VocFolder(root)


def test_photo_labels_and_size_agree(folder):
    for image_id in folder.read_list("train_aug"):
        image, labels = folder.image(image_id), folder.pixel_labels(image_id)
        assert image.dtype == labels.dtype == np.uint8
        assert image.shape == (*labels.shape, 3) and folder.size(image_id) == labels.shape


def test_images_are_rgb(folder):
    image_id = folder.read_list("val")[0]
    flat = np.broadcast_to(np.array([200, 30, 60], np.uint8), (40, 52, 3))
    Image.fromarray(flat).save(folder.image_path(image_id), quality=95)
    assert np.abs(folder.image(image_id).mean((0, 1)) - [200, 30, 60]).max() < 4


def test_instances_where_the_folder_has_them(folder):
    image_id = folder.read_list("train")[0]
    assert folder.instances(image_id) is None
    instances = np.zeros((40, 52), np.uint8)
    instances[3, :2] = 77, 255  # instance numbers are not labels: 77 is allowed
    write_index_png(folder.instance_path(image_id), instances, VOC)
    assert np.array_equal(folder.instances(image_id), instances)
    write_index_png(folder.instance_path(image_id), instances[1:], VOC)
    with pytest.raises(WeaksegError, match=rf"SegmentationObject.*{image_id}\.png: mask is 52x39, its photo 52x40"):
        folder.instances(image_id)


def test_masks_of_segmentation_class_where_there_are_no_augmented_ones(root):
    (root / "SegmentationClassAug").rename(root / "SegmentationClass")
    folder = VocFolder(root)
    assert folder.pixel_labels(folder.read_list("val")[0]).shape == (40, 52)


def test_an_image_may_have_any_annotation_or_none(root):
    folder = VocFolder(write_voc_boxes(root))
    some, none = folder.read_list("train_aug")[:2]
    for path in (folder.mask_path(none), folder.annotation_path(none)):
        path.unlink()
    assert folder.has_pixel_labels(some) and not folder.has_pixel_labels(none)
    assert folder.boxes(some) and folder.boxes(none) is None
    assert folder.tags(some) is None and folder.tags(none) is None
    assert set(folder.files(some)) == {"photo", "mask", "boxes"} and set(folder.files(none)) == {"photo"}
    with pytest.raises(WeaksegError, match=rf"{none}\.png: no such mask"):
        folder.pixel_labels(none)


def test_a_mask_against_a_turned_photo_names_the_exif_data(folder):
    image_id = folder.read_list("train")[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder.image_path(image_id)) as picture:
        picture.save(folder.image_path(image_id), exif=exif)
    with pytest.raises(WeaksegError, match=rf"{image_id}\.png: mask is 52x40, its photo 40x52.*EXIF data turns it"):
        folder.pixel_labels(image_id)
    write_index_png(folder.mask_path(image_id), np.ones((52, 40)), VOC)
    assert folder.pixel_labels(image_id).shape == folder.image(image_id).shape[:2]


def test_labels_by_hand(root, tmp_path):
    folder = VocFolder(root)
    first, second = folder.read_list("train")[:2]
    (root / "image_labels.csv").write_text(f"image,labels\n{first},cat; dog\n")
    assert np.flatnonzero(folder.tags(first)).tolist() == [0, 8, 12] and folder.tags(second) is None
    other = tmp_path / "by hand.csv"
    other.write_text(f"image,labels\n{second},bus\n")
    folder = VocFolder(root, tag_file=other)
    assert folder.tags(first) is None and np.flatnonzero(folder.tags(second)).tolist() == [0, 6]
    assert folder.shared_files(["train", "none"]) == {"list train": folder.list_path("train"), "tags": other}
    with pytest.raises(WeaksegError, match=r"none\.csv: no such file; dataset\.image_labels must name"):
        VocFolder(root, tag_file=tmp_path / "none.csv")


def test_boxes_of_the_photo(folder):
    image_id = folder.read_list("train")[0]
    write_xml(folder.annotation_path(image_id), ("cat", 1, 1, 52, 40))
    assert folder.boxes(image_id) == [Box(8, 0, 0, 39, 51)]


@pytest.mark.parametrize("missing", ["JPEGImages", "ImageSets/Segmentation"])
def test_a_missing_folder_is_named(root, missing, tmp_path):
    (root / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(WeaksegError, match=missing):
        VocFolder(root)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(WeaksegError, match="nowhere"):
        VocFolder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"2007_000000\n2007_000001\n2007_000000\n", "2007_000000 stands.* twice"),
        ("2007_000000\n".encode("utf-16"), "not UTF-8 text"),
        ("2007_000000\n".encode("utf-16-le"), "not UTF-8 text"),
        ("fähre\n".encode("latin-1"), "not UTF-8 text"),
    ],
)
def test_lists_that_cannot_be_used(folder, content, message):
    folder.list_path("train").write_bytes(content)
    with pytest.raises(WeaksegError, match=rf"train\.txt: .*{message}"):
        folder.read_list("train")


def test_a_list_that_there_is_not(folder):
    assert folder.read_list("crf_val") is None


def test_lists_with_windows_line_ends_and_a_byte_order_mark(folder):
    ids = folder.read_list("train")
    folder.list_path("train").write_bytes("\r\n".join(["\ufeff" + ids[0], *ids[1:]]).encode() + b"\r\n")
    assert folder.read_list("train") == ids
