"""Crops and the labels at the score cells."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from weakseg.data.transforms import (
    CropWindow,
    crop_places,
    grid_of_crop,
    grid_of_image,
    pad_crop,
    padded_size,
    random_window,
    scale_labels,
)
from weakseg.errors import WeaksegError


def test_labels_of_a_321_crop_are_read_at_0_8_to_320():
    labels = np.arange(321 * 321).reshape(321, 321)
    grid = grid_of_crop(labels, 8)
    assert grid.shape == (41, 41)
    assert grid[0, 0] == labels[0, 0] and grid[40, 40] == labels[320, 320] and grid[3, 5] == labels[24, 40]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.sampled_from([8, 16]))
def test_padded_size_is_the_smallest_aligned_one(size, stride):
    padded = padded_size(size, stride)
    assert padded >= size and padded - stride < size and (padded - 1) % stride == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 9999), st.sampled_from([1, 8]))
def test_a_crop_is_the_photo_where_it_lies_and_fill_elsewhere(height, width, seed, step):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 20, (height, width)).astype(np.uint8)
    window = random_window(rng, crop_places((height, width), 33, 1.0, 8, step), 33)
    crop = pad_crop(values, window, 255)
    assert crop.shape == (33, 33) and window.top % step == 0 and window.left % step == 0
    for row in range(33):
        for column in range(33):
            source = 32 - column if window.mirrored else column
            y, x = window.top + row, window.left + source
            expected = values[y, x] if y < height and x < width else 255
            assert crop[row, column] == expected


def test_windows_are_uniform_and_half_are_mirrored():
    rng = np.random.default_rng(0)
    windows = [random_window(rng, crop_places((36, 33), 33, 1.0, 8, 1), 33) for _ in range(4000)]
    assert {w.left for w in windows} == {0} and {w.top for w in windows} == {0, 1, 2, 3}
    assert np.bincount([w.top for w in windows]) / 4000 == pytest.approx([0.25] * 4, abs=0.04)
    assert np.mean([w.mirrored for w in windows]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("size", "scale", "step", "tops", "lefts"),
    [
        ((40, 52), 1.0, 1, range(8), range(20)),
        ((40, 52), 1.0, 8, [0, 8], [0, 8, 16, 24]),  # the maps cover 41x57 pixels
        ((80, 20), 0.5, 1, range(8), [0]),
        ((80, 20), 0.5, 8, [0, 8], [0]),
    ],
)
def test_places_of_crops(size, scale, step, tops, lefts):
    """A crop of 33 pixels lies within the photo or, where it must begin at whole cells, within the padded one."""
    places = crop_places(size, 33, scale, 8, step)
    assert places[0].tolist() == list(tops) and places[1].tolist() == list(lefts)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([4, 8]))
def test_cells_of_a_whole_image_are_its_pixels_or_void(height, width, stride):
    labels = np.random.default_rng(height).integers(0, 20, (height, width)).astype(np.uint8)
    grid = grid_of_image(labels, stride)
    assert grid.shape == tuple((padded_size(n, stride) - 1) // stride + 1 for n in labels.shape)
    for row, column in np.ndindex(grid.shape):
        y, x = row * stride, column * stride
        assert grid[row, column] == (labels[y, x] if y < height and x < width else 255)


def test_mirroring_twice_is_no_mirroring():
    values = np.arange(25).reshape(5, 5)
    assert np.array_equal(pad_crop(values, CropWindow(0, 0, 5, True), 0)[:, ::-1], values)


def test_sizes_that_are_none():
    for size, stride in ((0, 8), (5, 0)):
        with pytest.raises(WeaksegError, match="must be positive"):
            padded_size(size, stride)


def test_scaled_labels_keep_their_place():
    labels = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 10, 0), 10, 1)
    assert np.array_equal(scale_labels(labels, 0.5), np.repeat(np.repeat(labels[::10, ::10], 5, 0), 5, 1))
    assert scale_labels(labels, 1.0) is labels
