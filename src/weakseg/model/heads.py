"""DeepLab's heads: fc6 -> ReLU -> dropout -> fc7 -> ReLU -> dropout -> fc8, at four fields of view.

| variant | fc6 kernel | rate | padding | channels | nominal field, pixels |
|---|---|---|---|---|---|
| `small` | 4x4 | 4 | 6 | 4096 | 128 |
| `rate8` | 4x4 | 8 | 12 | 4096 | 224 |
| `seven` | 7x7 | 4 | 12 | 4096 | 224 |
| `large` | 3x3 | 12 | 12 | 1024 | 224 |

(Chen et al. 2015, section 4 on the field of view; DeepLab v1 release, train.prototxt of DeepLab and DeepLab-LargeFOV.)
Rates are those of output stride 8; at stride 16 they are halved, so that the field of view in pixels stays.
`weakseg.model.receptive_field` says what the nominal field is.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakseg.config import FieldOfView
from weakseg.model.dropout import Dropout


@dataclass(frozen=True)
class HeadGeometry:
    """Kernel, rate at output stride 8 and channels of fc6."""

    kernel: int
    rate: int
    channels: int


GEOMETRY: dict[FieldOfView, HeadGeometry] = {
    "small": HeadGeometry(4, 4, 4096),
    "rate8": HeadGeometry(4, 8, 4096),
    "seven": HeadGeometry(7, 4, 4096),
    "large": HeadGeometry(3, 12, 1024),
}

FC_SHAPES = {
    "classifier.0.weight": (4096, 512 * 7 * 7),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
}
"""VGG-16's fc6 and fc7 in torchvision's layout, in the order of `decimate_fc`'s arguments."""

REDUCED_FC_SHAPES = {
    "fc6.weight": (1024, 512, 3, 3),
    "fc6.bias": (1024,),
    "fc7.weight": (1024, 1024, 1, 1),
    "fc7.bias": (1024,),
}
"""fc6 and fc7 of the fc-reduced VGG-16, by the large field of view's own keys."""


class Head(nn.Module):
    """Trunk map to scores; with `skip_classifier` a linear classifier on the trunk's map is added to fc8.

    fc6 and fc7 start from He's normal initialisation (variance 2 / fan-in, biases 0) unless weights are loaded, which
    keeps the scale of activations through the two ReLUs; fc8 and the skip classifier from a Gaussian of standard
    deviation .01 with bias 0 (DeepLab v1 release).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        fov: FieldOfView,
        output_stride: int,
        num_labels: int,
        channels: int | None = None,
        fov_scale: float = 1.0,
        dropout: float = 0.5,
        skip_classifier: bool = False,
        separable_fc6: bool = False,
    ) -> None:
        """Build a head.

        Args:
            in_channels: channels of the trunk's map.
            fov: one of the table's variants.
            output_stride: 8 or 16.
            num_labels: L + 1.
            channels: of fc6 and fc7; None: the paper's.
            fov_scale: factor on fc6's rate.
            dropout: elementwise probability.
            skip_classifier: add a linear classifier on the trunk's map.
            separable_fc6: fc6 as a 1x1 convolution and a dilated depthwise kernel.
        """
        super().__init__()
        geometry = GEOMETRY[fov]
        width = channels or geometry.channels
        even = 2 - geometry.kernel % 2  # an even kernel keeps the map's size at even rates only
        rate = even * max(1, round(geometry.rate * fov_scale * 8 / output_stride / even))
        padding = rate * (geometry.kernel - 1) // 2
        spatial = dict(kernel_size=geometry.kernel, padding=padding, dilation=rate)
        self.fc6: nn.Module
        if separable_fc6:
            depthwise = nn.Conv2d(width, width, groups=width, **spatial)  # type: ignore[arg-type]
            # A mean over the window to start with, so that features keep their scale. The 1x1 convolution comes first:
            # the wide map is then read once, and needs no gradient where the trunk is frozen.
            nn.init.constant_(depthwise.weight, 1 / geometry.kernel**2)
            nn.init.zeros_(depthwise.bias)  # type: ignore[arg-type]
            self.fc6 = nn.Sequential(_he(nn.Conv2d(in_channels, width, 1)), depthwise)
        else:
            self.fc6 = _he(nn.Conv2d(in_channels, width, **spatial))  # type: ignore[arg-type]
        self.fc7 = _he(nn.Conv2d(width, width, 1))
        self.fc8 = classifier(width, num_labels)
        self.skip = classifier(in_channels, num_labels) if skip_classifier else None
        self.relu = nn.ReLU()
        self.dropout = Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) -> scores (N, L+1, h, w)."""
        x = self.dropout(self.relu(self.fc6(maps)))
        x = self.dropout(self.relu(self.fc7(x)))
        # Scores are single precision, whatever the layers before: an E-step compares them, and rounded ones are equal.
        with without_autocast(maps.device):
            scores = self.fc8(x.float())
            return scores if self.skip is None else scores + self.skip(maps.float())

    def fc_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of fc6 and fc7."""
        return ((n, p) for n, p in self.named_parameters() if n.startswith(("fc6.", "fc7.")))

    def classifier_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of fc8 and the skip classifier."""
        return ((n, p) for n, p in self.named_parameters() if n.startswith(("fc8.", "skip.")))


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which nothing is cast to a lower precision; tensors without values are cast nowhere."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _he(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def classifier(channels: int, num_labels: int) -> nn.Conv2d:
    """A fresh 1x1 convolution to scores: a Gaussian of standard deviation .01, bias 0 (DeepLab v1 release)."""
    layer = nn.Conv2d(channels, num_labels, 1)
    nn.init.normal_(layer.weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


@torch.no_grad()
def decimate_fc(
    fc6_weight: Tensor, fc6_bias: Tensor, fc7_weight: Tensor, fc7_bias: Tensor, fov: FieldOfView
) -> dict[str, Tensor]:
    """fc6 and fc7 of a head from VGG-16's own fully connected layers.

    The 7x7 kernel is decimated to evenly spaced taps: 0, 2, 4, 6 for 4x4, whatever its rate; 0, 3, 6 for 3x3; all for
    7x7. Large FOV also keeps every fourth of the 4096 filters (Chen et al. 2015, section 3.1).

    Args:
        fc6_weight: (4096, 512 * 7 * 7), `classifier.0.weight` of torchvision's layout.
        fc6_bias: (4096,).
        fc7_weight: (4096, 4096), `classifier.3.weight`.
        fc7_bias: (4096,).
        fov: which head.

    Returns:
        State of `fc6` and `fc7` by key; where nothing is left out, it shares the memory of what was given.
    """
    geometry = GEOMETRY[fov]
    step = 6 // (geometry.kernel - 1)
    keep = slice(None, None, len(fc6_weight) // geometry.channels)
    kernel = fc6_weight.view(len(fc6_weight), -1, 7, 7)
    return {
        "fc6.weight": kernel[keep, :, ::step, ::step].contiguous(),
        "fc6.bias": fc6_bias[keep].clone(),
        "fc7.weight": fc7_weight[keep, keep][:, :, None, None].contiguous(),
        "fc7.bias": fc7_bias[keep].clone(),
    }
