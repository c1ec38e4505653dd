"""The file of boxes, one line an image: what is made from boxes reads it, whatever they came from."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weakseg.data.boxes import Box, ImageBoxes, check_boxes
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text
from weakseg.labels import LabelSet


def write_boxes(
    path: str | Path, entries: Mapping[str, ImageBoxes], labels: LabelSet, agreement: dict[str, float] | None
) -> None:
    """Write boxes to one JSON file, one line an image, so that it can be read and compared by people too."""
    lines = [
        json.dumps(image_id)
        + ": "
        + json.dumps(
            {
                "size": list(entry.size),
                "source": entry.source,
                "boxes": [[labels.names[box.label], box.top, box.left, box.bottom, box.right] for box in entry.boxes],
            }
        )
        for image_id, entry in entries.items()
    ]
    facts = json.dumps({"box": ["class", "top", "left", "bottom", "right"], "agreement": agreement})
    atomic_write_text(path, '{"facts": ' + facts + ',\n"images": {\n' + ",\n".join(lines) + "\n}}\n")


def _read_json(path: str | Path) -> dict[str, Any]:
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        read["facts"], read["images"].items()
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg annotate` first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeaksegError(f"{path}: not a file of boxes ({error}); run `weakseg annotate` again") from error
    return read


def read_boxes(path: str | Path, labels: LabelSet) -> dict[str, ImageBoxes]:
    """The boxes by image id.

    Raises:
        WeaksegError: no such file, not a file of boxes, or a box that `check_boxes` refuses.
    """
    entries = {}
    for image_id, entry in _read_json(path)["images"].items():
        try:
            boxes = tuple(Box(labels.index(name), *map(int, corners)) for name, *corners in entry["boxes"])
            size = (int(entry["size"][0]), int(entry["size"][1]))
            entries[image_id] = ImageBoxes(size, boxes, str(entry["source"]))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise WeaksegError(
                f"{path}: image {image_id}: not boxes ({error}); run `weakseg annotate` again"
            ) from error
        check_boxes(boxes, size, f"{path}: image {image_id}", labels)
    return entries


@dataclass(frozen=True)
class BoxCounts:
    """How many boxes a file holds, and where they come from.

    Attributes:
        images: images with an entry.
        boxes: boxes on them.
        without: images without a box.
        from_masks: images whose boxes are tight around instance masks.
        from_xml: images whose boxes are read from XML annotations.
    """

    images: int
    boxes: int
    without: int
    from_masks: int
    from_xml: int


def count_boxes(path: str | Path) -> BoxCounts:
    """Count what a file of boxes holds; one without its boxes (`keep_counts`) tells what was counted.

    Raises:
        WeaksegError: no such file, or not a file of boxes.
    """
    read = _read_json(path)
    try:
        if counted := read["facts"].get("counts"):
            return BoxCounts(**counted)
        entries = read["images"].values()
        sources = Counter(entry["source"] for entry in entries)
        return BoxCounts(
            images=len(entries),
            boxes=sum(len(entry["boxes"]) for entry in entries),
            without=sum(not entry["boxes"] for entry in entries),
            from_masks=sources["instances"],
            from_xml=sources["xml"],
        )
    except (KeyError, TypeError) as error:
        raise WeaksegError(f"{path}: not a file of boxes ({error}); run `weakseg annotate` again") from error


def keep_counts(path: str | Path) -> dict[str, Any]:
    """The content of a file of boxes with their counts in place of the boxes, which take a hundred times the room."""
    return {"facts": {**_read_json(path)["facts"], "counts": asdict(count_boxes(path))}, "images": {}}


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
        raise WeaksegError(f"{path}: no entry of image {image_id}; run `weakseg annotate` again") from None
