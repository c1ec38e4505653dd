"""The classes of PASCAL VOC 2012, the ignore value and the palette of its index masks."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

Value = TypeVar("Value")

CLASSES: tuple[str, ...] = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Class names by label, in the order of the VOC development kit; label 0 is the background."""

NUM_LABELS = len(CLASSES)
"""L + 1 = 21: twenty foreground classes and the background."""

BACKGROUND = 0
"""Label of the background."""

IGNORE = 255
"""Label of void pixels: neither trained nor scored."""


def by_class(values: Iterable[Value]) -> dict[str, Value]:
    """Class name to value, for L + 1 values in the order of the labels."""
    return dict(zip(CLASSES, values, strict=True))


def palette() -> np.ndarray:
    """RGB colours of the VOC index masks, shape (256, 3), uint8.

    The three lowest bits of a label go to the highest bits of R, G and B, the next three below them, and so
    on (VOC development kit, `VOClabelcolormap`).
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((labels >> channel) & 1) << (7 - bit)).astype(np.uint8)
        labels = labels >> 3
    return colours
