"""Building by name, and the way between a photo's pixels and score cells."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from weakseg.config import Network, Preprocessing
from weakseg.errors import WeaksegError
from weakseg.model import build_model, upsample_scores
from weakseg.model.inputs import network_input

PLAIN = Preprocessing(scale=1, mean=(10, 20, 30), std=(1, 1, 1))


@pytest.mark.parametrize(
    ("name", "kernel"), [("tiny-smallfov", 4), ("mobilenet_v2-largefov", 3), ("squeezenet1_1-largefov", 3)]
)
def test_networks_by_name(name: str, kernel: int) -> None:
    with torch.device("meta"):
        model = build_model(name, num_labels=5)
        assert model.head.fc6.weight.shape[2:] == (kernel, kernel)
        assert model.output_stride == 8
        assert model(torch.empty(2, 3, 33, 41)).shape == (2, 5, 5, 6)


@pytest.mark.parametrize("name", ["vgg16", "vgg19-largefov", "vgg16-hugefov", "", "largefov"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(WeaksegError, match="not known"):
        build_model(name)


def test_maps_can_be_fed_to_the_head() -> None:
    model = build_model(Network(trunk="tiny", head_channels=8, skip_classifier=True), fov="small").eval()
    x = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        assert torch.equal(model.head(model.trunk(x)), model(x))


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


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from([8, 16]))
def test_upsampling_is_bilinear_with_each_cell_on_its_own_pixel(height: int, width: int, stride: int) -> None:
    cells = (-(-(height - 1) // stride) + 1, -(-(width - 1) // stride) + 1)
    scores = torch.randn(3, *cells, generator=torch.Generator().manual_seed(height * 100 + width))
    up = upsample_scores(scores, (height, width), stride=stride)
    assert up.shape == (3, height, width)
    assert up.dtype == torch.float32
    assert up.is_contiguous()
    assert torch.allclose(
        up[:, ::stride, ::stride], scores[:, : up[0, ::stride].shape[0], : up[0, 0, ::stride].shape[0]], atol=1e-4
    )
    np.testing.assert_allclose(up.numpy(), plain_upsampling(scores.numpy(), (height, width), stride), atol=1e-4)


def test_half_precision_scores_come_back_in_float32() -> None:
    scores = torch.randn(2, 3, 3)
    up = upsample_scores(scores.half(), (17, 15), stride=8)
    assert up.dtype == torch.float32
    torch.testing.assert_close(up, upsample_scores(scores.half().float(), (17, 15), stride=8))


@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 4, 3), (1, 2, 3, 3)])
def test_scores_of_another_photo_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WeaksegError, match="do not belong"):
        upsample_scores(torch.zeros(shape), (17, 17), stride=8)


def test_scores_of_a_scaled_photo_come_back_at_its_own_size() -> None:
    # scores that are linear in the network's pixels; half-size pixel x lies at photo pixel 2x + .5
    cells = torch.arange(5.0) * 8
    scores = cells[None, None, :].expand(1, 4, 5)
    up = upsample_scores(scores, (48, 60), stride=8, image_scale=0.5)
    assert up.shape == (1, 48, 60)
    inner = torch.arange(60.0)[4:-4]
    torch.testing.assert_close(up[0, 20, 4:-4], (inner - 0.5) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize(("size", "scale"), [((30, 44), 1.0), ((33, 49), 1.0), ((60, 31), 0.5)])
def test_a_photo_is_padded_bottom_and_right_with_the_mean(size: tuple[int, int], scale: float, stride: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    inputs = network_input(image, scale, stride, PLAIN)
    height, width = (round(side * scale) for side in size)
    assert inputs.shape[:2] == (1, 3)
    for side, padded in zip((height, width), inputs.shape[2:], strict=True):
        assert padded % stride == 1
        assert side <= padded < side + stride
    assert not inputs[:, :, height:].any()
    assert not inputs[:, :, :, width:].any()
    shown = (
        image if scale == 1 else np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    )
    expected = torch.from_numpy(shown.astype(np.float32) - np.float32([10, 20, 30])).permute(2, 0, 1)
    torch.testing.assert_close(inputs[0, :, :height, :width], expected)


def test_scores_of_a_padded_photo_belong_to_it() -> None:
    model = build_model(Network(trunk="tiny", head_channels=8, crop_px=33), num_labels=3).eval()
    image = np.zeros((50, 71, 3), dtype=np.uint8)
    for scale in (1.0, 0.6):
        with torch.no_grad():
            scores = model(network_input(image, scale, 8, PLAIN))[0]
        assert upsample_scores(scores, (50, 71), stride=8, image_scale=scale).shape == (3, 50, 71)
