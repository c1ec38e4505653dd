"""Scores of joint labels as one of the data sets sees them."""

import torch
from torch import Tensor

from weakseg.joint_labels import LabelView


def seen_by(view: LabelView | None, scores: Tensor) -> Tensor:
    """Scores of a data set's own labels, of those of the joint labels.

    A label keeps its score; the background's is the log of the sum of the exponentials of all that the data set has no
    name for, whose gradient is shared by their softmax (DeepLab release, the aggregating layer).

    Args:
        view: of the data set; None: the scores are those of its labels already.
        scores: (N, joint labels, h, w) unnormalised log-probabilities.

    Returns:
        (N, L+1, h, w).
    """
    if view is None:
        return scores
    background = torch.logsumexp(scores[:, list(view.background)], dim=1, keepdim=True)
    return torch.cat([background, scores[:, list(view.channels[1:])]], dim=1)
