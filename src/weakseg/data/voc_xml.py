"""Boxes from the XML annotations of the VOC development kit."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from weakseg.data.boxes import Box, check_boxes
from weakseg.errors import WeaksegError
from weakseg.labels import LabelSet

CLIPPED_PX = 2
"""How far a box may reach beyond its image before that is an error: XML files round, and count from 0 or 1."""


def boxes_from_xml(path: str | Path, size: tuple[int, int], labels: LabelSet) -> list[Box]:
    """The boxes of a VOC annotation file; its coordinates count from 1, and objects marked difficult are boxes too.

    Coordinates are rounded to whole pixels. A box that reaches outside the image by 2 pixels or less is clipped.

    Args:
        path: the file.
        size: height and width of the image in pixels.
        labels: knows the names of the classes, whose capitals do not matter.

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
        try:
            label = labels.index(name)
        except WeaksegError as error:
            raise WeaksegError(f"{path}: box {number}: {error}") from None
        try:
            left, top, right, bottom = (
                round(float(thing.findtext(f"bndbox/{corner}") or "")) - 1
                for corner in ("xmin", "ymin", "xmax", "ymax")
            )
        except (ValueError, OverflowError):
            raise WeaksegError(
                f"{path}: box {number} ({name}) lacks xmin, ymin, xmax or ymax, or one is no number"
            ) from None
        found.append(Box(label, top, left, bottom, right))
    clipped = [_clip(box, size) for box in found]
    check_boxes(clipped, size, str(path), labels)
    return clipped


def _clip(box: Box, size: tuple[int, int]) -> Box:
    """The box within the image, if it reaches outside by `CLIPPED_PX` at most."""
    beyond = max(-box.top, -box.left, box.bottom - size[0] + 1, box.right - size[1] + 1)
    if not 0 < beyond <= CLIPPED_PX:
        return box
    return Box(box.label, max(box.top, 0), max(box.left, 0), min(box.bottom, size[0] - 1), min(box.right, size[1] - 1))
