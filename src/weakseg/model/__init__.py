"""Networks: trunks at output stride 8 or 16, DeepLab heads, weights."""

from weakseg.model.segmenter import Segmenter, build_model
from weakseg.model.weights import LoadedWeights, load_initial_weights, load_model, preprocess, save_model

__all__ = [
    "LoadedWeights",
    "Segmenter",
    "build_model",
    "load_initial_weights",
    "load_model",
    "preprocess",
    "save_model",
]
