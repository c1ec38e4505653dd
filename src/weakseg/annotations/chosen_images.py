"""Choosing the training images that show and measure what boxes become."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from weakseg.annotations.bbox_rect_maps import bbox_rect
from weakseg.data.boxes import ImageBoxes, box_iou
from weakseg.data.dataset import DataSet


def candidates(data: DataSet, boxes: Mapping[str, ImageBoxes], among: Sequence[str] | None = None) -> list[str]:
    """Training images with boxes to choose from: those that show a truth beside the maps, or all where none does.

    Args:
        data: the data set.
        boxes: by image.
        among: the images that may be chosen; None: all.
    """
    allowed = boxes.keys() if among is None else boxes.keys() & set(among)
    lists = ([i for i in data.ids(role) if i in allowed] for role in ("pixel_labelled", "training"))
    first, every = lists
    return first or [i for i in every if data.has_pixel_labels(i)] or every


def spread(ids: Sequence[str], count: int | None) -> list[str]:
    """`count` of the ids at even distances, or all of them (None, or fewer ids)."""
    if count is None or count >= len(ids):
        return list(ids)
    return [ids[int(place)] for place in np.linspace(0, len(ids) - 1, count).round()]


def telling_images(boxes: Mapping[str, ImageBoxes], ids: Sequence[str], count: int) -> list[str]:
    """Images that show what boxes leave open, chosen from the boxes alone: half with boxes of two classes that overlap.

    Taken are images with two to four boxes which cover between a fifth and seven tenths of them, in the order of
    `ids`; one whose classes were all shown before waits until no other is left, then those with other boxes follow.

    Args:
        boxes: by image id.
        ids: images to choose from.
        count: images in all; fewer where there are fewer.
    """
    fitting: list[str] = []
    overlapping: list[str] = []
    known = [image_id for image_id in ids if image_id in boxes]
    for image_id in known:
        entry = boxes[image_id]
        if 2 <= len(entry.boxes) <= 4 and 0.2 <= (bbox_rect(entry.boxes, entry.size) > 0).mean() <= 0.7:
            pairs = combinations(entry.boxes, 2)
            crossed = any(a.label != b.label and box_iou(a, b) > 0.05 for a, b in pairs)
            (overlapping if crossed else fitting).append(image_id)
    seen: set[int] = set()
    chosen = _varied(boxes, overlapping, count // 2, seen)
    chosen += _varied(boxes, [i for i in (*fitting, *overlapping) if i not in chosen], count - len(chosen), seen)
    if len(chosen) < count:
        chosen += [i for i in known if i not in chosen and boxes[i].boxes][: count - len(chosen)]
    return chosen


def shown_images(
    data: DataSet, boxes: Mapping[str, ImageBoxes], count: int, among: Sequence[str] | None = None
) -> list[str]:
    """Training images on which methods are shown at work: telling ones, or some at even distances without boxes.

    Args:
        data: the data set.
        boxes: by image; none where the data set has none.
        count: images in all; fewer where there are fewer.
        among: the images that may be chosen; None: all.
    """
    if boxes:
        return telling_images(boxes, candidates(data, boxes, among), count)
    allowed = set(data.ids("training") if among is None else among)
    lists = [[i for i in sorted(data.ids(role)) if i in allowed] for role in ("pixel_labelled", "training")]
    return spread(lists[0] or lists[1], count)


def _varied(boxes: Mapping[str, ImageBoxes], ids: Sequence[str], count: int, seen: set[int]) -> list[str]:
    """The first `count` ids, those that show a class not in `seen` before the others; adds to `seen`."""
    fresh: list[str] = []
    stale: list[str] = []
    for image_id in ids:
        labels = {box.label for box in boxes[image_id].boxes}
        if labels <= seen or len(fresh) >= count:
            stale.append(image_id)
        else:
            fresh.append(image_id)
            seen |= labels
    return (fresh + stale)[:count]
