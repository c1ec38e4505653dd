"""Weakly- and semi-supervised semantic segmentation after Papandreou, Chen, Murphy and Yuille (2015)."""

__version__ = "0.1.0"
