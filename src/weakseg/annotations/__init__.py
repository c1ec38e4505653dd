"""Weak annotations: image-level labels and boxes, and the label maps made from boxes."""

from weakseg.annotations.bbox_rect import bbox_rect
from weakseg.annotations.bbox_seg import BboxSegParams, bbox_seg
from weakseg.annotations.boxes import Box, boxes_from_instances

__all__ = ["BboxSegParams", "Box", "bbox_rect", "bbox_seg", "boxes_from_instances"]
