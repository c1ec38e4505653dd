"""The trunks of EfficientNet-Lite at output stride 8 or 16 (Tan and Le 2019, table 1; the Lite variant of 2020).

Lite leaves squeeze-and-excitation out and takes ReLU6 in place of swish, so that maps are bounded. Stem, first and last
stage and the last 1x1 convolution are not widened or deepened.
"""

import math
from typing import NamedTuple

from torch import Tensor, nn

from weakseg.model.compact import NormsInEval, dilate
from weakseg.model.taps import IMAGE, Tap, run_with_taps


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# The seven stages of EfficientNet-B0 and Lite0.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32

SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""Factors on channels and on repeats by trunk."""


class EfficientNetLiteTrunk(NormsInEval):
    """EfficientNet-Lite without its classifier; the last map has 1280 channels in [0, 6].

    Layers are padded by half their kernel at every stride. The original network pads as TensorFlow does, which is the
    same for inputs of 32k + 1 pixels. Batch norms stay in eval mode, also while training: batches of a few crops give
    poor statistics.
    """

    out_channels = 1280
    bound: float | None = 6.0

    def __init__(self, name: str, *, output_stride: int) -> None:
        """Build the trunk `efficientnet_lite0`, `1` or `2` with random weights."""
        super().__init__()
        width, depth = SCALES[name]
        layers: list[nn.Module] = [_convolution(3, _STEM_CHANNELS, 3, stride=2)]
        channels, full_stride = _STEM_CHANNELS, 2
        taps = [IMAGE]
        for position, stage in enumerate(_STAGES):
            if stage.stride == 2:
                taps.append(Tap(len(layers) - 1, channels, full_stride))
                full_stride *= 2
            ends = position in (0, len(_STAGES) - 1)
            repeats = stage.repeats if ends else math.ceil(stage.repeats * depth)
            widened = _rounded(stage.channels * width)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                layers.append(_Block(channels, widened, stage.kernel, stride=stride, expansion=stage.expansion))
                channels = widened
        layers.append(_convolution(channels, self.out_channels, 1))
        self.taps = tuple(taps)
        self.features = nn.Sequential(*layers)
        dilate(self.features, output_stride)
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) -> (N, 1280, k+1, m+1)."""
        return self.features(x)

    def with_taps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the maps of `taps`, in the same pass."""
        return run_with_taps(self.features, x, self.taps)


class _Block(nn.Module):
    """A mobile inverted bottleneck: 1x1 up, depthwise, 1x1 down without activation; a shortcut where shapes allow."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _convolution(channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _convolution(inner, out, 1, activation=False)
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = self.project(self.depthwise(self.expand(x)))
        return x + inner if self.has_shortcut else inner


def _convolution(
    channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution and batch norm, then ReLU6 unless it is left out."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=1e-3),
    ]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if activation else nn.Sequential(*layers)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but not less than 90 % of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
