"""The VGG-16 trunk of DeepLab at output stride 8 (Chen et al. 2015, section 3.1; DeepLab v1 release)."""

from torch import Tensor, nn

from weakseg.errors import WeaksegError
from weakseg.model.taps import IMAGE, Tap, run_with_taps

# Channels of each block's convolutions, stride of its pool, dilation of its convolutions.
_BLOCKS = (
    ((64, 64), 2, 1),
    ((128, 128), 2, 1),
    ((256, 256, 256), 2, 1),
    ((512, 512, 512), 1, 1),
    ((512, 512, 512), 1, 2),
)


class Vgg16Trunk(nn.Module):
    """conv1_1 .. pool5, fully convolutional: 3x3 pools with padding 1, the last two at stride 1, conv5 dilated by 2.

    Convolutions carry torchvision's names (`features.0`, `features.2`, ...), so its weights load as they are. Inputs
    of 8k + 1 pixels give k + 1 cells: 321 -> 41, 513 -> 65.
    """

    out_channels = 512
    bound: float | None = None
    taps = (IMAGE, Tap(4, 64, 2), Tap(9, 128, 4), Tap(16, 256, 8), Tap(23, 512, 16))
    """The image and pool1 .. pool4 (Chen et al. 2015, section 4 on multi-scale prediction)."""

    def __init__(self, *, average_pool5a: bool, output_stride: int = 8) -> None:
        """Build the trunk; `average_pool5a` adds LargeFOV's 3x3 average, whose denominator counts the padding."""
        super().__init__()
        if output_stride != 8:
            raise WeaksegError(f"trunk vgg16: output stride {output_stride} is not built; use 8")
        layers: list[nn.Module] = []
        channels = 3
        for widths, stride, dilation in _BLOCKS:
            for width in widths:
                layers.append(nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(3, stride=stride, padding=1))
        self.features = nn.Sequential(*layers)
        self.pool5a = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=True) if average_pool5a else nn.Identity()
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 8k+1, 8m+1) -> (N, 512, k+1, m+1)."""
        return self.pool5a(self.features(x))

    def with_taps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the maps of `taps`: for 8k + 1 pixels 8k + 1, 4k + 1, 2k + 1, k + 1 and k + 1 cells."""
        maps, seen = run_with_taps(self.features, x, self.taps)
        return self.pool5a(maps), seen
