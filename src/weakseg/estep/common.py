"""What all E-steps share: checks of their input and the argmax with the released tie rule."""

import torch
from torch import Tensor

from weakseg.errors import WeaksegError


def argmax_higher(scores: Tensor) -> Tensor:
    """Label of the largest score at each cell; of equal ones the HIGHER label (released E-step layer).

    Args:
        scores: (N, L+1, h, w), floating point.

    Returns:
        (N, h, w) int64.
    """
    return scores.shape[1] - 1 - scores.flip(1).argmax(1)


def check_tensor(name: str, value: object) -> None:
    """Raise WeaksegError for anything but a tensor."""
    if not isinstance(value, Tensor):
        raise WeaksegError(f"E-step: {name} must be a torch tensor, got {type(value).__name__}; see torch.from_numpy")


def check_scores(scores: Tensor) -> None:
    """Raise WeaksegError unless scores are (N, L+1, h, w), floating point, with at least one cell and two labels."""
    check_tensor("scores", scores)
    if scores.dim() != 4 or not scores.is_floating_point():
        raise WeaksegError(
            f"E-step: scores must be floating point (N, L+1, h, w), got {scores.dtype} {tuple(scores.shape)}"
        )
    if scores.shape[1] < 2 or scores.shape[2] * scores.shape[3] == 0:
        raise WeaksegError(f"E-step: scores need two labels and one cell at least, got {tuple(scores.shape)}")


def check_present(scores: Tensor, present: Tensor) -> None:
    """Raise WeaksegError unless present is (N, L+1) bool, one row an image of `scores`."""
    check_tensor("present", present)
    if present.dtype != torch.bool or present.shape != scores.shape[:2]:
        raise WeaksegError(
            f"E-step: present must be bool {tuple(scores.shape[:2])}, got {present.dtype} {tuple(present.shape)}"
        )
