"""Bbox-EM-Fixed: constant biases by the box at each cell (Papandreou et al. 2015, section 3.3)."""

import torch
from torch import Tensor

from weakseg.errors import WeaksegError
from weakseg.estep.common import argmax_higher, check_scores, check_tensor
from weakseg.labels import BACKGROUND, IGNORE


@torch.no_grad()
def bbox_em_fixed(scores: Tensor, box_map: Tensor, *, bg_bias: float, fg_bias: float) -> Tensor:
    """Label map of scores that favour the box's class at each cell: f(0) + b_bg everywhere, f(c) + b_fg in boxes of c.

    The background is favoured within boxes too, the box's class on top of it; where boxes overlap the smaller one
    counts. Cells without evidence (255, padding) keep their scores. Absent labels are not suppressed. (Released
    configuration of the box experiments: b_bg 5, b_fg 6.)

    Args:
        scores: (N, L+1, h, w) unnormalised log-probabilities; label 0 is the background.
        box_map: (N, h, w) int64, Bbox-Rect's map at the score cells: 0..L, 255 for no evidence.
        bg_bias: b_bg, 0 or more.
        fg_bias: b_fg, 0 or more.

    Returns:
        (N, h, w) int64; of equal biased scores the higher label.

    Raises:
        WeaksegError: shapes, dtypes or labels do not fit, or a bias is negative.
    """
    check_scores(scores)
    check_tensor("box_map", box_map)
    expected = (scores.shape[0], *scores.shape[2:])
    if box_map.dtype != torch.int64 or tuple(box_map.shape) != expected:
        raise WeaksegError(f"E-step: box_map must be int64 {expected}, got {box_map.dtype} {tuple(box_map.shape)}")
    if bg_bias < 0 or fg_bias < 0:
        raise WeaksegError(f"bbox_em_fixed: biases must not be negative, got bg_bias {bg_bias}, fg_bias {fg_bias}")
    known = box_map != IGNORE
    if not box_map.is_cuda:  # there a look would wait for the GPU, and the scatter below fails by itself
        wrong = known & ((box_map < 0) | (box_map >= scores.shape[1]))
        if wrong.any():
            raise WeaksegError(
                f"E-step: box_map holds label {int(box_map[wrong][0])}; 0..{scores.shape[1] - 1} and {IGNORE} are known"
            )
    biased = scores.clone()
    biased[:, BACKGROUND] += bg_bias * known.to(scores.dtype)
    foreground = known & (box_map != BACKGROUND)
    label = box_map.masked_fill(~foreground, BACKGROUND)[:, None]
    biased.scatter_add_(1, label, fg_bias * foreground[:, None].to(scores.dtype))
    return argmax_higher(biased)
