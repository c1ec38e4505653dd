"""Fully connected CRF with Gaussian edges (Krähenbühl and Koltun 2011), as DeepLab uses it."""

from weakseg.crf.inference import label_map, mean_field, mean_field_grid
from weakseg.crf.params import CRFParams
from weakseg.crf.unary import unary_from_probabilities, unary_from_scores

__all__ = [
    "CRFParams",
    "label_map",
    "mean_field",
    "mean_field_grid",
    "unary_from_probabilities",
    "unary_from_scores",
]
