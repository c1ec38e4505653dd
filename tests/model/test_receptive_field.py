"""Receptive fields by arithmetic, held against how far a gradient reaches, and the fields of view of fc6."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weakseg.config import FieldOfView, Network
from weakseg.model import Segmenter, build_model
from weakseg.model.heads import Head
from weakseg.model.receptive_field import fc6_window, nominal_field, receptive_field


class Mean(nn.Module):
    """A pool whose gradient reaches all of its window."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        sides = (self.pool.kernel_size, self.pool.stride, self.pool.padding, self.pool.dilation)
        kernel, stride, padding, dilation = (value if isinstance(value, int) else value[0] for value in sides)
        if dilation == 1:
            return functional.avg_pool2d(x, kernel, stride, padding)
        weight = torch.full((x.shape[1], 1, kernel, kernel), 1 / kernel**2)
        return functional.conv2d(x, weight, None, stride, padding, dilation, groups=x.shape[1])


def positive(model: Segmenter) -> None:
    """Let every path from a pixel to a score have a positive weight; no norm, and no activation beyond its bound."""
    for layer in list(model.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for name, child in layer.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(layer, name, Mean(child))
            elif isinstance(child, nn.GroupNorm | nn.BatchNorm2d):
                setattr(layer, name, nn.Identity())


def reach(model: Segmenter, stride: int, side: int) -> tuple[int, int]:
    """First and last row, from the middle pixel, with a gradient of the score of the middle cell."""
    cells = 2 * (-(-side // 2) // stride + 2)
    fc6 = next(layer for layer in model.head.fc6.modules() if isinstance(layer, nn.Conv2d) and layer.dilation[0] > 1)
    columns = 1 if fc6.kernel_size[0] % 2 else fc6.dilation[0] // 2 + 1  # no tap of an even kernel is in the middle
    x = torch.full((1, 3, stride * cells + 1, stride * (columns - 1) + 1), 1e-4, requires_grad=True)
    scores = model(x)
    scores[0, 0, cells // 2].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten() - stride * cells // 2
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize(
    ("trunk", "stride", "fov"),
    [
        ("vgg16", 8, "small"),
        ("vgg16", 8, "large"),
        *(("tiny", 8, fov) for fov in get_args(FieldOfView)),
        ("tiny", 16, "seven"),
        ("squeezenet1_1", 8, "small"),
        ("squeezenet1_1", 16, "large"),
        ("mobilenet_v2", 8, "small"),
        ("mobilenet_v2", 16, "large"),
        ("efficientnet_lite0", 16, "small"),
    ],
)
def test_the_field_is_how_far_a_gradient_reaches(trunk: str, stride: int, fov: FieldOfView) -> None:
    model = build_model(Network(trunk=trunk, output_stride=stride, head_channels=2, crop_px=321), fov=fov).eval()
    side = receptive_field(model)
    positive(model)
    assert reach(model, stride, side) == (-(side // 2), side // 2)


def test_variants_of_heads_have_their_fields() -> None:
    network = Network(trunk="tiny", head_channels=2, separable_fc6=True, skip_classifier=True, fov_scale=0.5)
    model = build_model(network, fov="large", multi_scale=True).eval()
    plain = build_model(network.model_copy(update={"separable_fc6": False}), fov="large")
    assert receptive_field(model) == receptive_field(plain)
    side = receptive_field(model)
    positive(model)
    assert reach(model, 8, side) == (-(side // 2), side // 2)


def test_vgg16_has_the_fields_that_are_summed_by_hand() -> None:
    # Convolutions and pool of each block; conv5 is dilated.
    trunk = 1 + (4 + 2) + (8 + 4) + (24 + 8) + (48 + 16) + (96 + 16)
    assert trunk == 227
    expected = {"small": 96, "rate8": 192, "seven": 192, "large": 192 + 16}  # with pool5a
    with torch.device("meta"):
        for fov, head in expected.items():
            assert receptive_field(build_model(Network(trunk="vgg16", head_channels=2), fov=fov)) == trunk + head


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize(
    ("fov", "window", "printed"), [("small", 104, 128), ("rate8", 200, 224), ("seven", 200, 224), ("large", 200, 224)]
)
def test_fields_of_view_are_those_of_the_papers_table(fov, window: int, printed: int, stride: int) -> None:
    with torch.device("meta"):
        head = Head(4, fov=fov, output_stride=stride, num_labels=3, channels=2)
    assert fc6_window(head, stride) == window + stride - 8
    assert nominal_field(head, stride) == printed
