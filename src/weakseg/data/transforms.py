"""Training crops on an aligned grid: where a crop lies, what it holds, and the labels at the network's score cells.

A score map of output stride s has its cells at the pixels 0, s, 2s, ... of the network's input (aligned corners), so
labels are read at exactly these pixels and never averaged (DeepLab v1 release, train.prototxt).
"""

from dataclasses import dataclass

import numpy as np

from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE


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


def crop_places(
    size: tuple[int, ...], side: int, image_scale: float, stride: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns at which a crop of a photo can begin, in network pixels, each from 0.

    Args:
        size: height and width of the photo in its own pixels.
        side: side of the crop in network pixels.
        image_scale: factor on the photo's sides.
        stride: output stride.
        step: crops begin at multiples of so many pixels: the stride where maps of a frozen trunk are cropped, which
            cover the photo padded to whole cells.
    """
    seen = scaled_size(size, image_scale)
    padded = seen if step == 1 else tuple(padded_size(length, stride) for length in seen)
    tops, lefts = (np.arange(max(0, length - side) // step + 1) * step for length in padded)
    return tops, lefts


def random_window(rng: np.random.Generator, places: tuple[np.ndarray, np.ndarray], side: int) -> CropWindow:
    """A window at one of the places of `crop_places`, each as likely, mirrored with probability one half.

    Args:
        rng: source of randomness; how much is drawn depends on the number of places.
        places: rows and columns at which it can begin.
        side: side of the crop in pixels.
    """
    top, left = (int(choices[rng.integers(0, len(choices))]) for choices in places)
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
