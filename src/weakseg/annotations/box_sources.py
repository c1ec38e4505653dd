"""Where boxes come from: tight around instance masks, or drawn by hand."""

import numpy as np

from weakseg.data.boxes import Box, ImageBoxes, box_iou
from weakseg.data.dataset import DataSet
from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND, IGNORE


def boxes_from_instances(instances: np.ndarray, labels: np.ndarray, *, where: str = "instances") -> list[Box]:
    """The tight box of every instance: first and last row and column of its mask (paper's code).

    Args:
        instances: (H, W) uint8 instance numbers; 0 is background, 255 void, which is no instance.
        labels: (H, W) uint8 label map; an instance has the class of most of its pixels.
        where: what an error names.

    Returns:
        Boxes in the order of the instance numbers.

    Raises:
        WeaksegError: shapes differ, or an instance lies on background and void alone.
    """
    from scipy import ndimage  # takes a second, which a training that only reads boxes need not wait for

    if instances.shape != labels.shape:
        raise WeaksegError(f"{where}: instances are {instances.shape}, labels {labels.shape}; they must have one size")
    known = np.where(instances == IGNORE, 0, instances)
    boxes = []
    for number, place in enumerate(ndimage.find_objects(known), start=1):
        if place is None:
            continue
        counts = np.bincount(labels[place][known[place] == number], minlength=256)[:IGNORE]
        counts[BACKGROUND] = 0
        if not counts.any():
            raise WeaksegError(f"{where}: instance {number} has no class: its pixels are background or void")
        rows, columns = place
        label = int(counts.argmax())
        boxes.append(Box(label, rows.start, columns.start, rows.stop - 1, columns.stop - 1))
    return boxes


def image_boxes(data: DataSet, image_id: str) -> ImageBoxes | None:
    """The boxes of an image: from its instance mask where there is one, else those drawn by hand; None without any."""
    size = data.size(image_id)
    instances = data.instances(image_id) if data.has_pixel_labels(image_id) else None
    if instances is not None:
        boxes = boxes_from_instances(instances, data.pixel_labels(image_id), where=f"instance mask of image {image_id}")
        return ImageBoxes(size, tuple(boxes), "instances")
    drawn = data.boxes(image_id)
    return None if drawn is None else ImageBoxes(size, tuple(drawn), "xml")


def compare_sources(data: DataSet, image_id: str, found: ImageBoxes) -> list[tuple[float, int]] | None:
    """How an image's XML boxes differ from those of its instance mask; None where it has no mask, or no usable XML.

    Args:
        data, image_id: the image.
        found: its boxes as `image_boxes` gives them.

    Returns:
        For every instance the IOU (0..1) with the nearest XML box of its class (0 where there is none) and the largest
        distance of an edge in pixels.
    """
    if found.source != "instances":
        return None
    try:
        written = data.boxes(image_id)
    except WeaksegError:
        return None  # nothing is made from it
    if written is None:
        return None
    rows = []
    for box in found.boxes:
        rivals = [other for other in written if other.label == box.label]
        nearest = max(rivals, key=lambda other: box_iou(box, other), default=None)
        if nearest is None:
            rows.append((0.0, max(found.size)))
            continue
        corners = ("top", "left", "bottom", "right")
        gap = max(abs(getattr(box, corner) - getattr(nearest, corner)) for corner in corners)
        rows.append((box_iou(box, nearest), gap))
    return rows


def agreement_of(compared: list[list[tuple[float, int]]]) -> dict[str, float] | None:
    """How the two sources of boxes agree, from what `compare_sources` gave; None where no image has both."""
    pairs = [pair for rows in compared for pair in rows]
    if not pairs:
        return None
    ious, gaps = (np.array(values) for values in zip(*pairs, strict=True))
    return {
        "images": len(compared),
        "boxes": len(pairs),
        "iou_median": round(float(np.median(ious)), 4),
        "iou_min": round(float(ious.min()), 4),
        "gap_median_px": float(np.median(gaps)),
        "gap_max_px": int(gaps.max()),
    }
