"""Bounding boxes of the training images: tight around instance masks, or read from VOC's XML annotations."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text
from weakseg.labels import BACKGROUND, CLASSES, IGNORE, NUM_LABELS

CLIPPED_PX = 2
"""How far a box may reach beyond its image before that is an error: XML files round, and count from 0 or 1."""


@dataclass(frozen=True, order=True)
class Box:
    """A box of one object, in pixels; rows and columns count from 0 and the last ones belong to it.

    Attributes:
        label: class of the object, 1..20.
        top, left: first row and column.
        bottom, right: last row and column.
    """

    label: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows it covers."""
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        """Columns it covers."""
        return self.right - self.left + 1

    @property
    def area(self) -> int:
        """Pixels it covers."""
        return self.height * self.width

    @property
    def extent(self) -> int:
        """(last - first row) * (last - first column): what orders boxes in the paper's code; 0 for a line."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Index of its pixels in an array (H, W)."""
        return slice(self.top, self.bottom + 1), slice(self.left, self.right + 1)

    def __str__(self) -> str:
        """Class and corners, for messages."""
        name = CLASSES[self.label] if 0 <= self.label < NUM_LABELS else f"label {self.label}"
        return f"{name} (rows {self.top}..{self.bottom}, columns {self.left}..{self.right})"


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of an image.

    Attributes:
        size: height and width of the image in pixels.
        boxes: in the order of the instances or of the file; none for an image without objects.
        source: `instances` or `xml`.
    """

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    source: str


def largest_first(boxes: Sequence[Box]) -> list[Box]:
    """Boxes by falling extent; those of equal extent keep their order."""
    return sorted(boxes, key=lambda box: -box.extent)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes' pixels, 0..1, whatever their labels."""
    rows = min(a.bottom, b.bottom) - max(a.top, b.top) + 1
    columns = min(a.right, b.right) - max(a.left, b.left) + 1
    shared = max(rows, 0) * max(columns, 0)
    return shared / (a.area + b.area - shared)


def check_boxes(boxes: Sequence[Box], size: tuple[int, int], where: str) -> None:
    """Refuse boxes that are not boxes of objects within the image.

    Raises:
        WeaksegError: a label that is no class, a side of no or negative length, or pixels outside the image; it names
            `where` (the image) and the box by number, from 1.
    """
    for number, box in enumerate(boxes, start=1):
        if not 0 < box.label < NUM_LABELS:
            raise WeaksegError(f"{where}: box {number} has label {box.label}; classes are 1..{NUM_LABELS - 1}")
        if box.height < 1 or box.width < 1:
            raise WeaksegError(f"{where}: box {number}, {box}, is empty; its last row and column lie before its first")
        if box.top < 0 or box.left < 0 or box.bottom >= size[0] or box.right >= size[1]:
            raise WeaksegError(
                f"{where}: box {number}, {box}, reaches outside the image of {size[0]} rows and {size[1]} columns"
            )


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
        counts = np.bincount(labels[place][known[place] == number], minlength=NUM_LABELS)[:NUM_LABELS]
        counts[BACKGROUND] = 0
        if not counts.any():
            raise WeaksegError(f"{where}: instance {number} has no class: its pixels are background or void")
        rows, columns = place
        label = int(counts.argmax())
        boxes.append(Box(label, rows.start, columns.start, rows.stop - 1, columns.stop - 1))
    return boxes


