"""Multi-scale branches (MSc): classifiers on the image and on maps inside the trunk, added to the head's scores.

A branch is a 3x3 convolution to 128 channels, a 1x1 convolution to 128 channels, each with ReLU and dropout, and a 1x1
classifier (Chen et al. 2015, section 4 on multi-scale prediction). Its first convolution strides to the head's cells:
cell i of each is centred at pixel s * i, s the output stride. The scores of all branches and fc8's are summed before
the softmax, which is a classifier on all their maps side by side.

The authors train the branches alone, on a base that has learnt already: see `freeze_all_but_branches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from weakseg.model.dropout import Dropout
from weakseg.model.heads import classifier, without_autocast
from weakseg.model.taps import Tap

if TYPE_CHECKING:
    from weakseg.model.segmenter import Segmenter

CHANNELS = 128
"""Of both convolutions of a branch."""

DEVIATION = 0.001
"""Of the Gaussian that a fresh branch's two convolutions are drawn from; their biases are 0."""


class Branch(nn.Module):
    """One map to scores."""

    def __init__(self, channels: int, *, stride: int, num_labels: int, dropout: float = 0.5) -> None:
        """Build a branch with fresh weights.

        The classifier starts as fc8 does, from a Gaussian of standard deviation .01 with bias 0.

        Args:
            channels: of the map it sees.
            stride: cells of that map from one score cell to the next.
            num_labels: L + 1.
            dropout: elementwise probability.
        """
        super().__init__()
        self.conv_a = _gaussian(nn.Conv2d(channels, CHANNELS, 3, stride, padding=1))
        self.conv_b = _gaussian(nn.Conv2d(CHANNELS, CHANNELS, 1))
        self.classifier = classifier(CHANNELS, num_labels)
        self.relu = nn.ReLU()
        self.dropout = Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, t*k+1, t*m+1) -> float32 scores (N, L+1, k+1, m+1), t the branch's stride."""
        x = self.dropout(self.relu(self.conv_a(maps)))
        x = self.dropout(self.relu(self.conv_b(x)))
        with without_autocast(maps.device):
            return self.classifier(x.float())


class MultiScale(nn.Module):
    """A branch on each tap of a trunk."""

    def __init__(self, taps: Sequence[Tap], *, output_stride: int, num_labels: int, dropout: float = 0.5) -> None:
        """Build the branches with fresh weights.

        Args:
            taps: of the trunk, in the order in which it gives their maps.
            output_stride: 8 or 16.
            num_labels: L + 1.
            dropout: elementwise probability.
        """
        super().__init__()
        self.branches = nn.ModuleList(
            Branch(
                tap.channels,
                stride=output_stride // min(tap.stride, output_stride),
                num_labels=num_labels,
                dropout=dropout,
            )
            for tap in taps
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The map of each tap -> the sum of the branches' scores, (N, L+1, k+1, m+1) float32."""
        first, *others = (branch(seen) for branch, seen in zip(self.branches, maps, strict=True))
        return sum(others, start=first)

    def convolution_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of the branches' two convolutions."""
        return ((n, p) for n, p in self.named_parameters() if ".classifier." not in n)

    def classifier_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of the branches' classifiers."""
        return ((n, p) for n, p in self.named_parameters() if ".classifier." in n)


def freeze_all_but_branches(model: Segmenter) -> None:
    """Let nothing but the branches learn; trunk, projection and head keep what they have learnt.

    Parameters of the base need no gradient from now on, and the base is in eval mode: `model.train()` then sets the
    branches alone to train mode, so that their dropout is active and the base gives the scores that it is evaluated by.

    Raises:
        ValueError: a network without branches.
    """
    if model.branches is None:
        raise ValueError("a network without multi-scale branches has nothing left to learn")
    model.requires_grad_(False)
    model.branches.requires_grad_(True)
    model.base_is_frozen = True
    model.train(model.training)


def _gaussian(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(layer.weight, 0.0, DEVIATION)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
