"""A trunk with a head, by name or description."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self, get_args

from torch import Tensor, nn

from weakseg.config import FieldOfView, Network, TrunkName
from weakseg.errors import WeaksegError
from weakseg.joint_labels import LabelView
from weakseg.labels import VOC
from weakseg.model.compact import MobileNetV2Trunk, SqueezeNetTrunk, TinyTrunk
from weakseg.model.efficientnet import SCALES, EfficientNetLiteTrunk
from weakseg.model.heads import Head
from weakseg.model.label_views import seen_by
from weakseg.model.multi_scale import MultiScale
from weakseg.model.projection import Projection, load_projection
from weakseg.model.vgg16 import Vgg16Trunk

Trunk = Vgg16Trunk | MobileNetV2Trunk | EfficientNetLiteTrunk | SqueezeNetTrunk | TinyTrunk

FIELDS_BY_SUFFIX: dict[str, FieldOfView] = {
    "smallfov": "small",
    "rate8": "rate8",
    "7x7": "seven",
    "largefov": "large",
}
"""Fields of view by what names of networks end with."""


class Segmenter(nn.Module):
    """A network that gives scores at its output stride.

    Attributes:
        trunk: image to map; `trunk.bound` is the upper bound of a map whose lower bound is 0, or None.
        projection: the map on fixed axes, or None.
        head: that, or the map itself, to scores.
        branches: multi-scale branches, whose scores are added to the head's, or None.
        output_stride: input pixels per score cell.
        view: the labels in which the network is scored, where it learnt joint labels of several data sets; None: its
            scores are of them.
        base_is_frozen: all but the branches stays in eval mode, also in training (`freeze_all_but_branches`).
    """

    def __init__(
        self,
        trunk: Trunk,
        head: Head,
        output_stride: int,
        projection: Projection | None = None,
        branches: MultiScale | None = None,
    ) -> None:
        """Join a trunk, and a head and branches that fit what they see."""
        super().__init__()
        self.trunk = trunk
        self.projection = projection
        self.head = head
        self.branches = branches
        self.output_stride = output_stride
        self.view: LabelView | None = None
        self.base_is_frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) preprocessed -> scores (N, L+1, k+1, m+1), s the output stride."""
        if self.branches is None:
            return self.head(self.features(x))
        maps, taps = self.trunk.with_taps(x)
        return self.head(self._projected(maps)) + self.branches(taps)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers; a frozen base stays in eval mode."""
        super().train(mode)
        if self.base_is_frozen:
            for name, part in self.named_children():
                part.train(mode and name == "branches")
        return self

    def features(self, x: Tensor) -> Tensor:
        """What the head sees of (N, 3, s*k+1, s*m+1): (N, C, k+1, m+1)."""
        return self._projected(self.trunk(x))

    def _projected(self, maps: Tensor) -> Tensor:
        return maps if self.projection is None else self.projection(maps)

    def own_scores(self, scores: Tensor) -> Tensor:
        """Scores of the labels in which the network is scored, of its own (N, joint labels, h, w)."""
        return seen_by(self.view, scores)

    def load_axes(self, path: str | Path) -> None:
        """Take the axes of a file that `weakseg projection` wrote; a model without a projection reads nothing.

        Raises:
            WeaksegError: no such file, or another one.
        """
        if self.projection is not None:
            self.projection.load_state_dict(load_projection(path)[0].state_dict())

    def fc_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of fc6 and fc7."""
        return self.head.fc_parameters()

    def classifier_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of fc8 and the skip classifier."""
        return self.head.classifier_parameters()

    def branch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of the multi-scale branches; none where there are no branches."""
        return iter(()) if self.branches is None else self.branches.named_parameters()


def build_model(
    network: Network | str, *, fov: FieldOfView = "large", num_labels: int = len(VOC), multi_scale: bool = False
) -> Segmenter:
    """A network with fresh weights.

    Args:
        network: its description, or a name such as `vgg16-largefov`, `vgg16-smallfov`, `vgg16-rate8`, `vgg16-7x7`,
            `mobilenet_v2-largefov`: trunk and field of view at output stride 8 with the paper's channels.
        fov: field of view, where `network` is a description.
        num_labels: L + 1; that of VOC where nothing is said.
        multi_scale: with a branch on each tap of the trunk. They are drawn last; all else starts as without them.

    Raises:
        WeaksegError: a name that is not known.
    """
    if isinstance(network, str):
        trunk_name, _, suffix = network.rpartition("-")
        known = get_args(TrunkName)
        if trunk_name not in known or suffix not in FIELDS_BY_SUFFIX:
            raise WeaksegError(
                f"network {network!r} is not known; use TRUNK-FOV, TRUNK of {', '.join(known)}, "
                f"FOV of {', '.join(FIELDS_BY_SUFFIX)}"
            )
        fov = FIELDS_BY_SUFFIX[suffix]
        network = Network(trunk=trunk_name, output_stride=8)
    trunk: Trunk
    if network.trunk == "vgg16":
        trunk = Vgg16Trunk(average_pool5a=fov == "large", output_stride=network.output_stride)
    elif network.trunk == "mobilenet_v2":
        trunk = MobileNetV2Trunk(output_stride=network.output_stride)
    elif network.trunk in SCALES:
        trunk = EfficientNetLiteTrunk(network.trunk, output_stride=network.output_stride)
    elif network.trunk == "squeezenet1_1":
        trunk = SqueezeNetTrunk(output_stride=network.output_stride)
    else:
        trunk = TinyTrunk(output_stride=network.output_stride)
    axes = network.principal_axes
    projection = None if axes is None else Projection(trunk.out_channels, axes)
    head = Head(
        axes or trunk.out_channels,
        fov=fov,
        output_stride=network.output_stride,
        num_labels=num_labels,
        channels=network.head_channels,
        fov_scale=network.fov_scale,
        dropout=network.dropout,
        skip_classifier=network.skip_classifier,
        separable_fc6=network.separable_fc6,
    )
    branches = None
    if multi_scale:
        branches = MultiScale(
            trunk.taps, output_stride=network.output_stride, num_labels=num_labels, dropout=network.dropout
        )
    return Segmenter(trunk, head, network.output_stride, projection, branches)
