"""Shapes, noise and textures of the generated scenes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.scenes.drawing import TEXTURES, coverage, hsv, signed_distance, smooth_noise, texture

GRID = np.linspace(-2, 2, 161, dtype=np.float32)
U, V = np.meshgrid(GRID, GRID)
PIXEL = 4 / 160

SHAPES = {
    "ellipse": (("ellipse", (0.2, -0.1, 0.9, 0.5)), np.pi * 0.9 * 0.5),
    "turned ellipse": (("ellipse", (0.0, 0.0, 1.2, 0.4, 0.7)), np.pi * 1.2 * 0.4),
    "box": (("box", (0.1, 0.2, 0.7, 0.4)), 4 * 0.7 * 0.4),
    "rounded box": (("box", (0.0, 0.0, 0.8, 0.6, 0.3)), 4 * 0.8 * 0.6 - (4 - np.pi) * 0.3**2),
    "line": (("line", (-1.0, -0.5, 0.8, 0.7, 0.25)), 2 * 0.25 * np.hypot(1.8, 1.2) + np.pi * 0.25**2),
    "triangle": (("polygon", (-1.0, 0.8, 1.0, 0.8, 0.0, -0.9)), 0.5 * 2.0 * 1.7),
    "ring": (("ring", (0.0, 0.1, 1.0, 0.2)), np.pi * (1.2**2 - 0.8**2)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_covered_area_is_that_of_the_shape(name):
    shape, area = SHAPES[name]
    covered = coverage(signed_distance(shape, U, V), PIXEL)
    assert covered.min() == 0 and covered.max() == 1
    assert covered.sum() * PIXEL**2 == pytest.approx(area, rel=0.02)


def test_polygons_in_either_sense_of_rotation():
    points = (-1.0, 0.8, 1.0, 0.8, 0.0, -0.9)
    reversed_points = (0.0, -0.9, 1.0, 0.8, -1.0, 0.8)
    np.testing.assert_allclose(
        signed_distance(("polygon", points), U, V), signed_distance(("polygon", reversed_points), U, V), atol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(1.5, 40), st.integers(0, 1000))
def test_noise_is_bounded_smooth_and_repeatable(height, width, cell, seed):
    noise = smooth_noise(np.random.default_rng(seed), height, width, cell)
    assert noise.shape == (height, width) and np.abs(noise).max() <= 1 + 1e-6
    for axis in (0, 1):
        assert np.abs(np.diff(noise, axis=axis)).max(initial=0) <= 2 / cell + 1e-5
    assert np.array_equal(noise, smooth_noise(np.random.default_rng(seed), height, width, cell))


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_are_shares(name):
    pattern = texture(name, U, V, np.random.default_rng(0))
    assert pattern.shape == U.shape and 0 <= pattern.min() <= pattern.max() <= 1
    assert name == "plain" or pattern.std() > 0.05


@given(st.floats(0, 0.999), st.floats(0, 1), st.floats(0, 1))
def test_hsv_against_the_standard_library(hue, saturation, value):
    import colorsys

    np.testing.assert_allclose(
        hsv(hue, saturation, value) / 255, colorsys.hsv_to_rgb(hue, saturation, value), atol=1e-5
    )
