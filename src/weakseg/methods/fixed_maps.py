"""Methods without an E-step: pixel labels, and the label maps that are made from boxes once and before training."""

from weakseg.methods.registry import Method, register

PIXEL_LABELS = register(Method("pixel_labels", annotation="strong"))
"""Strong training: the pixel labels themselves."""

BBOX_RECT = register(Method("bbox_rect", annotation="box", label_maps="bbox_rect"))
"""Bbox-Rect: every pixel of a box has the box's class (Papandreou et al. 2015, section 3.3)."""

BBOX_SEG = register(Method("bbox_seg", annotation="box", label_maps="bbox_seg"))
"""Bbox-Seg: boxes that a dense CRF has turned into segmentations (section 3.3)."""
