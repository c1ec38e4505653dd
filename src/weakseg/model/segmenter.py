"""A trunk with a head, by name or description."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from torch import Tensor, nn

from weakseg.config import Network, TrunkName
from weakseg.errors import WeaksegError
from weakseg.joint_labels import LabelView
from weakseg.labels import VOC
from weakseg.model.compact import MobileNetV2Trunk, SqueezeNetTrunk, TinyTrunk
from weakseg.model.efficientnet import SCALES, EfficientNetLiteTrunk
from weakseg.model.heads import FieldOfView, Head
from weakseg.model.label_views import seen_by
from weakseg.model.projection import Projection, load_projection
from weakseg.model.vgg16 import Vgg16Trunk

Trunk = Vgg16Trunk | MobileNetV2Trunk | EfficientNetLiteTrunk | SqueezeNetTrunk | TinyTrunk


class Segmenter(nn.Module):
    """A network that gives scores at its output stride.

    Attributes:
        trunk: image to map; `trunk.bound` is the upper bound of a map whose lower bound is 0, or None.
        projection: the map on fixed axes, or None.
        head: that, or the map itself, to scores.
        output_stride: input pixels per score cell.
        view: the labels in which the network is scored, where it learnt joint labels of several data sets; None: its
            scores are of them.
    """

    def __init__(self, trunk: Trunk, head: Head, output_stride: int, projection: Projection | None = None) -> None:
        """Join a trunk and a head that fits what it sees."""
        super().__init__()
        self.trunk = trunk
        self.projection = projection
        self.head = head
        self.output_stride = output_stride
        self.view: LabelView | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, s*k+1, s*m+1) preprocessed -> scores (N, L+1, k+1, m+1), s the output stride."""
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the head sees of (N, 3, s*k+1, s*m+1): (N, C, k+1, m+1)."""
        maps = self.trunk(x)
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


def build_model(network: Network | str, *, fov: FieldOfView = "large", num_labels: int = len(VOC)) -> Segmenter:
    """A network with fresh weights.

    Args:
        network: its description, or a name such as `vgg16-largefov`, `vgg16-smallfov`, `mobilenet_v2-largefov`: trunk
            and field of view at output stride 8 with the paper's channels.
        fov: field of view, where `network` is a description.
        num_labels: L + 1; that of VOC where nothing is said.

    Raises:
        WeaksegError: a name that is not known.
    """
    if isinstance(network, str):
        trunk_name, _, suffix = network.rpartition("-")
        known = get_args(TrunkName)
        if trunk_name not in known or suffix not in ("largefov", "smallfov"):
            raise WeaksegError(
                f"network {network!r} is not known; use TRUNK-largefov or TRUNK-smallfov, TRUNK of {known}"
            )
        fov = "large" if suffix == "largefov" else "small"
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
    return Segmenter(trunk, head, network.output_stride, projection)
