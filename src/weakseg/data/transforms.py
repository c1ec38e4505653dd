"""Training crops on an aligned grid: where a crop lies, what it holds, and the labels at the network's score cells.

A score map of output stride s has its cells at the pixels 0, s, 2s, ... of the network's input (aligned corners), so
labels are read at exactly these pixels and never averaged (DeepLab v1 release, train.prototxt).
"""

from dataclasses import dataclass

import numpy as np

from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE, NUM_LABELS


@dataclass(frozen=True)
class CropWindow:
    """A square window in network pixels and whether it is mirrored.

    Attributes:
        top, left: first row and column, within the photo or 0 where the photo is smaller than the crop.
        side: side in pixels, stride * k + 1.
        mirrored: whether the columns of the padded crop are reversed.
    """

    top: int
    left: int
    side: int
    mirrored: bool


def padded_size(size: int, stride: int) -> int:
    """The smallest stride * k + 1 that is not below `size` (pixels)."""
    if size < 1 or stride < 1:
        raise WeaksegError(f"padded_size: size and stride must be positive, got {size} and {stride}")
    return -(-(size - 1) // stride) * stride + 1


def scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Height and width in network pixels of a photo of `size` (height, width, ...) shown at `scale`."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def random_window(rng: np.random.Generator, size: tuple[int, ...], side: int, *, step: int = 1) -> CropWindow:
    """A uniformly drawn window, mirrored with probability one half.

    Args:
        rng: source of randomness; three draws whatever the size.
        size: height and width of the photo in network pixels.
        side: side of the crop in pixels.
        step: offsets are multiples of this (the stride, where maps of a frozen trunk are cropped).
    """
    tops = max(0, size[0] - side) // step
    lefts = max(0, size[1] - side) // step
    top = int(rng.integers(0, tops + 1)) * step
    left = int(rng.integers(0, lefts + 1)) * step
    return CropWindow(top, left, side, bool(rng.random() < 0.5))


def pad_crop(values: np.ndarray, window: CropWindow, fill: np.ndarray | float) -> np.ndarray:
    """Cut the window out of (H, W) or (H, W, C) values; what lies outside the photo is `fill`; then mirror."""
    cut = values[window.top : window.top + window.side, window.left : window.left + window.side]
    out = np.empty((window.side, window.side, *values.shape[2:]), dtype=values.dtype)
    if cut.shape[:2] != out.shape[:2]:
        out[...] = fill
    out[: cut.shape[0], : cut.shape[1]] = cut
    return out[:, ::-1] if window.mirrored else out


def grid_of_crop(labels: np.ndarray, stride: int) -> np.ndarray:
    """Labels of a padded crop (side, side) at the score cells 0, stride, 2 * stride, ..."""
    return labels[::stride, ::stride]


def grid_of_image(labels: np.ndarray, stride: int) -> np.ndarray:
    """Labels of a whole image (H, W) at its score cells 0, stride, ...; cells beyond the image are void (255)."""
    rows, columns = (padded_size(size, stride) - size for size in labels.shape)
    return np.pad(labels, ((0, rows), (0, columns)), constant_values=IGNORE)[::stride, ::stride]


def present_labels(labels: np.ndarray) -> np.ndarray:
    """Which of the 21 labels occur in a label map, void left out; shape (21,), bool."""
    counts = np.bincount(labels.reshape(-1), minlength=256)
    if counts[NUM_LABELS:IGNORE].any():
        raise WeaksegError(f"label {NUM_LABELS + int(counts[NUM_LABELS:IGNORE].argmax())} is not a label of VOC")
    return counts[:NUM_LABELS] > 0


def scale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """Labels (H, W) as seen at `scale`: pixel i shows the label at the photo's (i + .5) / scale - .5, rounded."""
    if scale == 1.0:
        return labels
    height, width = scaled_size(labels.shape, scale)
    rows, columns = (
        np.clip(np.round((np.arange(n) + 0.5) / scale - 0.5).astype(int), 0, size - 1)
        for n, size in zip((height, width), labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
