"""The way from score cells to a photo's pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from weakseg.config import Network, Preprocessing
from weakseg.data.transforms import padded_size, scaled_size
from weakseg.errors import WeaksegError
from weakseg.evaluate.upsampling import upsample_scores
from weakseg.model import build_model
from weakseg.model.inputs import network_input


def random_scores(size: tuple[int, int], stride: int, scale: float = 1.0) -> np.ndarray:
    cells = ((padded_size(side, stride) - 1) // stride + 1 for side in scaled_size(size, scale))
    return np.random.default_rng(size[0] * 100 + size[1]).normal(0, 3, (3, *cells)).astype(np.float32)


def plain_upsampling(scores: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """Bilinear, pixel by pixel: pixel p lies at cell p / stride."""
    out = np.empty((len(scores), *size))
    for row in range(size[0]):
        for column in range(size[1]):
            i, j = min(row // stride, scores.shape[1] - 2), min(column // stride, scores.shape[2] - 2)
            a, b = row / stride - i, column / stride - j
            top = (1 - b) * scores[:, i, j] + b * scores[:, i, j + 1]
            bottom = (1 - b) * scores[:, i + 1, j] + b * scores[:, i + 1, j + 1]
            out[:, row, column] = (1 - a) * top + a * bottom
    return out


def torch_upsampling(scores: np.ndarray, size: tuple[int, int], stride: int, scale: float) -> np.ndarray:
    height, width = scaled_size(size, scale)
    padded = padded_size(height, stride), padded_size(width, stride)
    whole = functional.interpolate(torch.from_numpy(scores)[None], size=padded, mode="bilinear", align_corners=True)
    cut = whole[:, :, :height, :width]
    return functional.interpolate(cut, size=size, mode="bilinear", align_corners=False)[0].numpy()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([8, 16]))
def test_upsampling_is_bilinear_with_each_cell_on_its_own_pixel(height: int, width: int, stride: int) -> None:
    scores = random_scores((height, width), stride)
    up = upsample_scores(scores, (height, width), stride=stride)
    assert up.dtype == np.float32
    assert up.flags.c_contiguous
    own = up[:, ::stride, ::stride]
    np.testing.assert_array_equal(own, scores[:, : own.shape[1], : own.shape[2]])
    np.testing.assert_allclose(up, plain_upsampling(scores, (height, width), stride), atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([8, 16]), st.sampled_from([0.3, 0.5, 1.0, 1.7]))
def test_upsampling_is_that_of_torch(height: int, width: int, stride: int, scale: float) -> None:
    scores = random_scores((height, width), stride, scale)
    up = upsample_scores(scores, (height, width), stride=stride, image_scale=scale)
    # torch's own positions are float32, which shows beside steep scores
    np.testing.assert_allclose(up, torch_upsampling(scores, (height, width), stride, scale), rtol=1e-5, atol=1e-4)


def test_half_precision_scores_come_back_in_float32() -> None:
    scores = random_scores((17, 15), 8).astype(np.float16)
    up = upsample_scores(scores, (17, 15), stride=8)
    assert up.dtype == np.float32
    np.testing.assert_array_equal(up, upsample_scores(scores.astype(np.float32), (17, 15), stride=8))


@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 4, 3), (1, 2, 3, 3)])
def test_scores_of_another_photo_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WeaksegError, match="do not belong"):
        upsample_scores(np.zeros(shape), (17, 17), stride=8)


def test_scores_of_a_scaled_photo_come_back_at_its_own_size() -> None:
    # scores that are linear in the network's pixels; half-size pixel x lies at photo pixel 2x + .5
    scores = np.broadcast_to(np.arange(5.0) * 8, (1, 4, 5))
    up = upsample_scores(scores, (48, 60), stride=8, image_scale=0.5)
    assert up.shape == (1, 48, 60)
    np.testing.assert_allclose(up[0, 20, 4:-4], (np.arange(60.0)[4:-4] - 0.5) / 2, rtol=1e-4)


def test_scores_of_a_padded_photo_belong_to_it() -> None:
    model = build_model(Network(trunk="tiny", head_channels=8, crop_px=33), num_labels=3).eval()
    image = np.zeros((50, 71, 3), dtype=np.uint8)
    for scale in (1.0, 0.6):
        with torch.no_grad():
            scores = model(network_input(image, scale, 8, Preprocessing()))[0].numpy()
        assert upsample_scores(scores, (50, 71), stride=8, image_scale=scale).shape == (3, 50, 71)
