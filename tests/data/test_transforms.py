"""Crops and the labels at the score cells."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from weakseg.data.transforms import (
    CropWindow,
    grid_of_crop,
    pad_crop,
    padded_size,
    present_labels,
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
    window = random_window(rng, (height, width), 33, step=step)
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
    windows = [random_window(rng, (36, 33), 33) for _ in range(4000)]
    assert {w.left for w in windows} == {0} and {w.top for w in windows} == {0, 1, 2, 3}
    assert np.bincount([w.top for w in windows]) / 4000 == pytest.approx([0.25] * 4, abs=0.04)
    assert np.mean([w.mirrored for w in windows]) == pytest.approx(0.5, abs=0.04)


def test_mirroring_twice_is_no_mirroring():
    values = np.arange(25).reshape(5, 5)
    assert np.array_equal(pad_crop(values, CropWindow(0, 0, 5, True), 0)[:, ::-1], values)


def test_present_labels_leave_void_out_and_refuse_unknown_ones():
    present = present_labels(np.array([[0, 255], [20, 3]], dtype=np.uint8))
    assert present.nonzero()[0].tolist() == [0, 3, 20]
    with pytest.raises(WeaksegError, match="label 33"):
        present_labels(np.array([[33]], dtype=np.uint8))


def test_scaled_labels_keep_their_place():
    labels = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 10, 0), 10, 1)
    assert np.array_equal(scale_labels(labels, 0.5), np.repeat(np.repeat(labels[::10, ::10], 5, 0), 5, 1))
    assert scale_labels(labels, 1.0) is labels
