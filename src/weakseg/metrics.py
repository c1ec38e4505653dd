"""What a label map is worth: the confusion matrix, and the figures that are made from it."""

import numpy as np

from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND, IGNORE


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_labels: int) -> np.ndarray:
    """Pixels by true (rows) and predicted label (columns); void pixels (255) are dropped.

    Args:
        truth: (H, W) integer labels, 0..num_labels-1 and 255.
        prediction: (H, W) integer labels, 0..num_labels-1, void nowhere.
        num_labels: L + 1.

    Returns:
        (L+1, L+1) int64.

    Raises:
        WeaksegError: shapes differ, or a label is out of range.
    """
    if truth.shape != prediction.shape:
        raise WeaksegError(f"confusion: truth is {truth.shape}, prediction {prediction.shape}")
    valid = truth != IGNORE
    true = truth[valid].astype(np.int64)
    for kind, values in (("predicted", prediction), ("true", true)):
        for extreme in (values.min(), values.max()) if values.size else ():
            if not 0 <= extreme < num_labels:
                raise WeaksegError(f"confusion: {kind} label {extreme} is out of range 0..{num_labels - 1}")
    pairs = true * num_labels + prediction[valid]
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def iou(confusion: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN) by label, in 0..1; (L+1,) float64.

    An empty denominator is replaced by 1, so a label that occurs nowhere has IOU 0 and counts in the mean (VOC
    development kit).
    """
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return hits / np.maximum(union, 1)


def occurring(confusion: np.ndarray) -> np.ndarray:
    """Which labels occur in truth or prediction; (L+1,) bool."""
    return (confusion.sum(0) + confusion.sum(1)) > 0


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IOU over all labels, background included, in percent: the paper's figure."""
    return float(100 * iou(confusion).mean())


def mean_iou_of_occurring(confusion: np.ndarray) -> float:
    """Mean IOU in percent over the labels that occur in truth or prediction; NaN where none does.

    Where every label occurs it is `mean_iou`; on few images it says what these can tell.
    """
    occurs = occurring(confusion)
    return float(100 * iou(confusion)[occurs].mean()) if occurs.any() else float("nan")


def foreground_iou(confusion: np.ndarray) -> float:
    """Mean IOU in percent over the foreground classes that occur in the truth; NaN where none does.

    Unlike the mean IOU of a run it leaves out the background, which is most of an image, and classes of which a few
    held-out images show none.
    """
    occurs = confusion.sum(1) > 0
    occurs[BACKGROUND] = False
    return float(100 * iou(confusion)[occurs].mean()) if occurs.any() else float("nan")


def object_iou(confusion: np.ndarray) -> float:
    """IOU in percent of all objects together against the background, classes not told apart."""
    objects = confusion[1:, 1:].sum()
    union = confusion.sum() - confusion[BACKGROUND, BACKGROUND]
    return float(100 * objects / max(union, 1))


def image_iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean IOU of one image in percent, over the labels that occur in its truth or prediction; void is dropped.

    NaN where all is void.
    """
    return mean_iou_of_occurring(confusion_matrix(truth, prediction, IGNORE))
