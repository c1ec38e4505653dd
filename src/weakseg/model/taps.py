"""Taps: the maps inside a trunk that multi-scale branches see, beside its last one.

A trunk is `features`, a sequence of layers, and what may follow it. Its taps are the image and the map after some
layers of that sequence: of a compact trunk the last map of each stage but the last, a stage being the layers between
two strides of the network at its full stride. VGG-16's are its first four pools.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Tap(NamedTuple):
    """A map inside a trunk."""

    layer: int
    """Position in `features` of the layer that gives it; -1: the image."""
    channels: int
    stride: int
    """Pixels from one cell to the next where nothing is dilated; the output stride is the most that it has."""


IMAGE = Tap(-1, 3, 1)
"""The image as the trunk takes it."""


def run_with_taps(features: nn.Sequential, x: Tensor, taps: Sequence[Tap]) -> tuple[Tensor, list[Tensor]]:
    """One pass of a sequence that keeps what its taps see.

    Args:
        features: the layers; none may change in place what the layer of a tap gave.
        x: (N, 3, s*k+1, s*m+1).
        taps: in any order.

    Returns:
        What the last layer gives, and the map of each tap.
    """
    wanted = {tap.layer for tap in taps}
    seen = {IMAGE.layer: x}
    for position, layer in enumerate(features):
        x = layer(x)
        if position in wanted:
            seen[position] = x
    return x, [seen[tap.layer] for tap in taps]
