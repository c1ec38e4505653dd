"""The M-step's loss: cross-entropy of unbiased scores against label maps, strong and weak halves mixed."""

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.labels import IGNORE


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over all valid cells of a batch of -log P(label | image); 0 where no cell is valid.

    Args:
        scores: (N, L+1, h, w) unnormalised log-probabilities.
        labels: (N, h, w) int64; 255 is left out.
    """
    if not (labels != IGNORE).any():
        return scores.sum() * 0.0
    return functional.cross_entropy(scores, labels, ignore_index=IGNORE)


def mixed_loss(
    scores: Tensor, strong: Tensor | None, weak: Tensor | None, strong_weight: float
) -> tuple[Tensor, float, float]:
    """The batch's loss and its halves (NaN where a half is absent).

    The strong images come first. With both halves the loss is w CE(strong) + (1 - w) CE(weak), each averaged over
    its own valid cells (box-semi configuration of the release: w = .7); with one, its cross-entropy.

    Args:
        scores: (N_s + N_w, L+1, h, w).
        strong: (N_s, h, w) int64 or None.
        weak: (N_w, h, w) int64 label maps of the E-step, or None.
        strong_weight: w in [0, 1].
    """
    split = 0 if strong is None else len(strong)
    nothing = torch.tensor(float("nan"))
    loss_strong = nothing if strong is None else cross_entropy(scores[:split], strong)
    loss_weak = nothing if weak is None else cross_entropy(scores[split:], weak)
    if strong is None:
        loss = loss_weak
    elif weak is None:
        loss = loss_strong
    else:
        loss = strong_weight * loss_strong + (1 - strong_weight) * loss_weak
    return loss, float(loss_strong.detach()), float(loss_weak.detach())
