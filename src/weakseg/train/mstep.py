"""The M-step's loss: what each stream teaches by its method, joined by the streams' weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
from weakseg.methods import Method, Shown
from weakseg.strict import Strict


def cross_entropy(scores: Tensor, labels: Tensor, summed: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Mean over all valid cells of a batch of -log P(label | image); 0 where no cell is valid.

    Args:
        scores: (N, L+1, h, w) unnormalised log-probabilities.
        labels: (N, h, w) int64; 255 is left out.
        summed: sums a number over the processes that share the batch. The mean is then over the cells of them all: each
            has its part of it, and the sum of their parts is the mean.
    """
    cells = (labels != IGNORE).sum()
    if summed is not None:
        cells = summed(cells)
    # The sum over the count, and not torch's own mean: that has no value where no cell is valid.
    total = functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="sum")
    return total / cells.clamp(min=1)


def teach(method: Method, scores: Tensor, shown: Shown, constants: Strict) -> tuple[Tensor, Tensor | None]:
    """The loss of a stream's images, and the label map it is against; None for a method with a loss of its own.

    The E-step sees the scores of the same forward pass; the loss sees them without the E-step's biases. Where several
    processes share a mini-batch, it is the part of this one's images in the loss of all.

    Args:
        method: how the images teach.
        scores: (n, L+1, h, w) of the stream's images.
        shown: what the method is shown of them.
        constants: of the method.

    Raises:
        WeaksegError: the method's label map or loss has another shape than it must.
    """
    if method.loss is not None:
        loss = method.loss(scores, shown, constants)
        if loss.shape != ():
            raise WeaksegError(f"method {method.name}: its loss has shape {tuple(loss.shape)}; it must be one number")
        # A mean over images: that over all processes is the sum of these parts.
        return loss if shown.summed is None else loss * (len(scores) / shown.images), None
    labels = estep(method, scores.detach(), shown, constants)
    return cross_entropy(scores, labels, shown.summed), labels


def estep(method: Method, scores: Tensor, shown: Shown, constants: Strict) -> Tensor:
    """The label map that a method trains with: the E-step's, or the one that came with the images.

    Raises:
        WeaksegError: the E-step's label map has another shape or type than it must.
    """
    if method.estep is None:
        assert shown.label_map is not None  # the registry sees to it
        return shown.label_map
    labels = method.estep(scores, shown, constants)
    expected = (scores.shape[0], *scores.shape[2:])
    if labels.dtype != torch.int64 or tuple(labels.shape) != expected:
        raise WeaksegError(
            f"method {method.name}: its E-step must give int64 {expected}, got {labels.dtype} {tuple(labels.shape)}"
        )
    return labels.masked_fill(~shown.inside, IGNORE) if shown.valid_cells_only else labels


def joined_loss(losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The batch's loss: with one stream its own, with several the sum of weight times loss.

    Each is averaged over its own valid cells (box-semi configuration of the release: .7 strong, .3 weak).
    """
    if len(losses) == 1:
        return losses[0]
    total = weights[0] * losses[0]
    for weight, loss in zip(weights[1:], losses[1:], strict=True):
        total = total + weight * loss
    return total
