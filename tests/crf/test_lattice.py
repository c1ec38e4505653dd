"""Tiles, lattices and kernels of the engine: laws that hold for any image."""

import itertools
from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from crf.slow import patches
from weakseg.crf.engine import kernels, lattice, tiles
from weakseg.crf.engine.lattice import bilateral_lattice, position_lattice
from weakseg.crf.engine.tiles import BLOCK, TILE

SIDES = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES)
def test_tiles_hold_each_pixel_once_and_close_together(height: int, width: int) -> None:
    order = tiles.tiles(height, width)
    n = height * width
    np.testing.assert_array_equal(order.order[order.place], np.arange(n))
    np.testing.assert_array_equal(np.sort([*order.place, *order.empty]), np.arange(order.sizes.size * BLOCK))
    np.testing.assert_array_equal(order.back(order.order[None].astype(float))[0], np.arange(n))
    for tile, size in enumerate(order.sizes):
        pixels = order.order[tile * BLOCK : tile * BLOCK + size]
        ys, xs = pixels // width, pixels % width
        assert 0 < size <= BLOCK and np.ptp(ys) < TILE and np.ptp(xs) < TILE
        np.testing.assert_array_equal(pixels, np.sort(pixels))


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, st.floats(0.5, 100), st.floats(0.5, 60), st.sampled_from([0.0, 8.0, 90.0]))
def test_lattices_are_whole(height: int, width: int, sigma_xy: float, sigma_rgb: float, noise: float) -> None:
    """Weights are barycentric, corners point into what the tile touches, chains are as long as their runs say."""
    image = patches(height, width, 3, noise)
    for found in (bilateral_lattice(image, sigma_xy, sigma_rgb), position_lattice(height, width, sigma_rgb)):
        weight, number = found.corners.weight.transpose(0, 2, 1), found.corners.number.transpose(0, 2, 1)
        total = weight.sum(2).reshape(-1)
        np.testing.assert_allclose(total[found.tiles.place], 1, atol=2e-3)
        assert (total[found.tiles.empty] == 0).all()
        assert weight.min() > -2e-3
        touched, starts = found.corners.touched, found.corners.starts
        assert (number.max((1, 2)) < np.diff(starts)).all()
        for first, last in itertools.pairwise(starts):
            assert len(set(touched[first:last].tolist())) == last - first
        assert touched.max() == found.points - 1
        assert (found.runs[:, 0] >= 2).all() and (found.runs[:, 1] >= 1).all()
        assert int(found.runs.prod(1).sum()) == len(found.chains)
        assert max(Counter(found.chains.tolist()).values(), default=0) <= number.shape[2]
        assert (found.mass[found.tiles.place] > 0).all()


@settings(max_examples=20, deadline=None)
@given(SIDES, SIDES, st.integers(0, 10**6))
def test_a_filter_is_linear_and_its_mean_is_one(height: int, width: int, seed: int) -> None:
    """K (a + b) = K a + K b, and K a / K 1 lies between the least and the largest of a."""
    a, b = np.random.default_rng(seed).random((2, height * width)).astype(np.float32)
    for found in (bilateral_lattice(patches(height, width, seed), 12, 20), position_lattice(height, width, 3)):
        of_a, of_b = found.filter(a).astype(float), found.filter(b).astype(float)
        mean = of_a / found.filter(np.ones_like(a))
        assert (mean > a.min() - 1e-3).all() and (mean < a.max() + 1e-3).all()
        np.testing.assert_allclose(found.filter(a + b), of_a + of_b, rtol=1e-4)


@pytest.mark.parametrize("sigma", [1e-9, 1e-6])
def test_widths_too_small_for_the_keys(sigma: float) -> None:
    with pytest.raises(lattice.WeaksegError, match="sigma is too small"):
        bilateral_lattice(patches(40, 40), sigma, sigma)
    with pytest.raises(lattice.WeaksegError, match="sigma is too small"):
        position_lattice(400, 400, sigma)


def test_kernels_can_be_kept_on_disk_by_any_process() -> None:
    """No kernel closes over anything: two of one name that processes compiled in another order would be mixed up."""
    found = [
        kernel for module in (kernels, lattice, tiles) for kernel in vars(module).values() if hasattr(kernel, "py_func")
    ]
    assert len(found) > 20
    assert all(kernel.py_func.__closure__ is None for kernel in found)
    names = [kernel.py_func.__qualname__ for kernel in set(found)]
    assert len(set(names)) == len(names)
