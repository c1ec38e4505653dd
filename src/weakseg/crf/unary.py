"""The CRF's unary term, -log probability, from scores or probabilities."""

import numpy as np

from weakseg.errors import WeaksegError


def unary_from_scores(scores: np.ndarray) -> np.ndarray:
    """-log softmax over labels up to a constant of each pixel, which no result depends on: the scores' opposite.

    Args:
        scores: (L+1, H, W) float, unnormalised log-probabilities.

    Returns:
        (L+1, H, W) float32.
    """
    return np.negative(scores, dtype=np.float32)


def unary_from_probabilities(probabilities: np.ndarray, *, epsilon: float = 1e-12) -> np.ndarray:
    """-log of probabilities, none taken below `epsilon`.

    The default keeps the hard terms of Bbox-Seg (27.6); pydensecrf's own helper clips at 1e-5, which softens them.

    Args:
        probabilities: (L+1, H, W), 0..1.
        epsilon: lowest probability, positive.

    Returns:
        (L+1, H, W) float32.

    Raises:
        WeaksegError: values outside [0, 1], or epsilon not positive.
    """
    if epsilon <= 0 or not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise WeaksegError("CRF: probabilities must lie in [0, 1] and epsilon must be positive")
    return -np.log(np.maximum(probabilities, epsilon)).astype(np.float32)
