"""Confusion matrices and the figures made from them, against an independent library, plain loops and their laws."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from weakseg.errors import WeaksegError
from weakseg.metrics import (
    confusion_matrix,
    foreground_iou,
    image_iou,
    iou,
    mean_iou,
    mean_iou_of_occurring,
    object_iou,
    occurring,
)


@st.composite
def label_pairs(draw, labels=21):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    truth = rng.integers(0, labels, shape)
    prediction = np.where(rng.random(shape) < 0.5, truth, rng.integers(0, labels, shape))
    truth[rng.random(shape) < 0.2] = 255
    return truth.astype(np.uint8), prediction.astype(np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([2, 4, 21, 91]), st.data())
def test_confusion_matrix_equals_torchmetrics(labels, data):
    truth, prediction = data.draw(label_pairs(labels))
    from torchmetrics.classification import MulticlassConfusionMatrix  # seconds, which only these tests need

    library = MulticlassConfusionMatrix(labels, ignore_index=255)
    expected = library(torch.from_numpy(prediction.astype(int)), torch.from_numpy(truth.astype(int)))
    assert np.array_equal(confusion_matrix(truth, prediction, labels), expected.numpy())


def plain_ious(truth, prediction, labels):
    """(IOU in percent or None where nothing has the label, whether the truth has it), pixel by pixel, by label."""
    valid = [(int(a), int(b)) for a, b in zip(truth.flat, prediction.flat, strict=True) if a != 255]
    found = []
    for label in range(labels):
        union = sum(label in pair for pair in valid)
        both = sum(pair == (label, label) for pair in valid)
        found.append((100 * both / union if union else None, any(a == label for a, _ in valid)))
    return found


@settings(max_examples=50, deadline=None)
@given(label_pairs(6))
def test_means_equal_plain_loops(pair):
    truth, prediction = pair
    plain, matrix = plain_ious(truth, prediction, 6), confusion_matrix(truth, prediction, 6)
    known = [value for value, _ in plain if value is not None]
    shown = [value for value, in_truth in plain[1:] if in_truth]
    assert occurring(matrix).tolist() == [value is not None for value, _ in plain]
    assert mean_iou(matrix) == pytest.approx(sum(known) / 6)
    expected = sum(known) / len(known) if known else np.nan
    assert mean_iou_of_occurring(matrix) == pytest.approx(expected, nan_ok=True)
    assert image_iou(truth, prediction) == pytest.approx(expected, nan_ok=True)
    assert foreground_iou(matrix) == pytest.approx(sum(shown) / len(shown) if shown else np.nan, nan_ok=True)
    valid = truth != 255
    objects, found = (truth > 0)[valid], (prediction > 0)[valid]
    assert object_iou(matrix) == pytest.approx(100 * (objects & found).sum() / max((objects | found).sum(), 1))


def test_mean_iou_equals_torchmetrics_where_all_labels_occur():
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(21), rng.integers(0, 21, 2000)]).reshape(43, 47)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 21, truth.shape))
    from torchmetrics.classification import MulticlassJaccardIndex

    library = MulticlassJaccardIndex(21, average="macro")
    expected = library(torch.from_numpy(prediction), torch.from_numpy(truth))
    assert mean_iou(confusion_matrix(truth, prediction, 21)) == pytest.approx(100 * float(expected), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(label_pairs(), label_pairs())
def test_matrices_of_images_add_up_and_iou_lies_in_range(first, second):
    together = confusion_matrix(
        np.concatenate([first[0].ravel(), second[0].ravel()]),
        np.concatenate([first[1].ravel(), second[1].ravel()]),
        21,
    )
    assert np.array_equal(together, confusion_matrix(*first, 21) + confusion_matrix(*second, 21))
    values = iou(together)
    assert values.shape == (21,) and (values >= 0).all() and (values <= 1).all()


def test_a_perfect_labelling_is_100_over_what_occurs_and_less_in_the_paper_s_mean():
    labels = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1], [2, 7]], dtype=np.uint8)
    matrix = confusion_matrix(labels, prediction, 21)
    assert iou(matrix).tolist() == [1] * 3 + [0] * 18
    # 18 of the 21 classes occur nowhere: each counts as 0 by the rule of the VOC development kit.
    assert mean_iou(matrix) == pytest.approx(100 * 3 / 21)
    assert mean_iou_of_occurring(matrix) == foreground_iou(matrix) == object_iou(matrix) == 100
    # A class that is only predicted counts as 0 in both.
    wrong = confusion_matrix(labels, np.array([[0, 1], [9, 0]]), 21)
    assert mean_iou_of_occurring(wrong) == pytest.approx(100 * 2 / 4)
    assert np.isnan(mean_iou_of_occurring(np.zeros((21, 21), dtype=int)))


def test_foreground_iou_leaves_out_background_and_absent_classes():
    confusion = np.zeros((21, 21), dtype=np.int64)
    confusion[0, 0], confusion[0, 3], confusion[3, 3], confusion[5, 0], confusion[0, 9] = 100, 10, 30, 8, 4
    assert foreground_iou(confusion) == pytest.approx((100 * 30 / 40 + 0) / 2)
    assert object_iou(confusion) == pytest.approx(100 * 30 / (30 + 10 + 8 + 4))
    assert np.isnan(foreground_iou(np.diag([5] + [0] * 20)))


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "prediction"),
        (np.zeros((1, 1), int), np.full((1, 1), 255), "predicted label 255"),
        (np.full((1, 1), 33), np.zeros((1, 1), int), "true label 33"),
        (np.full((1, 1), 21), np.zeros((1, 1), int), "true label 21 is out of range 0..20"),
        (np.zeros((1, 2), int), np.array([[0, -1]]), "predicted label -1"),
        (np.array([[3, -2]]), np.zeros((1, 2), int), "true label -2"),
    ],
)
def test_bad_labels_are_refused(truth, prediction, message):
    with pytest.raises(WeaksegError, match=message):
        confusion_matrix(truth, prediction, 21)
