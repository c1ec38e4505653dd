"""Reading label maps that were made from boxes, and choosing the images that show and measure them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from weakseg.annotations.bbox_rect import bbox_rect
from weakseg.annotations.bbox_seg import FACTS
from weakseg.annotations.boxes import ImageBoxes, box_iou
from weakseg.config import Experiment
from weakseg.data.voc import read_index_png
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths


@dataclass(frozen=True)
class BoxMaps:
    """Where the label maps of weak images with boxes lie.

    Attributes:
        folder: one palette PNG an image.
        decided_by: the file whose content decides them: the boxes, or Bbox-Seg's note of its parameters and boxes.
    """

    folder: Path
    decided_by: Path


def box_maps(experiment: Experiment, paths: StudyPaths) -> BoxMaps | None:
    """The maps that an experiment is trained with, None without boxes; Bbox-EM-Fixed starts from Bbox-Rect's."""
    if experiment.weak_annotation != "box":
        return None
    if experiment.estep == "bbox_seg":
        folder = paths.box_maps("bbox_seg")
        return BoxMaps(folder, folder / FACTS)
    return BoxMaps(paths.box_maps("bbox_rect"), paths.boxes)


def map_reader(folder: str | Path, ids: Sequence[str]) -> Callable[[str], np.ndarray]:
    """A function that reads the label map (H, W) uint8 of an image.

    Args:
        folder: of `weakseg bbox-rect` or `weakseg bbox-seg`.
        ids: images that it must hold.

    Raises:
        WeaksegError: a map is missing; it names the first.
    """
    folder = Path(folder)
    missing = [image_id for image_id in ids if not (folder / f"{image_id}.png").is_file()]
    if missing:
        command = f"weakseg {folder.name.replace('_', '-')}"
        raise WeaksegError(
            f"{folder}: {len(missing)} of {len(ids)} label maps are missing, {missing[0]}.png the first; run "
            f"`{command}`"
        )
    return lambda image_id: read_index_png(folder / f"{image_id}.png")


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
    for image_id in ids:
        entry = boxes[image_id]
        share = float((bbox_rect(entry.boxes, entry.size) > 0).mean())
        if 2 <= len(entry.boxes) <= 4 and 0.2 <= share <= 0.7:
            pairs = combinations(entry.boxes, 2)
            crossed = any(a.label != b.label and box_iou(a, b) > 0.05 for a, b in pairs)
            (overlapping if crossed else fitting).append(image_id)
    seen: set[int] = set()
    chosen = _varied(boxes, overlapping, count // 2, seen)
    chosen += _varied(boxes, [i for i in (*fitting, *overlapping) if i not in chosen], count - len(chosen), seen)
    if len(chosen) < count:
        chosen += [i for i in ids if i not in chosen and boxes[i].boxes][: count - len(chosen)]
    return chosen


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
