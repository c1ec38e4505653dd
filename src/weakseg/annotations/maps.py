"""Folders of label maps that were made from boxes: writing the note of what they were made from, and reading them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Experiment
from weakseg.data.voc import read_index_png
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, sha256_file
from weakseg.paths import StudyPaths

FACTS = "facts.json"
"""File in a folder of maps that says what they were made from."""


@dataclass(frozen=True)
class BoxMaps:
    """The label maps of a run's weak images with boxes.

    Attributes:
        read: gives the map (H, W) uint8 of an image by id.
        sha256: hash of what the maps were made from.
    """

    read: Callable[[str], np.ndarray]
    sha256: str


def box_maps(experiment: Experiment, paths: StudyPaths, ids: Sequence[str]) -> BoxMaps | None:
    """The maps that an experiment is trained with, None without boxes.

    Raises:
        WeaksegError: maps of some of the images, or the note of what they were made from, are missing.
    """
    if experiment.box_maps is None:
        return None
    folder = paths.box_maps(experiment.box_maps)
    read, facts = map_reader(folder, ids), read_facts(folder)
    by_boxes_alone = list(facts) == ["boxes_sha256"]
    return BoxMaps(read, facts["boxes_sha256"] if by_boxes_alone else sha256_file(folder / FACTS))


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


def write_facts(folder: str | Path, facts: dict[str, Any]) -> None:
    """Note in a folder of label maps what they were made from: `boxes_sha256`, and parameters where there are any."""
    atomic_write_json(Path(folder) / FACTS, facts)


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What the maps of a folder were made from.

    Raises:
        WeaksegError: there is no such note.
    """
    path = Path(folder) / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts["boxes_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        command = f"weakseg {path.parent.name.replace('_', '-')}"
        raise WeaksegError(f"{path}: missing, or not what label maps were made from; run `{command}`") from error
    return facts
