"""Bbox-Rect: every pixel of a box has the box's class (Papandreou et al. 2015, section 3.3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import Box, check_boxes, largest_first
from weakseg.data.dataset import open_data, teaching_ids
from weakseg.data.images import write_index_png
from weakseg.files import fresh_folder
from weakseg.labels import BACKGROUND


def bbox_rect(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """Label map of the boxes painted from large to small, so that a smaller one wins where boxes overlap.

    Pixels outside all boxes are background; an image without boxes is background everywhere. There is no void: what
    the pixel labels leave open, boxes do not show.

    Args:
        boxes: of one image.
        size: its height and width in pixels.

    Returns:
        (H, W) uint8; of boxes of equal extent the later one wins.

    Raises:
        WeaksegError: a box that `check_boxes` refuses.
    """
    check_boxes(boxes, size, "bbox_rect")
    labels = np.full(size, BACKGROUND, dtype=np.uint8)
    for box in largest_first(boxes):
        labels[box.pixels] = box.label
    return labels


def write_bbox_rect(manifest_path: str | Path, boxes_json: str | Path, out_folder: str | Path) -> None:
    """Write Bbox-Rect's map of every image with boxes that may teach as a palette PNG, in one step."""
    data = open_data(manifest_path)
    boxes = read_boxes(boxes_json, data.labels)
    ids = [image_id for image_id in teaching_ids(data) if image_id in boxes]
    with fresh_folder(out_folder) as folder:
        for image_id in tqdm(ids, desc="Bbox-Rect", unit="photo", mininterval=2):
            entry = boxes[image_id]
            write_index_png(folder / f"{image_id}.png", bbox_rect(entry.boxes, entry.size), data.labels)
