"""Bbox-Rect: every pixel of a box has the box's class (Papandreou et al. 2015, section 3.3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weakseg.annotations.boxes import Box, boxes_of, check_boxes, largest_first, read_boxes
from weakseg.annotations.maps import write_facts
from weakseg.data.prepare import open_data
from weakseg.data.voc import write_index_png
from weakseg.files import fresh_folder, sha256_file
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
    """Write Bbox-Rect's map of every image of `train_aug` as a palette PNG; the folder appears when complete."""
    boxes = read_boxes(boxes_json)
    with fresh_folder(out_folder) as folder:
        for image_id in tqdm(open_data(manifest_path).ids("train_aug"), desc="Bbox-Rect", unit="photo", mininterval=2):
            entry = boxes_of(boxes, image_id, boxes_json)
            write_index_png(folder / f"{image_id}.png", bbox_rect(entry.boxes, entry.size))
        write_facts(folder, {"boxes_sha256": sha256_file(boxes_json)})
