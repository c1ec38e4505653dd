"""Heads: the paper's geometry, a plain twin of the forward pass, initialisation, dropout, and decimation."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from weakseg.config import FieldOfView
from weakseg.model.heads import Head, decimate_fc


@pytest.mark.parametrize(
    ("fov", "stride", "kernel", "rate", "padding", "channels"),
    [
        ("small", 8, 4, 4, 6, 4096),
        ("rate8", 8, 4, 8, 12, 4096),
        ("seven", 8, 7, 4, 12, 4096),
        ("large", 8, 3, 12, 12, 1024),
        ("small", 16, 4, 2, 3, 4096),
        ("rate8", 16, 4, 4, 6, 4096),
        ("seven", 16, 7, 2, 6, 4096),
        ("large", 16, 3, 6, 6, 1024),
    ],
)
def test_geometry(fov, stride: int, kernel: int, rate: int, padding: int, channels: int) -> None:
    with torch.device("meta"):
        head = Head(512, fov=fov, output_stride=stride, num_labels=21)
    assert isinstance(head.fc6, nn.Conv2d)
    assert head.fc6.weight.shape == (channels, 512, kernel, kernel)
    assert head.fc6.dilation == (rate, rate)
    assert head.fc6.padding == (padding, padding)
    assert head.fc7.weight.shape == (channels, channels, 1, 1)
    assert head.fc8.weight.shape == (21, channels, 1, 1)


@pytest.mark.parametrize(("fov", "step"), [("rate8", 2), ("large", 3)])
@pytest.mark.parametrize("stride", [8, 16])
@torch.no_grad()
def test_sparse_heads_are_the_7x7_head_with_the_taps_between_at_zero(fov, step: int, stride: int) -> None:
    torch.manual_seed(0)
    sparse, full = (Head(5, fov=name, output_stride=stride, num_labels=4, channels=7).eval() for name in (fov, "seven"))
    state = sparse.state_dict()
    kernel = torch.zeros(7, 5, 7, 7)
    kernel[:, :, ::step, ::step] = state["fc6.weight"]
    full.load_state_dict({**state, "fc6.weight": kernel})
    maps = torch.randn(2, 5, 15, 11)
    torch.testing.assert_close(full(maps), sparse(maps), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("fov_scale", "rates"), [(0.5, (2, 4, 2, 6)), (0.25, (2, 2, 1, 3)), (0.05, (2, 2, 1, 1))])
def test_scaled_fields_keep_the_size_of_a_map(fov_scale: float, rates: tuple[int, ...]) -> None:
    for fov, rate in zip(get_args(FieldOfView), rates, strict=True):
        head = Head(5, fov=fov, output_stride=8, num_labels=4, channels=7, fov_scale=fov_scale)
        assert head.fc6.dilation == (rate, rate)
        assert head(torch.zeros(1, 5, 6, 4)).shape == (1, 4, 6, 4)


@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_forward_is_fc6_fc7_fc8_plus_the_linear_classifier(skip: bool) -> None:
    torch.manual_seed(0)
    head = Head(5, fov="small", output_stride=8, num_labels=4, channels=7, skip_classifier=skip).eval()
    maps = torch.randn(2, 5, 6, 9)
    padded = functional.pad(maps, (6, 6, 6, 6))
    first = head.fc6.bias[None, :, None, None].repeat(2, 1, 6, 9)  # type: ignore[index]
    for row in range(4):
        for column in range(4):
            window = padded[:, :, 4 * row : 4 * row + 6, 4 * column : 4 * column + 9]
            first += torch.einsum("oc,nchw->nohw", head.fc6.weight[:, :, row, column], window)  # type: ignore[index]

    def linear(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], x) + layer.bias[None, :, None, None]  # type: ignore[index]

    scores = linear(head.fc8, linear(head.fc7, first.clamp(min=0)).clamp(min=0))
    if skip:
        assert head.skip is not None
        scores = scores + linear(head.skip, maps)
    torch.testing.assert_close(head(maps), scores, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_separable_fc6_is_the_product_of_its_two_kernels() -> None:
    torch.manual_seed(0)
    head = Head(5, fov="large", output_stride=16, num_labels=4, channels=7, separable_fc6=True)
    pointwise, depthwise = head.fc6
    torch.nn.init.normal_(depthwise.weight)
    pointwise.bias.zero_()  # padding comes between the two, so a bias would not reach the border
    whole = depthwise.weight * pointwise.weight  # (7, 1, 3, 3) * (7, 5, 1, 1)
    maps = torch.randn(1, 5, 8, 9)
    expected = functional.conv2d(maps, whole, depthwise.bias, 1, 6, 6)
    torch.testing.assert_close(head.fc6(maps), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fresh_layers_start_as_documented() -> None:
    torch.manual_seed(0)
    head = Head(64, fov="large", output_stride=8, num_labels=21, channels=512, skip_classifier=True).eval()
    assert head.skip is not None
    for layer in (head.fc8, head.skip):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not layer.bias.any()  # type: ignore[union-attr]
    # He's initialisation: the mean square after a ReLU stays, layer by layer, where the window is full
    x = torch.relu(torch.randn(1, 64, 33, 33))
    second = functional.relu(head.fc6(x))[:, :, 12:-12, 12:-12]
    third = functional.relu(head.fc7(second))
    assert second.square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.2)
    assert third.square().mean().item() == pytest.approx(second.square().mean().item(), rel=0.2)


def test_parameters_by_role_are_all_and_apart() -> None:
    head = Head(5, fov="large", output_stride=8, num_labels=4, channels=7, skip_classifier=True, separable_fc6=True)
    fc, classifier = dict(head.fc_parameters()), dict(head.classifier_parameters())
    assert not set(fc) & set(classifier)
    assert set(fc) | set(classifier) == {name for name, _ in head.named_parameters()}
    assert set(classifier) == {"fc8.weight", "fc8.bias", "skip.weight", "skip.bias"}


@torch.no_grad()
def test_dropout_is_elementwise_and_only_while_training() -> None:
    torch.manual_seed(0)
    head = Head(3, fov="large", output_stride=8, num_labels=2, channels=16, dropout=0.5)
    seen: list[torch.Tensor] = []
    head.fc7.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head.fc8.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for layer in (head.fc6, head.fc7):
        nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.ones_(layer.bias)  # type: ignore[arg-type]
    maps = torch.randn(2, 3, 10, 10)
    head.train()(maps)
    for activations in seen:  # ones, dropped or doubled
        assert set(activations.unique().tolist()) == {0.0, 2.0}
        share = (activations == 0).float()
        assert share.mean().item() == pytest.approx(0.5, abs=0.05)
        assert ((share.mean((2, 3)) > 0.2) & (share.mean((2, 3)) < 0.8)).all()  # no channel is dropped as a whole
    seen.clear()
    assert torch.equal(head.eval()(maps), head(maps))
    assert all((activations == 1).all() for activations in seen)


@pytest.mark.parametrize(
    ("fov", "taps", "every"),
    [
        ("small", [0, 2, 4, 6], 1),
        ("rate8", [0, 2, 4, 6], 1),
        ("seven", [0, 1, 2, 3, 4, 5, 6], 1),
        ("large", [0, 3, 6], 4),
    ],
)
def test_decimation_takes_the_documented_entries(fov, taps: list[int], every: int) -> None:
    rng = np.random.default_rng(0)
    fc6, fc7 = rng.random((4096, 2 * 49), dtype=np.float32), rng.random((4096, 4096), dtype=np.float32)
    bias6, bias7 = rng.random(4096, dtype=np.float32), rng.random(4096, dtype=np.float32)
    state = decimate_fc(*map(torch.from_numpy, (fc6, bias6, fc7, bias7)), fov)
    width = 4096 // every
    assert state["fc6.weight"].shape == (width, 2, len(taps), len(taps))
    assert state["fc7.weight"].shape == (width, width, 1, 1)
    for out in (0, 1, width // 2, width - 1):
        assert state["fc6.bias"][out] == bias6[every * out]
        assert state["fc7.bias"][out] == bias7[every * out]
        for channel in range(2):
            for i, row in enumerate(taps):
                for j, column in enumerate(taps):
                    flat = channel * 49 + row * 7 + column
                    assert state["fc6.weight"][out, channel, i, j] == fc6[every * out, flat]
        for source in (0, 1, width - 1):
            assert state["fc7.weight"][out, source, 0, 0] == fc7[every * out, every * source]


@pytest.mark.parametrize(("fov", "dilation"), [("small", 2), ("rate8", 2), ("seven", 1), ("large", 3)])
def test_a_7x7_kernel_that_lives_on_the_kept_taps_loses_nothing(fov, dilation: int) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4096, 2, 7, 7)
    kept = torch.zeros(7, 7)
    kept[::dilation, ::dilation] = 1
    kernel = kernel * kept
    state = decimate_fc(kernel.flatten(1), torch.zeros(4096), torch.zeros(1).expand(4096, 4096), torch.zeros(4096), fov)
    x = torch.randn(1, 2, 9, 9)
    expected = functional.conv2d(x, kernel[:: len(kernel) // len(state["fc6.weight"])])
    torch.testing.assert_close(
        functional.conv2d(x, state["fc6.weight"], dilation=dilation), expected, rtol=1e-4, atol=1e-4
    )
