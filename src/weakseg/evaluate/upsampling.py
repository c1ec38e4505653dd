"""From score cells to the photo's pixels, without the network's library: what reads scores need not wait for it."""

import numpy as np

from weakseg.data.transforms import padded_size, scaled_size
from weakseg.errors import WeaksegError


def upsample_scores(scores: np.ndarray, size: tuple[int, int], *, stride: int, image_scale: float = 1.0) -> np.ndarray:
    """Scores at the photo's own pixels.

    The map of the padded photo is interpolated bilinearly with aligned corners to network pixels (each cell to its
    own pixel), cropped to the photo and, where the network saw it scaled, resampled to its own size. All steps are
    linear in rows and in columns, so they are done as one product with a matrix on each side.

    Args:
        scores: (L+1, h, w) float.
        size: height and width of the photo in pixels.
        stride: output stride.
        image_scale: factor at which the network saw the photo.

    Returns:
        (L+1, H, W) float32.

    Raises:
        WeaksegError: the map's size does not belong to this photo.
    """
    seen = scaled_size(size, image_scale)
    cells = tuple((padded_size(side, stride) - 1) // stride + 1 for side in seen)
    if scores.ndim != 3 or scores.shape[1:] != cells:
        raise WeaksegError(f"scores {scores.shape} do not belong to a photo of {size}: {cells} cells expected")
    rows, columns = (_weights(np.arange(shown) / stride, count) for shown, count in zip(seen, cells, strict=True))
    if seen != tuple(size):
        rows, columns = (
            # pixel centres on pixel centres
            _weights((np.arange(own) + 0.5) * shown / own - 0.5, shown) @ matrix
            for own, shown, matrix in zip(size, seen, (rows, columns), strict=True)
        )
    return rows.astype(np.float32) @ (scores.astype(np.float32) @ columns.T.astype(np.float32))


def _weights(positions: np.ndarray, count: int) -> np.ndarray:
    """Matrix (n, count) that interpolates `count` values at 0, 1, ... linearly at n positions, the ends held."""
    positions = positions.clip(0, count - 1)
    lower = np.minimum(positions.astype(int), max(count - 2, 0))
    upper = np.minimum(lower + 1, count - 1)
    share = positions - lower
    matrix = np.zeros((len(positions), count))
    at = np.arange(len(positions))
    matrix[at, lower] = 1 - share
    matrix[at, upper] += share
    return matrix
