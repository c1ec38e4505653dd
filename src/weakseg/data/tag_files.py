"""Files of image-level labels: the table that training reads, and what people write by hand."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_csv
from weakseg.labels import BACKGROUND, LabelSet

LISTED = ("labels", "label", "tags", "classes")
"""Names that the second column may have where a row lists names."""


def read_tags(path: str | Path, labels: LabelSet) -> dict[str, np.ndarray]:
    """Image-level labels by image id, (L+1,) bool each.

    Two forms are read. Either a column a label, 0 or 1 (a column of the background may be missing), or the two columns
    `image,labels` with names parted by semicolons. Where nothing is said of the background, every image shows it.

    Raises:
        WeaksegError: no such file, no table, an unknown name (a near one is suggested), no images, one twice, or values
            other than 0 and 1; the line is named.
    """
    path = Path(path)
    header, rows = _table(path)
    if len(header) == 2 and header[1].strip().casefold() in LISTED:
        found = _listed(path, rows, labels)
    else:
        found = _by_column(path, header, rows, labels)
    tags: dict[str, np.ndarray] = {}
    for number, image_id, present in found:
        if image_id in tags:
            raise WeaksegError(f"{path}: line {number}: image {image_id} stands in it twice; remove one")
        tags[image_id] = present
    if not tags:
        raise WeaksegError(f"{path}: no images in it; write one a line")
    return tags


def write_tags(path: str | Path, tags: Mapping[str, np.ndarray], labels: LabelSet) -> None:
    """Write image-level labels with a column a label, background first."""
    atomic_write_csv(path, [{"image": i, **labels.by_name(present.astype(int))} for i, present in tags.items()])


Rows = list[tuple[int, list[str]]]


def _table(path: Path) -> tuple[list[str], Rows]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            numbered = list(enumerate(csv.reader(stream, strict=True), start=1))
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg annotate` first") from None
    except (csv.Error, ValueError, OSError) as error:  # not decodable, not a table
        raise WeaksegError(f"{path}: not a table of image-level labels in UTF-8 ({error})") from error
    rows = [(number, row) for number, row in numbered if any(cell.strip() for cell in row)]
    if not rows or rows[0][1][0].strip().casefold() != "image" or len(rows[0][1]) < 2:
        raise WeaksegError(f"{path}: its first line must name the columns: image and labels, or image and every label")
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise WeaksegError(f"{path}: line {number}: {len(row)} columns in place of {len(header)}")
    return header, rows[1:]


def _listed(path: Path, rows: Rows, labels: LabelSet) -> Iterator[tuple[int, str, np.ndarray]]:
    for number, (image_id, names) in rows:
        present = np.zeros(len(labels), dtype=bool)
        present[BACKGROUND] = True
        for name in filter(None, (part.strip() for part in names.split(";"))):
            present[_index(path, number, name, labels)] = True
        yield number, image_id.strip(), present


def _by_column(path: Path, header: list[str], rows: Rows, labels: LabelSet) -> Iterator[tuple[int, str, np.ndarray]]:
    columns = [_index(path, 1, name, labels) for name in header[1:]]
    if len(set(columns)) < len(columns):
        raise WeaksegError(f"{path}: line 1: a label has two columns")
    for number, (image_id, *flags) in rows:
        if not {"0", "1"}.issuperset(flags):
            raise WeaksegError(f"{path}: line {number}: labels must be 0 or 1")
        present = np.zeros(len(labels), dtype=bool)
        present[BACKGROUND] = True
        present[columns] = np.array(flags) == "1"
        yield number, image_id.strip(), present


def _index(path: Path, number: int, name: str, labels: LabelSet) -> int:
    try:
        return labels.index(name)
    except WeaksegError as error:
        raise WeaksegError(f"{path}: line {number}: {error}") from None
