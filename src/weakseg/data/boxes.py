"""Bounding boxes: what one is, and what they have to do with an image and with each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE, LabelSet


@dataclass(frozen=True, order=True)
class Box:
    """A box of one object, in pixels; rows and columns count from 0 and the last ones belong to it.

    Attributes:
        label: class of the object, 1..L.
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
        """Its corners, for messages."""
        return f"rows {self.top}..{self.bottom}, columns {self.left}..{self.right}"


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


def check_boxes(boxes: Sequence[Box], size: tuple[int, int], where: str, labels: LabelSet | None = None) -> None:
    """Refuse boxes that are not boxes of objects within the image.

    Args:
        boxes: of one image.
        size: its height and width in pixels.
        where: names the image in an error.
        labels: what the boxes' labels mean; None where only their range of a label map is known.

    Raises:
        WeaksegError: a label that is no class, a side of no or negative length, or pixels outside the image; the box is
            named by number, from 1.
    """
    num_labels = IGNORE if labels is None else len(labels)
    for number, box in enumerate(boxes, start=1):
        name = f"label {box.label}" if labels is None else labels.text(box.label)
        if not 0 < box.label < num_labels:
            raise WeaksegError(f"{where}: box {number} is of {name}, which is no class; these are 1..{num_labels - 1}")
        if box.height < 1 or box.width < 1:
            raise WeaksegError(
                f"{where}: box {number}, {name} ({box}), is empty; its last row and column lie before its first"
            )
        if box.top < 0 or box.left < 0 or box.bottom >= size[0] or box.right >= size[1]:
            raise WeaksegError(
                f"{where}: box {number}, {name} ({box}), reaches outside the image of {size[0]} rows and {size[1]} "
                "columns"
            )
