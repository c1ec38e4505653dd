"""Folders of label maps that were made from boxes, one palette PNG an image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from weakseg.data.images import read_index_png
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file, sha256_json
from weakseg.labels import LabelSet

BOX_METHODS = {"bbox_rect": "Bbox-Rect", "bbox_seg": "Bbox-Seg"}
"""The methods that make such maps, with the paper's names."""


def map_reader(folder: str | Path, ids: Sequence[str], labels: LabelSet) -> Callable[[str], np.ndarray]:
    """A function that reads the label map (H, W) uint8 of an image.

    Args:
        folder: of `weakseg bbox-rect` or `weakseg bbox-seg`.
        ids: images that it must hold.
        labels: what the maps' labels mean.

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
    return lambda image_id: read_index_png(folder / f"{image_id}.png", labels)


def maps_digest(folder: str | Path, ids: Sequence[str]) -> str:
    """Hash of the label maps of some images, in their order."""
    return sha256_json([sha256_file(Path(folder) / f"{image_id}.png") for image_id in ids])
