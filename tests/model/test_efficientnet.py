"""EfficientNet-Lite: a plain forward pass over a published file; dilated maps hold the cells of stride 32."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weakseg.config import Network
from weakseg.model import build_model
from weakseg.model.efficientnet import EfficientNetLiteTrunk
from weakseg.model.weight_files import read_weights

# Kernel, stride, expansion and channels of Lite0's sixteen blocks, written out.
BLOCKS = [
    (3, 1, 1, 16),
    (3, 2, 6, 24), (3, 1, 6, 24),
    (5, 2, 6, 40), (5, 1, 6, 40),
    (3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80),
    (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112),
    (5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192),
    (3, 1, 6, 320),
]  # fmt: skip


def published_state() -> dict[str, Tensor]:
    """Random weights under the names of the published file, with its classifier and batch counters."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}

    def layer(convolution: str, norm: str, out: int, channels: int, kernel: int) -> None:
        scale = (2 / (channels * kernel**2)) ** 0.5
        state[f"{convolution}.weight"] = scale * torch.randn(out, channels, kernel, kernel)
        state[f"{norm}.weight"] = torch.empty(out).uniform_(0.8, 1.2)
        state[f"{norm}.bias"] = 0.2 * torch.randn(out)
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(out)
        state[f"{norm}.running_var"] = torch.empty(out).uniform_(0.7, 1.3)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("_conv_stem", "_bn0", 32, 3, 3)
    channels = 32
    for i, (kernel, _, expansion, out) in enumerate(BLOCKS):
        inner = channels * expansion
        if expansion > 1:
            layer(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", inner, channels, 1)
        layer(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", inner, 1, kernel)
        layer(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", out, inner, 1)
        channels = out
    layer("_conv_head", "_bn1", 1280, channels, 1)
    return {**state, "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def plain_forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network by its published names, layer by layer, at stride 32."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, relu6: bool = True) -> Tensor:
        weight = state[f"{convolution}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        mean, variance, scale, shift = (
            state[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / (variance + 1e-3).sqrt() * scale + shift
        return x.clamp(0, 6) if relu6 else x

    x = layer(x, "_conv_stem", "_bn0", stride=2)
    for i, (_, stride, expansion, _) in enumerate(BLOCKS):
        name, before = f"_blocks.{i}", x
        if expansion > 1:
            x = layer(x, f"{name}._expand_conv", f"{name}._bn0")
        x = layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
        x = layer(x, f"{name}._project_conv", f"{name}._bn2", relu6=False)
        if stride == 1 and x.shape == before.shape:
            x = x + before
    return layer(x, "_conv_head", "_bn1")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the package has it."""
    path = tmp_path_factory.mktemp("published") / "efficientnet-lite0.pth"
    torch.save(published_state(), path)
    return path


def trunk_of(published: Path, output_stride: int) -> EfficientNetLiteTrunk:
    trunk = EfficientNetLiteTrunk("efficientnet_lite0", output_stride=output_stride)
    state = read_weights(published, "efficientnet_lite0", "efficientnet", channel_order="RGB")
    left = trunk.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all(key.endswith("num_batches_tracked") for key in left.missing_keys)
    return trunk.train()  # its norms stay in eval mode


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_numbers_of_a_published_file_are_those_of_a_plain_forward_pass(published: Path, output_stride: int) -> None:
    x = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    expected = plain_forward(published_state(), x)
    assert expected.shape == (1, 1280, 3, 4) and expected.std() > 0.1 and expected.max() <= 6
    maps = trunk_of(published, output_stride)(x)
    step = 32 // output_stride
    assert maps.shape[2:] == (64 // output_stride + 1, 96 // output_stride + 1)
    torch.testing.assert_close(maps[:, :, ::step, ::step], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("trunk", "parameters"),
    [("efficientnet_lite0", 3_371_008), ("efficientnet_lite1", 4_135_680), ("efficientnet_lite2", 4_811_072)],
)
def test_parameters_are_those_of_the_published_networks(trunk: str, parameters: int) -> None:
    with torch.device("meta"):
        built = EfficientNetLiteTrunk(trunk, output_stride=16)
    assert sum(value.numel() for value in built.parameters()) == parameters


def test_a_fresh_trunk_keeps_the_scale_and_its_norms_stay() -> None:
    torch.manual_seed(2)
    model = build_model(Network(trunk="efficientnet_lite0", output_stride=16, head_channels=4)).train()
    assert model.training and not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        maps = model.trunk(torch.randn(1, 3, 65, 65))
    assert maps.shape == (1, 1280, 5, 5) and 0.1 < maps.std() < 3
    assert model.trunk.bound == 6 and maps.min() >= 0 and maps.max() <= 6
