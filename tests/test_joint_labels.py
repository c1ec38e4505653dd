"""Label sets joined to one: MS-COCO's as in the released code, others by name, and what cannot be joined."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.errors import WeaksegError
from weakseg.joint_labels import LabelView, join_labels, shared_classes
from weakseg.labels import COCO, VOC, LabelSet
from weakseg.model.label_views import seen_by

COCO_IDS_IN_VOC_ORDER = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
"""The released list."""


def joined(main: LabelSet, other: LabelSet, given_classes=None):
    return join_labels(main, {"other": (other, shared_classes(main, other, given_classes))})


def test_voc_beside_coco_has_the_released_channels():
    joint = joined(VOC, COCO)
    assert joint.labels.names == COCO.names and joint.labels.unused == COCO.unused
    assert joint.views["other"] is None
    view = joint.views[None]
    assert view is not None and list(view.channels) == [0, *COCO_IDS_IN_VOC_ORDER]
    others = set(range(91)) - set(COCO_IDS_IN_VOC_ORDER) - COCO.unused
    assert view.background[0] == 0 and set(view.background) == others and len(view.background) == 61


def test_sets_of_own_classes_share_those_of_one_name():
    main = LabelSet.of_classes("own", ["cat", "Hedgehog", "lawn mower"])
    other = LabelSet.of_classes("own", ["kite", "hedgehog"], {"kite": "#102030"})
    joint = joined(main, other)
    assert joint.labels.names == ("background", "kite", "hedgehog", "cat", "lawn mower")
    assert joint.labels.colours[1] == (0x10, 0x20, 0x30)
    assert joint.views[None] == LabelView((0, 3, 2, 4), (0, 1)) and joint.views["other"] == LabelView(
        (0, 1, 2), (0, 3, 4)
    )
    # Two classes of one name that are said not to be the same stay two.
    apart = joined(main, other, {"cat": "kite"})
    assert apart.labels.names == ("background", "kite", "hedgehog", "Hedgehog (own)", "lawn mower")
    assert joined(main, main).views == {None: None, "other": None}


def test_three_sets():
    main = LabelSet.of_classes("a", ["x", "y"])
    first, second = LabelSet.of_classes("b", ["p", "y"]), LabelSet.of_classes("c", ["y", "q", "x"])
    sets = {"b": (first, shared_classes(main, first)), "c": (second, shared_classes(main, second))}
    joint = join_labels(main, sets)
    assert joint.labels.names == ("background", "p", "y", "q", "x")
    assert joint.views == {
        None: LabelView((0, 4, 2), (0, 1, 3)),
        "b": LabelView((0, 1, 2), (0, 3, 4)),
        "c": LabelView((0, 2, 3, 4), (0, 1)),
    }


@pytest.mark.parametrize(
    ("given_classes", "said"),
    [
        ({"dog": "kite"}, "'dog' is no class"),
        ({"cat": "bird"}, "'bird' is no class"),
        ({"cat": "kite", "hedgehog": "kite"}, "'kite' of the labels own stands there twice"),
        ({"background": "background"}, "the background is shared"),
    ],
)
def test_classes_that_cannot_be_shared(given_classes, said):
    main, other = LabelSet.of_classes("own", ["cat", "hedgehog"]), LabelSet.of_classes("own", ["kite", "hedgehog"])
    with pytest.raises(WeaksegError, match=said):
        shared_classes(main, other, given_classes)


def test_more_labels_than_a_map_can_hold():
    many = [LabelSet.of_classes("own", [f"{word}{n}" for n in range(150)]) for word in "ab"]
    with pytest.raises(WeaksegError, match="1 to 254 classes"):
        joined(*many)


VIEW = LabelView(channels=(0, 4, 1), background=(0, 2, 5))  # channel 3 is unused


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 3.0, 80.0]))
def test_a_view_and_its_gradient_are_those_of_a_plain_loop(seed, scale):
    """Held against sums of probabilities cell by cell, and the loss's gradient against that written by hand."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, scale, (2, 6, 3, 2))
    labels = rng.integers(0, 3, (2, 3, 2))
    scores = torch.tensor(values, requires_grad=True)
    seen = seen_by(VIEW, scores)
    loss = torch.nn.functional.cross_entropy(seen, torch.tensor(labels))
    loss.backward()
    gradient, expected = np.zeros_like(values), 0.0
    cells = labels.size
    for n, row, column in np.ndindex(labels.shape):
        cell = values[n, :, row, column]
        used = [0, 1, 2, 4, 5]
        exponents = np.exp(cell - cell[used].max())
        whole = exponents[used].sum()
        parts = [[0, 2, 5], [4], [1]]
        probability = exponents[parts[labels[n, row, column]]].sum() / whole
        expected -= np.log(max(probability, 1e-300)) / cells
        for channel in used:
            of_label = channel in parts[labels[n, row, column]]
            share = exponents[channel] / exponents[parts[labels[n, row, column]]].sum() if of_label else 0.0
            gradient[n, channel, row, column] = (exponents[channel] / whole - share) / cells
        shown = seen[n, :, row, column].detach().numpy()
        top = max(cell[[0, 2, 5]])
        assert np.allclose(shown, [top + np.log(np.exp(cell[[0, 2, 5]] - top).sum()), cell[4], cell[1]])
    if expected < 600:
        assert np.isclose(loss.item(), expected)
    assert np.allclose(scores.grad.numpy(), gradient, atol=1e-12)


def test_the_view_s_gradient_passes_autograd_s_own_check():
    scores = torch.randn(1, 6, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: seen_by(VIEW, s), (scores,))


def test_no_view_leaves_scores_alone():
    scores = torch.randn(1, 6, 2, 2)
    assert seen_by(None, scores) is scores


def test_views_and_label_sets_survive_their_files():
    assert LabelView.from_json(VIEW.to_json()) == VIEW
    labels = joined(VOC, COCO).labels
    assert LabelSet.from_json(labels.to_json()) == labels
    assert "unused" not in VOC.to_json()