def boxes_from_xml(path: str | Path, size: tuple[int, int]) -> list[Box]:
    """The boxes of a VOC annotation file; its coordinates count from 1, and objects marked difficult are boxes too.

    Coordinates are rounded to whole pixels. A box that reaches outside the image by 2 pixels or less is clipped.

    Args:
        path: the file.
        size: height and width of the image in pixels.

    Raises:
        WeaksegError: no such file, not XML, a field that is missing or no number, an unknown class, or a box that is
            empty or outside the image; the box is named by number, from 1. Also a size that is not the image's.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; add the image's boxes, or an instance mask") from None
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:  # unknown encodings are lookup errors
        raise WeaksegError(f"{path}: not readable as XML ({error}); replace it") from error
    written = tuple(root.findtext(f"size/{side}") or "" for side in ("height", "width"))
    if all(written) and written != tuple(str(side) for side in size):
        raise WeaksegError(
            f"{path}: written for an image of {written[0]} rows and {written[1]} columns, but the photo has {size[0]} "
            f"and {size[1]}; replace one of them"
        )
    found = []
    for number, thing in enumerate(root.findall("object"), start=1):
        name = (thing.findtext("name") or "").strip()
        if name not in CLASSES[1:]:
            raise WeaksegError(f"{path}: box {number} is of class {name!r}, which is not one of VOC's twenty")
        try:
            left, top, right, bottom = (
                round(float(thing.findtext(f"bndbox/{corner}") or "")) - 1
                for corner in ("xmin", "ymin", "xmax", "ymax")
            )
        except (ValueError, OverflowError):
            raise WeaksegError(
                f"{path}: box {number} ({name}) lacks xmin, ymin, xmax or ymax, or one is no number"
            ) from None
        found.append(Box(CLASSES.index(name), top, left, bottom, right))
    clipped = [_clip(box, size) for box in found]
    check_boxes(clipped, size, str(path))
    return clipped


def _clip(box: Box, size: tuple[int, int]) -> Box:
    """The box within the image, if it reaches outside by `CLIPPED_PX` at most."""
    beyond = max(-box.top, -box.left, box.bottom - size[0] + 1, box.right - size[1] + 1)
    if not 0 < beyond <= CLIPPED_PX:
        return box
    return Box(box.label, max(box.top, 0), max(box.left, 0), min(box.bottom, size[0] - 1), min(box.right, size[1] - 1))


def image_boxes(folder: VocFolder, image_id: str) -> ImageBoxes:
    """The boxes of an image: from its instance mask where there is one, else from its XML annotation."""
    size = folder.size(image_id)
    instances = folder.instances(image_id)
    if instances is None:
        return ImageBoxes(size, tuple(boxes_from_xml(folder.annotation_path(image_id), size)), "xml")
    where = str(folder.instance_path(image_id))
    return ImageBoxes(size, tuple(boxes_from_instances(instances, folder.labels(image_id), where=where)), "instances")


def compare_sources(folder: VocFolder, image_id: str, found: ImageBoxes) -> list[tuple[float, int]] | None:
    """How an image's XML boxes differ from those of its instance mask; None where it has no mask, or no usable XML.

    Args:
        folder, image_id: the image.
        found: its boxes as `image_boxes` gives them.

    Returns:
        For every instance the IOU (0..1) with the nearest XML box of its class (0 where there is none) and the largest
        distance of an edge in pixels.
    """
    if found.source != "instances" or not folder.annotation_path(image_id).is_file():
        return None
    try:
        written = boxes_from_xml(folder.annotation_path(image_id), found.size)
    except WeaksegError:
        return None  # nothing is made from it
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


def write_boxes(manifest_path: str | Path, out_json: str | Path, *, threads: int = 4) -> None:
    """Write the boxes of all images of `train_aug` and of the held-out images of val to one `boxes.json`.

    Where images have both sources, how far these agree is counted under `agreement`.

    Raises:
        WeaksegError: the folder has no boxes at all, or what is wrong with some, by file and box (the first five).
    """
    folder = open_data(manifest_path)
    if not any((folder.root / name).is_dir() for name in ("SegmentationObject", "Annotations")):
        raise WeaksegError(
            f"{folder.root}: neither SegmentationObject nor Annotations is there, so there are no boxes. Add one, or "
            "write `boxes: null` in the study to leave out the experiments that need boxes"
        )
    ids = [*folder.ids("train_aug"), *held_out(manifest_path)]

    def read(image_id: str) -> tuple[ImageBoxes, list[tuple[float, int]] | None] | str:
        try:
            found = image_boxes(folder, image_id)
            return found, compare_sources(folder, image_id, found)
        except WeaksegError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        read_all = list(tqdm(pool.map(read, ids), total=len(ids), desc="boxes", unit="photo", mininterval=2))
    faults = [found for found in read_all if isinstance(found, str)]
    if faults:
        raise WeaksegError(f"{folder.root}: {len(faults)} image(s) with faulty boxes:\n  " + "\n  ".join(faults[:5]))
    found = [pair for pair in read_all if not isinstance(pair, str)]
    entries = {image_id: boxes for image_id, (boxes, _) in zip(ids, found, strict=True)}
    compared = [rows for _, rows in found if rows is not None]
    atomic_write_text(out_json, _to_json(entries, _agreement(compared)))


def _agreement(compared: list[list[tuple[float, int]]]) -> dict[str, float] | None:
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


def _to_json(entries: Mapping[str, ImageBoxes], agreement: dict[str, float] | None) -> str:
    """One line an image, so that the file can be read and compared by people too."""
    lines = [
        json.dumps(image_id)
        + ": "
        + json.dumps(
            {
                "size": list(entry.size),
                "source": entry.source,
                "boxes": [[CLASSES[box.label], box.top, box.left, box.bottom, box.right] for box in entry.boxes],
            }
        )
        for image_id, entry in entries.items()
    ]
    facts = json.dumps({"box": ["class", "top", "left", "bottom", "right"], "agreement": agreement})
    return '{"facts": ' + facts + ',\n"images": {\n' + ",\n".join(lines) + "\n}}\n"


def _read_json(path: str | Path) -> dict[str, Any]:
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        read["facts"], read["images"].items()
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg boxes` first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeaksegError(f"{path}: not a file of boxes ({error}); run `weakseg boxes` again") from error
    return read


def read_boxes(path: str | Path) -> dict[str, ImageBoxes]:
    """The boxes by image id.

    Raises:
        WeaksegError: no such file, not a file of boxes, or a box that `check_boxes` refuses.
    """
    entries = {}
    for image_id, entry in _read_json(path)["images"].items():
        try:
            boxes = tuple(Box(CLASSES.index(name), *map(int, corners)) for name, *corners in entry["boxes"])
            size = (int(entry["size"][0]), int(entry["size"][1]))
            entries[image_id] = ImageBoxes(size, boxes, str(entry["source"]))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise WeaksegError(f"{path}: image {image_id}: not boxes ({error}); run `weakseg boxes` again") from error
        check_boxes(boxes, size, f"{path}: image {image_id}")
    return entries


def read_agreement(path: str | Path) -> dict[str, float] | None:
    """How XML boxes and instance masks agree on the images that have both; None where none has.

    Keys: images, boxes, iou_median and iou_min (0..1), gap_median_px and gap_max_px (largest distance of an edge).
    """
    return _read_json(path)["facts"].get("agreement")


def boxes_of(boxes: Mapping[str, ImageBoxes], image_id: str, path: str | Path) -> ImageBoxes:
    """The boxes of an image, with an error that names the file where they are missing."""
    try:
        return boxes[image_id]
    except KeyError:
        raise WeaksegError(f"{path}: no entry of image {image_id}; run `weakseg boxes` again") from None
