"""Scores, CRF search and mean IOU of trained runs."""

from weakseg.metrics import confusion_matrix, iou

__all__ = ["confusion_matrix", "iou"]
