"""A data set as everything after its preparation sees it: opened by its manifest, whatever its source."""

import functools
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weakseg.config import Role
from weakseg.data.boxes import Box
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import LabelSet

ROLES: tuple[Role, ...] = ("pixel_labelled", "training", "evaluation", "held_out")
"""What the lists are for that every data set has; one has a list for `test` too where its study names it."""


class DataSet(Protocol):
    """Images with what annotation they have, in one label set.

    Attributes:
        labels: what the labels mean.
    """

    labels: LabelSet

    def ids(self, role: str) -> list[str]:
        """The image ids that are there for a role of `ROLES`, or for `test`; none for one that has no list."""
        ...

    def image(self, image_id: str) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB, upright."""
        ...

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo."""
        ...

    def has_pixel_labels(self, image_id: str) -> bool:
        """Whether the image has pixel labels."""
        ...

    def pixel_labels(self, image_id: str) -> np.ndarray:
        """The label map, (H, W) uint8, 0..L and 255."""
        ...

    def instances(self, image_id: str) -> np.ndarray | None:
        """The instance map, (H, W) uint8, 0 background, 255 void; None where there is none."""
        ...

    def boxes(self, image_id: str) -> list[Box] | None:
        """Boxes drawn by hand; None where there are none."""
        ...

    def tags(self, image_id: str) -> np.ndarray | None:
        """Image-level labels written by hand, (L+1,) bool; None where there are none."""
        ...

    def tagged(self) -> dict[str, np.ndarray]:
        """All image-level labels written by hand, also of images that no list names."""
        ...

    def files(self, image_id: str) -> dict[str, Path]:
        """The files that say something of an image, by kind: photo, mask, instances, boxes; those that are there."""
        ...

    def shared_files(self, lists: list[str]) -> dict[str, Path]:
        """The files that say something of many images, by kind."""
        ...


def teaching_ids(data: DataSet) -> list[str]:
    """The images that may teach: those for training and, where there is a second stage, those that it adds."""
    return [*data.ids("training"), *second_stage_ids(data)]


def second_stage_ids(data: DataSet) -> list[str]:
    """The images of the evaluation that the second stage trains on: none without test images, and none of these."""
    test = set(data.ids("test"))
    return [image_id for image_id in data.ids("evaluation") if image_id not in test] if test else []


def stream_lists(data: DataSet) -> dict[str, list[str]]:
    """What the streams of experiments draw from: `pixel_labelled`, `training`, and `second_stage` beside these."""
    roles = {role: data.ids(role) for role in ("pixel_labelled", "training")}
    return {**roles, "second_stage": second_stage_ids(data)}


READERS = {"voc": VocFolder}
"""What reads a data set, by the manifest's `reader`."""


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest's content.

    Raises:
        WeaksegError: no such file, or not a manifest.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        manifest["root"], manifest["counts"], [manifest["lists"][role] for role in ROLES]
        READERS[manifest["reader"]]
        LabelSet.from_json(manifest["labels"])
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such manifest; run `weakseg data` first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeaksegError(f"{path}: not a manifest ({error}); delete it and run `weakseg data`") from error
    return manifest


def open_data(manifest_path: str | Path) -> DataSet:
    """The data set of a manifest."""
    path = Path(manifest_path)
    return _open(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=4)
def _open(path: Path, _changed: int) -> DataSet:
    """Opened once a process: those that label many images open it for each."""
    manifest = read_manifest(path)
    reader = READERS[manifest["reader"]]
    labels, lists = LabelSet.from_json(manifest["labels"]), manifest["lists"]
    return reader(manifest["root"], labels, lists, manifest["tag_file"], manifest.get("test_photos"))
