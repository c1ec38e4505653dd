"""The loss of the M-step, written out by hand."""

import math

import pytest
import torch

from weakseg.errors import WeaksegError
from weakseg.methods import Method, Shown
from weakseg.methods.registry import NoConstants
from weakseg.train.mstep import cross_entropy, joined_loss, teach


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


def test_parts_of_a_batch_give_the_loss_and_gradient_of_the_whole():
    """Sums over sums of cells, not a mean of means: the parts have other numbers of valid cells, one has none."""
    whole, labels = torch.randn(5, 4, 3, 3), torch.randint(0, 4, (5, 3, 3))
    labels[0, 1:], labels[4] = 255, 255
    scores = [whole.clone().requires_grad_() for _ in range(2)]
    expected = cross_entropy(scores[0], labels)
    expected.backward()
    cells = (labels != 255).sum()
    parts = [
        cross_entropy(scores[1][part], labels[part], lambda own: cells)
        for part in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    sum(parts).backward()
    assert float(sum(parts).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert torch.allclose(scores[0].grad, scores[1].grad, atol=1e-8)


def test_a_loss_of_a_method_s_own_is_a_mean_over_the_images_of_all_processes():
    method = Method("toy", annotation="image", loss=lambda scores, given, constants: scores.mean())
    scores = torch.randn(2, 3, 2, 3)
    loss, _ = teach(method, scores, shown(images=8, first=4, summed=lambda own: own), NoConstants())
    assert float(loss) == pytest.approx(float(scores.mean()) * 2 / 8)


def test_an_image_has_its_random_numbers_whichever_process_has_it():
    whole = shown(generator=torch.Generator().manual_seed(4), images=7).uniform(3, 5)
    part = shown(generator=torch.Generator().manual_seed(4), images=7, first=3).uniform(3, 5)
    assert part.shape == (2, 3, 5) and not torch.equal(whole, part)
    alone = torch.rand(7, 3, 5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(whole, alone[:2]) and torch.equal(part, alone[3:5])
    assert torch.equal(shown(generator=torch.Generator().manual_seed(4)).uniform(3), alone.flatten()[:6].view(2, 3))


def shown(**changes) -> Shown:
    inside = torch.ones(2, 2, 3, dtype=torch.bool)
    inside[0, 1] = False
    nothing = {"present": None, "label_map": None, "inside": inside, "iteration": 0, "generator": torch.Generator()}
    return Shown(**{**nothing, **changes})


def test_the_batch_s_loss_is_the_plain_sum_of_weighted_losses():
    losses = [torch.tensor(value, requires_grad=True) for value in (1.5, 0.25, 4.0)]
    weights = [0.5, 0.3, 0.2]
    joined = joined_loss(losses, weights)
    joined.backward()
    assert float(joined.detach()) == pytest.approx(0.5 * 1.5 + 0.3 * 0.25 + 0.2 * 4.0)
    assert [float(loss.grad) for loss in losses] == pytest.approx(weights)
    assert joined_loss(losses[:1], [0.7]) is losses[0]  # alone it counts whole


def test_the_e_step_sees_scores_without_gradient_and_the_loss_sees_them_unbiased():
    seen = []

    def label_map(scores, given, constants):
        seen.append(scores.requires_grad)
        return (scores + torch.tensor([0.0, 9.0, 0.0])[None, :, None, None]).argmax(1)

    method = Method("toy", annotation="image", estep=label_map)
    scores = torch.randn(2, 3, 2, 3, requires_grad=True)
    loss, labels = teach(method, scores, shown(), NoConstants())
    assert seen == [False] and (labels == 1).all()
    assert float(loss.detach()) == pytest.approx(plain_cross_entropy(scores.detach(), labels), rel=1e-5)
    loss.backward()
    assert (scores.grad != 0).all()


@pytest.mark.parametrize("valid_cells_only", [False, True])
def test_padding_counts_in_the_loss_of_an_e_step_unless_the_study_leaves_it_out(valid_cells_only):
    method = Method("toy", annotation="image", estep=lambda scores, given, constants: scores.argmax(1))
    scores, given = torch.randn(2, 3, 2, 3), shown(valid_cells_only=valid_cells_only)
    _, labels = teach(method, scores, given, NoConstants())
    assert ((labels == 255) == (~given.inside if valid_cells_only else torch.zeros_like(given.inside))).all()


def test_a_method_s_own_loss_takes_the_place_of_cross_entropy():
    method = Method("toy", annotation="image", loss=lambda scores, given, constants: scores.square().mean())
    scores = torch.randn(2, 3, 2, 3)
    loss, labels = teach(method, scores, shown(), NoConstants())
    assert labels is None and float(loss) == pytest.approx(float(scores.square().mean()))


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"estep": lambda scores, given, constants: scores.argmax(1)[:, :1]}, r"int64 \(2, 2, 3\), got .*\(2, 1, 3\)"),
        ({"estep": lambda scores, given, constants: scores.argmax(1).int()}, r"got torch.int32"),
        ({"loss": lambda scores, given, constants: scores.mean((1, 2, 3))}, r"shape \(2,\); it must be one number"),
    ],
    ids=["shape", "dtype", "loss"],
)
def test_a_result_of_the_wrong_shape_or_type_names_the_method(step, what):
    method = Method("toy", annotation="image", **step)
    with pytest.raises(WeaksegError, match=f"method toy: .*{what}"):
        teach(method, torch.randn(2, 3, 2, 3), shown(), NoConstants())
