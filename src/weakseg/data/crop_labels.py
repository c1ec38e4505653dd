"""Which labels each crop of a training image shows: the paper's image-level labels are those of the crop.

Where an image has pixel labels, a label that is there may be missing in a crop, and EM-Adapt would force a share of the
crop on it. So this is noted once, for every place at which a crop can lie, and pixel labels are not needed again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from weakseg.config import Network
from weakseg.data.transforms import CropWindow, crop_places, scale_labels
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path


@dataclass(frozen=True)
class CropGeometry:
    """Where a study's crops can lie.

    Attributes:
        side: side of a crop in network pixels.
        image_scale: factor on the photo's sides before the network.
        stride: output stride.
        step: crops begin at multiples of so many pixels.
    """

    side: int
    image_scale: float
    stride: int
    step: int

    @classmethod
    def of(cls, network: Network) -> "CropGeometry":
        """The geometry of a network's crops; cached maps of a frozen trunk are cropped at whole cells."""
        step = network.output_stride if network.freeze_trunk else 1
        return cls(network.crop_px, network.image_scale, network.output_stride, step)


def crop_presence(labels: np.ndarray, num_labels: int, geometry: CropGeometry) -> dict[int, np.ndarray]:
    """For each label of a label map, at which places a crop shows it; at none, where the scale loses it.

    Args:
        labels: (H, W) uint8 at the photo's pixels, 0..L and 255.
        num_labels: L + 1.
        geometry: of the crops.

    Returns:
        By label (rows, columns) bool, one element a place (top / step, left / step).
    """
    scaled = scale_labels(labels, geometry.image_scale)
    tops, lefts = crop_places(labels.shape, geometry.side, geometry.image_scale, geometry.stride, geometry.step)
    (top0, top1), (left0, left1) = (
        (places, np.minimum(places + geometry.side, size))
        for places, size in zip((tops, lefts), scaled.shape, strict=True)
    )
    found = {}
    for label in np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256)[:num_labels]):
        # Counts of a label's pixels above and to the left of each pixel give those of any window.
        counts = np.pad((scaled == label).cumsum(0, dtype=np.int32).cumsum(1), ((1, 0), (1, 0)))
        low, high = counts[top0], counts[top1]
        found[int(label)] = (high[:, left1] - high[:, left0] - low[:, left1] + low[:, left0]) > 0
    return found


def write_crop_labels(
    path: str | Path, presence: Iterable[tuple[str, dict[int, np.ndarray]]], geometry: CropGeometry
) -> None:
    """Write what `crop_presence` gave of many images; a label that every crop shows takes no room."""
    known: dict[str, list[int]] = {}
    partly: dict[str, np.ndarray] = {}
    for image_id, by_label in presence:
        known[image_id] = sorted(by_label)
        partly |= {f"{i}/{image_id}": places.astype(np.uint8) for i, places in by_label.items() if not places.all()}
    facts = {"geometry": asdict(geometry), "labels": known}
    # Contiguous, or safetensors would write the bytes in another order.
    packed = {name: np.ascontiguousarray(np.packbits(places, axis=1)) for name, places in partly.items()}
    with atomic_path(path) as temporary:
        save_file(packed, temporary, metadata={"weakseg": json.dumps(facts)})


class CropLabels:
    """Image-level labels of crops: those of the photo, less those that the crop is known not to show."""

    def __init__(self, tags: Mapping[str, np.ndarray], path: str | Path | None, geometry: CropGeometry) -> None:
        """Join the labels of whole photos with what is known of their crops.

        Args:
            tags: (L+1,) bool by image: what the photo shows. A label that stands here and not in the file counts as
                shown by every crop, one that stands in the file alone as shown by none.
            path: of `write_crop_labels`; None where all that is known is of whole photos.
            geometry: of the crops that will be asked for.

        Raises:
            WeaksegError: no such file, or one of other crops.
        """
        self.tags, self.step = tags, geometry.step
        self._known: dict[str, list[int]] = {}
        self._partly: dict[str, np.ndarray] = {}
        if path is None:
            return
        again = "run `weakseg annotate` again"
        try:
            facts, self._partly = _read(Path(path))
            self._known = facts["labels"]
            written = CropGeometry(**facts["geometry"])
        except FileNotFoundError:
            raise WeaksegError(f"{path}: no such file; run `weakseg annotate` first") from None
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise WeaksegError(f"{path}: not labels of crops ({error}); {again}") from error
        if written != geometry:
            raise WeaksegError(f"{path}: made for other crops ({written}) than the study's ({geometry}); {again}")

    def present(self, image_id: str, window: CropWindow) -> np.ndarray:
        """The labels that a crop shows, (L+1,) bool; mirroring changes none."""
        present = self.tags[image_id].copy()
        row, column = window.top // self.step, window.left // self.step
        for label in self._known.get(image_id, ()):
            places = self._partly.get(f"{label}/{image_id}")
            if places is not None and not (places[row, column // 8] >> (7 - column % 8)) & 1:
                present[label] = False
        return present

    def digest(self, ids: Iterable[str]) -> str:
        """Hash of all that is said of some images, in their order."""
        digest = hashlib.sha256()
        for image_id in ids:
            known = self._known.get(image_id)
            digest.update(json.dumps([image_id, np.flatnonzero(self.tags[image_id]).tolist(), known]).encode())
            for label in known or ():
                if (places := self._partly.get(f"{label}/{image_id}")) is not None:
                    digest.update(f"{label} {places.shape}".encode() + places.tobytes())
        return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="np") as stream:
        facts = json.loads((stream.metadata() or {})["weakseg"])
    return facts, load_file(path)
