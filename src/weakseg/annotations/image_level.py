"""Image-level labels: which labels occur in a training image."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from weakseg.data.prepare import open_data
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_csv
from weakseg.labels import CLASSES, by_class


def write_image_labels(manifest_path: str | Path, out_csv: str | Path) -> None:
    """Write a row an image of `train_aug`: its id, then 0 or 1 for each label, background first.

    The labels are those of the pixel annotation, void left out (Papandreou et al. 2015, section 4.1: weak annotations
    are made from the pixel-level ones).
    """
    present = open_data(manifest_path).check(["train_aug"])
    atomic_write_csv(out_csv, [{"image": name, **by_class(flags.astype(int))} for name, flags in present.items()])


def read_image_labels(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Ids and (n, L+1) bool labels from `image_labels.csv`.

    Raises:
        WeaksegError: missing file or columns, no images, one twice, or values other than 0 and 1.
    """
    again = "run `weakseg annotate` again"
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            header, *rows = (row for row in csv.reader(stream, strict=True) if row)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg annotate` first") from None
    except (csv.Error, ValueError) as error:  # undecodable, or without a header
        raise WeaksegError(f"{path}: not a table ({error}); {again}") from error
    if header != ["image", *CLASSES]:
        raise WeaksegError(f"{path}: its columns must be image and the 21 labels in order; {again}")
    if not rows:
        raise WeaksegError(f"{path}: no images in it; {again}")
    for row in rows:
        if len(row) != len(header):
            raise WeaksegError(f"{path}: not a table (image {row[0]} has {len(row) - 1} labels); {again}")
        if not {"0", "1"}.issuperset(row[1:]):
            raise WeaksegError(f"{path}: labels must be 0 or 1; {again}")
    ids = [row[0] for row in rows]
    if doubled := [name for name, count in Counter(ids).items() if count > 1]:
        raise WeaksegError(f"{path}: image {doubled[0]} stands in it twice; {again}")
    return ids, np.array([row[1:] for row in rows]) == "1"
