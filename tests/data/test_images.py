"""Reading photos and index masks: what is right comes back, what is wrong is named by its file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from weakseg.data.images import is_turned, photo_size, read_index_png, read_photo, read_png, write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet

LABELS = st.sampled_from([*range(21), 255])
OWN = LabelSet.of_classes("own", ["cat", "dog"], {"dog": "#010203"})


def photo(seed=0, size=(12, 20)):
    """A photo of large flat patches, which JPEG keeps."""
    small = np.random.default_rng(seed).integers(0, 256, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    return Image.fromarray(np.repeat(np.repeat(small, 4, 0), 4, 1))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_data_say(tmp_path, orientation, suffix):
    path = tmp_path / f"photo.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo().save(path, exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert expected.shape[:2] == ((20, 12) if orientation > 4 else (12, 20))
    found = read_photo(path)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    assert photo_size(path) == found.shape[:2]
    assert is_turned(path) == (orientation != 1)


def test_transparent_pixels_are_laid_over_white(tmp_path):
    values = np.zeros((2, 2, 4), np.uint8)
    values[0, 0], values[0, 1], values[1, 0] = (200, 10, 20, 255), (200, 10, 20, 0), (0, 0, 0, 128)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.shape == (2, 2, 3)
    assert found[0, 0].tolist() == [200, 10, 20] and found[0, 1].tolist() == [255] * 3
    assert found[1, 0].tolist() == pytest.approx([127] * 3, abs=1)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([9, 8, 7, 60, 50, 40])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_photo(tmp_path / "p.png").tolist() == [[[255] * 3, [60, 50, 40]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("white", "middle"), [(4095, 2048), (65535, 32768), (255, 128), (1023, 512)])
def test_grey_of_sixteen_bits_is_scaled_by_the_bits_that_it_uses(tmp_path, white, middle, suffix):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(np.array([[0, middle, white]], np.uint16)).save(path)
    assert read_photo(path).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


def test_a_dark_photo_of_eight_bits_stays_dark(tmp_path):
    Image.fromarray(np.array([[0, 3, 7]], np.uint8)).save(tmp_path / "dark.png")
    assert read_photo(tmp_path / "dark.png")[0, :, 0].tolist() == [0, 3, 7]


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_photos_without_a_known_range_are_refused(tmp_path, dtype, mode):
    Image.fromarray(np.array([[0, 70000]], dtype)).save(tmp_path / "odd.tif")
    with pytest.raises(WeaksegError, match=rf"odd\.tif: mode {mode} .*save it with 8 bits"):
        read_photo(tmp_path / "odd.tif")


def test_photos_that_are_too_large_are_named(tmp_path, monkeypatch):
    photo().save(tmp_path / "huge.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for read in (read_photo, photo_size, is_turned, read_png):
        with pytest.raises(WeaksegError, match=r"huge\.jpg: too large .*scale it down"):
            read(tmp_path / "huge.jpg")


def test_photos_that_do_not_fit_in_memory_are_named(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 1 GiB")

    photo().save(tmp_path / "large.jpg")
    monkeypatch.setattr(ImageOps, "exif_transpose", full)
    with pytest.raises(WeaksegError, match=r"large\.jpg: it does not fit in the memory"):
        read_photo(tmp_path / "large.jpg")


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=LABELS))
def test_masks_come_back_bit_by_bit(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    write_index_png(path, labels, VOC)
    assert np.array_equal(read_index_png(path, VOC), labels) and np.array_equal(read_png(path), labels)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture.convert("RGB")), VOC.palette()[labels])


def test_masks_have_the_colours_and_the_range_of_their_labels(tmp_path):
    path = tmp_path / "mask.png"
    write_index_png(path, np.array([[0, 2, 255]]), OWN)
    with Image.open(path) as picture:
        assert np.array(picture.convert("RGB"))[0, 1].tolist() == [1, 2, 3]
    write_index_png(path, np.array([[0, 5, 3, 5]]), OWN)
    assert read_index_png(path, VOC).max() == 5
    with pytest.raises(WeaksegError, match=r"mask\.png: label 3 is out of range; 0\.\.2 and 255"):
        read_index_png(path, OWN)


def test_a_failed_write_leaves_the_old_mask(tmp_path):
    path = tmp_path / "mask.png"
    write_index_png(path, np.ones((3, 4)), VOC)
    with pytest.raises((TypeError, ValueError)):
        write_index_png(path, np.ones((3, 4, 2, 2)), VOC)
    assert np.array_equal(read_index_png(path, VOC), np.ones((3, 4))) and list(tmp_path.iterdir()) == [path]


def test_a_jpeg_under_the_name_of_a_png_is_no_mask(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(WeaksegError, match=r"mask\.png: a JPEG file under the name of a PNG"):
        read_png(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16", "LA"])
def test_masks_of_another_mode(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(WeaksegError, match=rf"mask\.png: mode {mode}; masks must be palette or grey"):
        read_png(tmp_path / "mask.png")
