"""Which labels each crop shows, against looking at every crop; and what the file of them decides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.config import Network
from weakseg.data.crop_labels import CropGeometry, CropLabels, crop_presence, write_crop_labels
from weakseg.data.transforms import CropWindow, crop_places, pad_crop, scale_labels
from weakseg.errors import WeaksegError

LABELS = 5
GEOMETRY = CropGeometry(side=17, image_scale=1.0, stride=4, step=4)


def label_map(seed, height, width):
    """Blocks of labels, some single pixels, and void."""
    rng = np.random.default_rng(seed)
    values = np.full((height, width), rng.integers(0, LABELS), np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        top, left = rng.integers(0, height), rng.integers(0, width)
        values[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = rng.choice([*range(LABELS), 255])
    return values


@st.composite
def cases(draw):
    """A label map, and crops that begin anywhere or at whole cells."""
    stride = draw(st.sampled_from([4, 8]))
    side = stride * draw(st.integers(1, 5)) + 1
    scale = draw(st.sampled_from([0.3, 0.5, 1.0, 1.3, 2.0]))
    geometry = CropGeometry(side, scale, stride, draw(st.sampled_from([1, stride])))
    return label_map(draw(st.integers(0, 9999)), draw(st.integers(1, 36)), draw(st.integers(1, 36))), geometry


def windows(size, geometry):
    """Every place of a crop, mirrored at some."""
    tops, lefts = crop_places(size, geometry.side, geometry.image_scale, geometry.stride, geometry.step)
    for top in tops:
        for left in lefts:
            yield CropWindow(int(top), int(left), geometry.side, bool((top + left) % 3 == 1))


def seen(labels, window, geometry):
    """The labels of a crop, as it is cut for training."""
    crop = pad_crop(scale_labels(labels, geometry.image_scale), window, 255)
    return np.isin(np.arange(LABELS), crop)


def tags_of(labels):
    return np.isin(np.arange(LABELS), labels)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_every_crop_shows_the_labels_that_are_in_it(tmp_path_factory, case):
    labels, geometry = case
    path = tmp_path_factory.mktemp("crops") / "crops.safetensors"
    presence = crop_presence(labels, LABELS, geometry)
    assert set(presence) == set(np.flatnonzero(tags_of(labels)))
    write_crop_labels(path, [("a", presence)], geometry)
    known = CropLabels({"a": tags_of(labels)}, path, geometry)
    for window in windows(labels.shape, geometry):
        expected = seen(labels, window, geometry)
        row, column = window.top // geometry.step, window.left // geometry.step
        assert [label for label in presence if presence[label][row, column]] == np.flatnonzero(expected).tolist()
        assert np.array_equal(known.present("a", window), expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_file_holds_what_it_was_given_whatever_its_order_in_memory(tmp_path, order):
    """safetensors writes the bytes of an array as they lie in memory."""
    rng = np.random.default_rng(0)
    places = np.asarray(rng.random((13, 22)) < 0.5, order=order)
    path = tmp_path / "crops.safetensors"
    write_crop_labels(path, [("a", {3: places, 1: np.ones((13, 22), bool)})], GEOMETRY)
    known = CropLabels({"a": np.array([0, 1, 0, 1, 1], bool)}, path, GEOMETRY)
    for row, column in np.ndindex(places.shape):
        found = known.present("a", CropWindow(row * 4, column * 4, 17, False))
        assert found.tolist() == [False, True, False, places[row, column], True]


@pytest.fixture
def labels():
    values = np.zeros((30, 40), np.uint8)
    values[:5, :5], values[20:, 30:], values[10:20, 10:25] = 1, 2, 3
    return values


@pytest.fixture
def path(tmp_path, labels):
    path = tmp_path / "crops.safetensors"
    images = [("a", labels), ("b", labels[:, ::-1])]
    write_crop_labels(path, [(i, crop_presence(v, LABELS, GEOMETRY)) for i, v in images], GEOMETRY)
    return path


def test_an_edited_table_decides(path, labels):
    tags = tags_of(labels)
    removed, added = tags.copy(), tags.copy()
    removed[1], added[4] = False, True
    places = list(windows(labels.shape, GEOMETRY))
    assert any(seen(labels, window, GEOMETRY)[1] for window in places)
    for window in places:
        truth = seen(labels, window, GEOMETRY)
        assert not CropLabels({"a": removed}, path, GEOMETRY).present("a", window)[1]
        found = CropLabels({"a": added}, path, GEOMETRY).present("a", window)
        assert found[4] and np.array_equal(found[:4], truth[:4])
    assert added[1] and not removed[1]  # the table is not written into


def test_a_label_that_the_scale_loses_is_in_no_crop(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[0, 0] = 4
    geometry = replace(GEOMETRY, image_scale=0.2)
    write_crop_labels(tmp_path / "c", [("a", crop_presence(labels, LABELS, geometry))], geometry)
    known = CropLabels({"a": tags_of(labels)}, tmp_path / "c", geometry)
    assert not any(known.present("a", window)[4] for window in windows(labels.shape, geometry))


def test_images_of_which_only_the_photos_labels_are_known(path, labels):
    tags = {name: tags_of(labels) for name in "abc"}
    known = CropLabels(tags, path, GEOMETRY)
    window = CropWindow(8, 8, 17, False)
    assert np.array_equal(known.present("c", window), tags["c"]) and not np.array_equal(
        known.present("a", window), tags["a"]
    )
    photos = CropLabels(tags, None, GEOMETRY)
    assert np.array_equal(photos.present("a", window), tags["a"])


def test_no_image_with_pixel_labels(tmp_path):
    write_crop_labels(tmp_path / "c", [], GEOMETRY)


def test_the_digest_is_that_of_what_is_said_of_the_images(tmp_path, path, labels):
    tags = {name: tags_of(labels) for name in "abc"}

    def digest(ids, tags=tags, path=path):
        return CropLabels(tags, path, GEOMETRY).digest(ids)

    assert digest("ab") == digest("ab") and digest("ab") != digest("ba") != digest("a")
    edited = tags | {"b": np.ones(LABELS, bool)}
    assert digest("ab", edited) != digest("ab") and digest("ac", edited) == digest("ac")
    assert digest("ab", path=None) != digest("ab") and digest("c", path=None) == digest("c")
    other = tmp_path / "other.safetensors"
    presence = crop_presence(labels, LABELS, GEOMETRY)
    moved = {label: places.copy() for label, places in presence.items()}
    moved[1][-1, -1] = True  # a single crop shows one label more
    write_crop_labels(other, [("a", presence), ("b", moved)], GEOMETRY)
    plain = tmp_path / "plain.safetensors"
    write_crop_labels(plain, [("a", presence), ("b", presence)], GEOMETRY)
    assert digest("ab", path=other) != digest("ab", path=plain)
    assert digest("ac", path=other) == digest("ac", path=plain) == digest("ac")


@pytest.mark.parametrize(
    "change", [{"side": 21}, {"image_scale": 0.5}, {"stride": 8}, {"step": 1}], ids=lambda change: next(iter(change))
)
def test_a_file_of_other_crops_is_refused(path, change):
    with pytest.raises(WeaksegError, match=r"crops\.safetensors: made for other crops .*run `weakseg annotate` again"):
        CropLabels({}, path, replace(GEOMETRY, **change))


def test_files_that_are_none(tmp_path):
    path = tmp_path / "crops.safetensors"
    with pytest.raises(WeaksegError, match="no such file; run `weakseg annotate` first"):
        CropLabels({}, path, GEOMETRY)
    for content in (b"", b"torn", b"\x02\0\0\0\0\0\0\0{}"):
        path.write_bytes(content)
        with pytest.raises(WeaksegError, match=r"crops\.safetensors: not labels of crops"):
            CropLabels({}, path, GEOMETRY)


@pytest.mark.parametrize(("frozen", "step"), [(True, 8), (False, 1)])
def test_the_geometry_of_a_network(frozen, step):
    network = Network(trunk="tiny", crop_px=33, image_scale=0.5, freeze_trunk=frozen)
    assert CropGeometry.of(network) == CropGeometry(33, 0.5, 8, step)
