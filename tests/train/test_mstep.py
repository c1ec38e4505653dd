"""The loss of the M-step, written out by hand."""

import math

import pytest
import torch

from weakseg.train.mstep import cross_entropy, mixed_loss


def plain_cross_entropy(scores, labels):
    total, cells = 0.0, 0
    for n in range(len(scores)):
        for i in range(labels.shape[1]):
            for j in range(labels.shape[2]):
                if labels[n, i, j] != 255:
                    values = [float(v) for v in scores[n, :, i, j]]
                    total += math.log(sum(math.exp(v) for v in values)) - values[int(labels[n, i, j])]
                    cells += 1
    return total / cells


def test_cross_entropy_averages_over_valid_cells_of_the_batch():
    scores = torch.randn(2, 4, 3, 3)
    labels = torch.randint(0, 4, (2, 3, 3))
    labels[0, :2] = 255  # one image with few valid cells must not weigh as much as the other
    assert float(cross_entropy(scores, labels)) == pytest.approx(plain_cross_entropy(scores, labels), rel=1e-5)


def test_a_batch_of_void_has_zero_loss_and_zero_gradient():
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    cross_entropy(scores, torch.full((1, 2, 2), 255)).backward()
    assert (scores.grad == 0).all()


def test_halves_are_weighed_and_averaged_on_their_own():
    scores = torch.randn(3, 4, 2, 2)
    strong, weak = torch.randint(0, 4, (1, 2, 2)), torch.randint(0, 4, (2, 2, 2))
    loss, first, second = mixed_loss(scores, strong, weak, 0.7)
    assert first == pytest.approx(plain_cross_entropy(scores[:1], strong), rel=1e-5)
    assert second == pytest.approx(plain_cross_entropy(scores[1:], weak), rel=1e-5)
    assert float(loss) == pytest.approx(0.7 * first + 0.3 * second, rel=1e-5)
    alone, only, absent = mixed_loss(scores[:1], strong, None, 0.7)
    assert float(alone) == pytest.approx(first, rel=1e-5) and only == first and math.isnan(absent)
