"""Mean-field inference: one entry for all backends, with the labels that cannot matter left out."""

import math
from typing import Literal

import numpy as np

from weakseg.crf.densecrf import mean_field_densecrf
from weakseg.crf.exact import mean_field_exact
from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError

Backend = Literal["fast", "pydensecrf", "exact"]
Normalization = Literal["after", "symmetric"]


def mean_field(
    unary: np.ndarray,
    image: np.ndarray,
    params: CRFParams,
    *,
    iterations: int = 10,
    backend: Backend = "fast",
    normalization: Normalization = "after",
    drop_below: float = 0.01,
) -> np.ndarray:
    """Approximate marginals Q of the fully connected CRF with a Potts model.

    Q <- softmax(-U + sum_k w_k K_k Q / K_k 1), ten parallel updates from Q = softmax(-U), self pairs included
    (Krähenbühl and Koltun 2011, Algorithm 1; DeepLab's program).

    Args:
        unary: (L+1, H, W) float32, -log probability.
        image: (H, W, 3) uint8 RGB at the same size.
        params: weights and widths.
        iterations: updates; 0 gives softmax(-U).
        backend: `pydensecrf`; `exact` (all pairs, small images); `fast`: pydensecrf on the labels that can matter.
        normalization: `after` (DeepLab) or `symmetric`.
        drop_below: backend `fast` leaves out labels whose Q is proved to stay below this together (see
            `negligible_labels`); 0 keeps all.

    Returns:
        Q, (L+1, H, W) float32; sums to 1 over labels. Labels left out have Q = 0.

    Raises:
        WeaksegError: shapes, dtypes or values that cannot be used, an unknown backend or normalisation.
    """
    _check(unary, image, iterations, normalization)
    if backend == "exact":
        return mean_field_exact(unary, image, params, iterations=iterations, normalization=normalization)
    if backend == "pydensecrf":
        return mean_field_densecrf(unary, image, params, iterations=iterations, normalization=normalization)
    if backend != "fast":
        raise WeaksegError(f"CRF: backend {backend!r} is not known; use fast, pydensecrf or exact")
    kept = ~negligible_labels(unary, params, drop_below) if normalization == "after" else np.ones(len(unary), bool)
    q = np.zeros(unary.shape, dtype=np.float32)
    if kept.sum() == 1:
        q[kept] = 1.0
    else:
        q[kept] = mean_field_densecrf(unary[kept], image, params, iterations=iterations, normalization=normalization)
    return q


def negligible_labels(unary: np.ndarray, params: CRFParams, total: float) -> np.ndarray:
    """Labels whose Q stays so small in all iterations and pixels that all of them together stay below `total`.

    Let P be a label's largest probability in the image, with p = softmax(-U). Messages are weighted means of Q, so
    lie between 0 and (w + w_pos) max Q. As sum_k p(k) exp(message of k) >= 1, the next Q of the label is at most
    p exp((w + w_pos) max Q). With m_0 = P and m_{t+1} = P exp((w + w_pos) m_t) an upper bound for all iterations
    results where this rising sequence has a limit below 1; else the label is kept. (Normalisation `after`, whose
    filters are means; the permutohedral lattice's are, too.)

    Args:
        unary: (L+1, H, W) float32, -log probability up to a constant a pixel.
        params: weights of the kernels.
        total: bound on the sum over the labels left out.

    Returns:
        (L+1,) bool, True for labels to leave out; never all of them.
    """
    shifted = unary.min(0, keepdims=True) - unary
    log_p = shifted - np.log(np.exp(shifted).sum(0, keepdims=True))
    largest = np.exp(log_p.reshape(len(unary), -1).max(1).astype(np.float64))
    limits = np.array([_limit(p, params.w + params.w_pos) for p in largest])
    order = np.argsort(limits)
    dropped = np.zeros(len(unary), dtype=bool)
    dropped[order[np.cumsum(limits[order]) < total]] = True
    return dropped


def _limit(probability: float, weight: float) -> float:
    """Limit of m <- p exp(weight m) from m = p, or 1 where it has none below 1."""
    bound = probability
    for _ in range(200):
        following = probability * math.exp(min(weight * bound, 50.0))
        if following >= 1:
            return 1.0
        if following - bound < 1e-12:
            return following
        bound = following
    return 1.0


def _check(unary: np.ndarray, image: np.ndarray, iterations: int, normalization: str) -> None:
    if unary.ndim != 3 or unary.dtype != np.float32 or 0 in unary.shape:
        raise WeaksegError(f"CRF: unary must be float32 (L+1, H, W), not empty, got {unary.dtype} {unary.shape}")
    if image.dtype != np.uint8 or image.shape != (*unary.shape[1:], 3):
        raise WeaksegError(f"CRF: image must be uint8 {(*unary.shape[1:], 3)}, got {image.dtype} {image.shape}")
    if not np.isfinite(unary).all():
        raise WeaksegError("CRF: the unary has values that are not finite; clip probabilities before the logarithm")
    if iterations < 0:
        raise WeaksegError(f"CRF: iterations must be 0 or more, got {iterations}")
    if normalization not in ("after", "symmetric"):
        raise WeaksegError(f"CRF: normalization {normalization!r} is not known; use after or symmetric")
