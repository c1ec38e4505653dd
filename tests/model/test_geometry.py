"""Laws that hold for every trunk and head: cell i of a map lies at pixel stride * i, for strides 8 and 16."""

import pytest
import torch
from torch import nn

from weakseg.config import FieldOfView, Network
from weakseg.model import Segmenter, build_model
from weakseg.model.heads import Head

CASES = [
    ("vgg16", 8),
    ("mobilenet_v2", 8),
    ("mobilenet_v2", 16),
    ("squeezenet1_1", 8),
    ("squeezenet1_1", 16),
    ("tiny", 8),
    ("tiny", 16),
]
# Rows that a border can reach, by trunk: half the receptive field in pixels (computed below).
BORDER = {"vgg16": 113, "mobilenet_v2": 256, "squeezenet1_1": 160, "tiny": 96}


def network(trunk: str, stride: int) -> Segmenter:
    torch.manual_seed(1)
    model = build_model(Network(trunk=trunk, output_stride=stride, head_channels=8, crop_px=321)).eval()
    # batch norms get statistics as after training, so that signals keep their scale through all layers
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # take over the batch's statistics as they are
        norm.train()
    with torch.no_grad():
        model.trunk(torch.randn(2, 3, 33, 33))
    for norm in norms:
        norm.eval()
    return model


def symmetric(module: nn.Module) -> None:
    """Make all kernels equal to their vertical mirror image."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = (layer.weight.data + layer.weight.data.flip(2)) / 2


@pytest.mark.parametrize(("trunk", "stride"), CASES)
@pytest.mark.parametrize("fov", ["small", "rate8", "seven", "large"])
def test_inputs_of_stride_k_plus_1_give_k_plus_1_cells(trunk: str, stride: int, fov: FieldOfView) -> None:
    with torch.device("meta"):
        model = build_model(Network(trunk=trunk, output_stride=stride, head_channels=8, crop_px=321), fov=fov).eval()
        for cells in ((1, 1), (3, 4), (8, 5)):
            height, width = (stride * (n - 1) + 1 for n in cells)
            maps = model.trunk(torch.empty(2, 3, height, width))
            assert maps.shape == (2, model.trunk.out_channels, *cells)
            assert model.head(maps).shape == (2, 21, *cells)


@pytest.mark.parametrize(("trunk", "stride"), CASES)
@torch.no_grad()
def test_mirror_law(trunk: str, stride: int) -> None:
    """With kernels that are their own mirror images, mirroring the input mirrors the map.

    Holds, borders included, if and only if cell i is centred on pixel stride * i and padding is even-handed.
    """
    model = network(trunk, stride).trunk
    symmetric(model)
    x = torch.randn(1, 3, 6 * stride + 1, 2 * stride + 1)
    maps = model(x)
    assert maps.std() > 1e-3
    torch.testing.assert_close(model(x.flip(2)), maps.flip(2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("trunk", "stride"), CASES)
@torch.no_grad()
def test_a_translation_by_the_stride_moves_cells_by_one(trunk: str, stride: int) -> None:
    model = network(trunk, stride).trunk
    for layer in list(model.modules()):
        # a group norm sees the whole map, so no cell is away from its border
        for name, child in layer.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(layer, name, nn.Identity())
    reach = -(-BORDER[trunk] // stride)
    cells = 2 * reach + 4
    x = torch.randn(1, 3, stride * cells + 1, 9)  # narrow: only the translated direction needs an interior
    first, second = model(x[:, :, :-stride]), model(x[:, :, stride:])
    inner = first[:, :, reach + 1 : -reach]
    assert inner.shape[2] >= 2
    assert (inner.amax(2) - inner.amin(2)).max() > 1e-3
    torch.testing.assert_close(inner, second[:, :, reach : -reach - 1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fov", ["small", "rate8", "seven", "large"])
@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_mirror_law_of_heads(fov, stride: int) -> None:
    torch.manual_seed(0)
    head = Head(6, fov=fov, output_stride=stride, num_labels=3, channels=5, skip_classifier=True).eval()
    symmetric(head)
    maps = torch.randn(1, 6, 15, 4)
    torch.testing.assert_close(head(maps.flip(2)), head(maps).flip(2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("trunk", "stride"), CASES)
def test_translation_test_keeps_clear_of_the_border(trunk: str, stride: int) -> None:
    """BORDER covers half of the receptive field, summed over the layers in order."""
    with torch.device("meta"):
        model = build_model(Network(trunk=trunk, output_stride=stride, head_channels=8, crop_px=321)).trunk
    half, step = 0, 1
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            if trunk == "tiny" and layer.kernel_size == (1, 1):
                continue  # shortcuts run beside the 3x3 layers, not after them
            sizes = (layer.kernel_size, layer.stride, layer.dilation)
            kernel, steps, dilation = (value if isinstance(value, int) else value[0] for value in sizes)
            half += (kernel // 2) * dilation * step
            step *= steps
    assert step == stride
    assert half <= BORDER[trunk]
