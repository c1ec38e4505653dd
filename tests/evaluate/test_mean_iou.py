"""Confusion matrices and mean IOU against an independent library and by their laws."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from weakseg.errors import WeaksegError
from weakseg.evaluate import confusion_matrix, iou
from weakseg.evaluate.mean_iou import mean_iou


@st.composite
def label_pairs(draw, labels=21):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    truth = rng.integers(0, labels, shape)
    prediction = np.where(rng.random(shape) < 0.5, truth, rng.integers(0, labels, shape))
    truth[rng.random(shape) < 0.2] = 255
    return truth.astype(np.uint8), prediction.astype(np.uint8)


@settings(max_examples=50, deadline=None)
@given(label_pairs())
def test_confusion_matrix_equals_torchmetrics(pair):
    truth, prediction = pair
    library = MulticlassConfusionMatrix(21, ignore_index=255)
    expected = library(torch.from_numpy(prediction.astype(int)), torch.from_numpy(truth.astype(int)))
    assert np.array_equal(confusion_matrix(truth, prediction), expected.numpy())


def test_mean_iou_equals_torchmetrics_where_all_labels_occur():
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.arange(21), rng.integers(0, 21, 2000)]).reshape(43, 47)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 21, truth.shape))
    library = MulticlassJaccardIndex(21, average="macro")
    expected = library(torch.from_numpy(prediction), torch.from_numpy(truth))
    assert mean_iou(confusion_matrix(truth, prediction)) == pytest.approx(100 * float(expected), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(label_pairs(), label_pairs())
def test_matrices_of_images_add_up_and_iou_lies_in_range(first, second):
    together = confusion_matrix(
        np.concatenate([first[0].ravel(), second[0].ravel()]), np.concatenate([first[1].ravel(), second[1].ravel()])
    )
    assert np.array_equal(together, confusion_matrix(*first) + confusion_matrix(*second))
    values = iou(together)
    assert values.shape == (21,) and (values >= 0).all() and (values <= 1).all()


def test_a_perfect_labelling_has_iou_one_and_absent_labels_count_as_zero():
    labels = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    prediction = np.array([[0, 1], [2, 7]], dtype=np.uint8)
    values = iou(confusion_matrix(labels, prediction))
    assert values[:3].tolist() == [1, 1, 1] and (values[3:] == 0).all()
    assert mean_iou(confusion_matrix(labels, prediction)) == pytest.approx(100 * 3 / 21)


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "prediction"),
        (np.zeros((1, 1), int), np.full((1, 1), 255), "predicted label 255"),
        (np.full((1, 1), 33), np.zeros((1, 1), int), "true label 33"),
    ],
)
def test_bad_labels_are_refused(truth, prediction, message):
    with pytest.raises(WeaksegError, match=message):
        confusion_matrix(truth, prediction)
