"""Compact trunks for CPUs, at output stride 8 or 16 with aligned maps: MobileNet-v2, SqueezeNet 1.1 and `tiny`."""

from typing import Self

from torch import Tensor, nn
from torch.nn import functional

from weakseg.model.taps import IMAGE, Tap, run_with_taps


def dilate(module: nn.Module, output_stride: int) -> None:
    """Turn strides beyond `output_stride` into dilations, in the order of the layers, and pad 3x3 layers aligned.

    After it an input of output_stride * k + 1 pixels gives k + 1 cells, and the cells are those that the network at
    its full stride would have, with others between them (Chen et al. 2015, section 3.1).
    """
    stride, dilation = 1, 1
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            continue
        kernel = layer.kernel_size if isinstance(layer.kernel_size, int) else layer.kernel_size[0]
        steps = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
        if kernel == 1:
            continue
        own = dilation
        if steps == 2:
            if stride < output_stride:
                stride *= 2
            else:
                layer.stride = (1, 1)
                dilation *= 2
        layer.dilation = (own, own)
        layer.padding = (own * (kernel // 2),) * 2
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False


class NormsInEval(nn.Module):
    """A module whose batch norms stay in eval mode, also while it is trained."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but batch norms, which stay in eval mode."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self


class MobileNetV2Trunk(NormsInEval):
    """MobileNet-v2 without its classifier; the last map has 1280 channels in [0, 6].

    Batch norms stay in eval mode, also while training: some weights have them folded into scales and shifts, and for
    others batches of a few crops give poor statistics.
    """

    out_channels = 1280
    bound: float | None = 6.0
    taps = (IMAGE, Tap(1, 16, 2), Tap(3, 24, 4), Tap(6, 32, 8), Tap(13, 96, 16))

    def __init__(self, *, output_stride: int) -> None:
        """Build the trunk with random weights."""
        super().__init__()
        import torchvision  # takes longer to import than all else: only where it is needed

        self.features = torchvision.models.mobilenet_v2(weights=None).features
        dilate(self.features, output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) -> (N, 1280, k+1, m+1)."""
        return self.features(x)

    def with_taps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the maps of `taps`, in the same pass."""
        return run_with_taps(self.features, x, self.taps)


class SqueezeNetTrunk(nn.Module):
    """SqueezeNet 1.1 without its classifier; the last map has 512 channels.

    torchvision pads neither the first convolution nor the pools (and rounds up), so its cells drift against the input;
    here they are padded by 1, which centres cell i at pixel s*i. The weights are the same.
    """

    out_channels = 512
    bound: float | None = None
    taps = (IMAGE, Tap(1, 64, 2), Tap(4, 128, 4), Tap(7, 256, 8))

    def __init__(self, *, output_stride: int) -> None:
        """Build the trunk with random weights."""
        super().__init__()
        import torchvision  # as above

        self.features = torchvision.models.squeezenet1_1(weights=None).features
        dilate(self.features, output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) -> (N, 512, k+1, m+1)."""
        return self.features(x)

    def with_taps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the maps of `taps`, in the same pass."""
        return run_with_taps(self.features, x, self.taps)


class _Residual(nn.Module):
    """Two 3x3 convolutions with group norm and a shortcut."""

    def __init__(self, channels: int, width: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class TinyTrunk(nn.Module):
    """A small residual network for generated scenes: .5 M parameters, a last map of 192 channels in [0, 6]."""

    out_channels = 192
    bound: float | None = 6.0
    taps = (IMAGE, Tap(1, 32, 2), Tap(2, 64, 4), Tap(3, 96, 8))

    def __init__(self, *, output_stride: int) -> None:
        """Build the trunk with random weights."""
        super().__init__()
        last = 2 if output_stride == 16 else 1
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            _Residual(32, 64, stride=2, dilation=1),
            _Residual(64, 96, stride=2, dilation=1),
            _Residual(96, 96, stride=last, dilation=1 if last == 2 else 2),
            nn.Conv2d(96, self.out_channels, 1),
            nn.ReLU6(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) -> (N, 192, k+1, m+1)."""
        return self.features(x)

    def with_taps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the maps of `taps`, in the same pass."""
        return run_with_taps(self.features, x, self.taps)
