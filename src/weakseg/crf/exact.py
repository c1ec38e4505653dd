"""Mean field with every pair of pixels: slow, exact, for small images and for tests."""

import numpy as np

from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError

MAX_PIXELS = 64 * 64
"""Largest image; the kernels are dense (pixels x pixels) matrices."""


def gaussian_kernel(features: np.ndarray) -> np.ndarray:
    """exp(-|a - b|^2 / 2) between all rows of (n, d) features, self pairs included; (n, n) float64."""
    distances = np.zeros((len(features), len(features)))
    for column in features.T:
        distances += (column[:, None] - column[None, :]) ** 2
    return np.exp(-0.5 * distances)


def kernels(image: np.ndarray, params: CRFParams) -> list[tuple[float, np.ndarray]]:
    """(weight, kernel matrix) of the bilateral and the position kernel of an (H, W, 3) image."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
    colours = image.reshape(-1, 3).astype(np.float64) / params.sigma_rgb
    position = np.stack([y, x], 1)
    return [
        (params.w, gaussian_kernel(np.concatenate([position / params.sigma_xy, colours], 1))),
        (params.w_pos, gaussian_kernel(position / params.sigma_pos)),
    ]


def mean_field_exact(
    unary: np.ndarray,
    image: np.ndarray,
    params: CRFParams,
    *,
    iterations: int,
    normalization: str,
    compatibility: np.ndarray | None = None,
) -> np.ndarray:
    """Q of the plain algorithm; arguments as in `weakseg.crf.mean_field`.

    Raises:
        WeaksegError: more than 4,096 pixels.
    """
    labels, height, width = unary.shape
    if height * width > MAX_PIXELS:
        raise WeaksegError(f"CRF: backend exact takes {MAX_PIXELS} pixels at most, got {height}x{width}")
    energy = unary.reshape(labels, -1).astype(np.float64)
    weighted = kernels(image, params)
    q = _softmax(-energy)
    for _ in range(iterations):
        message = np.zeros_like(q)
        for weight, kernel in weighted:
            ones = kernel.sum(1)
            if normalization == "after":
                message += weight * (q @ kernel) / ones
            else:
                root = 1 / np.sqrt(ones)
                message += weight * ((q * root) @ kernel) * root
        if compatibility is not None:
            message = -compatibility.astype(np.float64) @ message
        q = _softmax(message - energy)
    return q.reshape(labels, height, width).astype(np.float32)


def _softmax(values: np.ndarray) -> np.ndarray:
    shifted = np.exp(values - values.max(0, keepdims=True))
    return shifted / shifted.sum(0, keepdims=True)
