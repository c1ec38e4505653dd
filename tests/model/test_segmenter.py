"""Building by name, and photos as a network sees them."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg.config import Network, Preprocessing
from weakseg.errors import WeaksegError
from weakseg.evaluate.upsampling import upsample_scores
from weakseg.model import build_model
from weakseg.model.inputs import network_input, whole_scores

PLAIN = Preprocessing(scale=1, mean=(10, 20, 30), std=(1, 1, 1))


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("tiny-smallfov", 4), ("tiny-7x7", 7), ("mobilenet_v2-rate8", 4), ("squeezenet1_1-largefov", 3)],
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


@pytest.mark.parametrize("test_px", [None, 65, 97])
@pytest.mark.parametrize("size", [(30, 44), (65, 49), (70, 80)])
@torch.no_grad()
def test_scores_of_a_whole_photo_are_those_of_the_padded_one_at_its_own_cells(size, test_px):
    """Held against padding by hand, up to the pixels."""
    network = Network(trunk="tiny", head_channels=8, crop_px=33, test_px=test_px)
    torch.manual_seed(0)
    model = build_model(network, num_labels=4).eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    scores = whole_scores(model, image, network, PLAIN)
    side = [max(-(-(n - 1) // 8) * 8 + 1, test_px or 0) for n in size]
    padded = np.full((*side, 3), [10, 20, 30], dtype=np.uint8)  # PLAIN's mean
    padded[: size[0], : size[1]] = image
    large = model(network_input(padded, 1, 8, PLAIN))
    torch.testing.assert_close(scores, large[0, :, : scores.shape[1], : scores.shape[2]])
    up = torch.nn.functional.interpolate(large, size=side, mode="bilinear", align_corners=True)
    expected = up[0, :, : size[0], : size[1]].numpy()
    np.testing.assert_allclose(upsample_scores(scores.numpy(), size, stride=8), expected, atol=1e-4)
