"""Weak annotations: image-level labels and boxes, and the label maps made from boxes."""

from weakseg.annotations.bbox_rect_maps import bbox_rect
from weakseg.annotations.bbox_seg_maps import BboxSegParams, bbox_seg
from weakseg.annotations.box_sources import boxes_from_instances
from weakseg.data.boxes import Box

__all__ = ["BboxSegParams", "Box", "bbox_rect", "bbox_seg", "boxes_from_instances"]
