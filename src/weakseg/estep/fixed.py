"""EM-Fixed: constant biases for the labels that occur in the image (Papandreou et al. 2015, Algorithm 1)."""

import torch
from torch import Tensor

from weakseg.errors import WeaksegError
from weakseg.estep.common import argmax_higher, check_present, check_scores


@torch.no_grad()
def em_fixed(scores: Tensor, present: Tensor, *, bg_bias: float, fg_bias: float) -> Tensor:
    """Label map of the biased scores: f(l) + b_l for present labels l, f(l) for absent ones.

    Absent labels are not suppressed (Algorithm 1, and the released E-step layer); the biases only favour the
    present ones. Published pairs: b_bg 3 with b_fg 5 (the paper), 5 with 6 (first text and released code).

    Args:
        scores: (N, L+1, h, w) unnormalised log-probabilities; label 0 is the background.
        present: (N, L+1) bool, whether a label occurs in the crop.
        bg_bias: b_bg, added to the background's scores where `present[:, 0]`.
        fg_bias: b_fg, added to the scores of present foreground labels; b_fg > b_bg > 0.

    Returns:
        (N, h, w) int64; of equal biased scores the higher label.

    Raises:
        WeaksegError: shapes or dtypes do not fit, or a bias is negative.
    """
    check_scores(scores)
    check_present(scores, present)
    if bg_bias < 0 or fg_bias < 0:
        raise WeaksegError(f"em_fixed: biases must not be negative, got bg_bias {bg_bias}, fg_bias {fg_bias}")
    bias = present.to(scores.dtype) * fg_bias
    bias[:, 0] = present[:, 0].to(scores.dtype) * bg_bias
    return argmax_higher(scores + bias[:, :, None, None])
