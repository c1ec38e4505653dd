"""The cache of a frozen trunk's maps: one safetensors file a list, maps as (h, w, C) uint8 or float16.

A trunk whose last activation is bounded (ReLU6) is stored in 256 equal steps of its range, which halves the file and
moves no value by more than half a step; any other trunk is stored as float16.
"""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weakseg.config import Network
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.memory import free_memory

_DTYPES = {"U8": np.uint8, "F16": np.float16}


class FeatureCache:
    """Maps of a frozen trunk by image id; memory-mapped, or held in memory for a training's random reads."""

    def __init__(self, path: str | Path, *, memory_share: float = 0.0) -> None:
        """Open a cache.

        Args:
            path: the file.
            memory_share: read the file into memory if it takes less than this share of what is free; else map it,
                which leaves it to the system what stays in memory.

        Raises:
            WeaksegError: no such file, or not a feature cache.
        """
        self.path = Path(path)
        try:
            with open(self.path, "rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length))
            self.metadata: dict[str, Any] = json.loads(header.pop("__metadata__")["weakseg"])
        except FileNotFoundError as error:
            raise WeaksegError(f"{path}: no such feature cache; make it with `weakseg features`") from error
        except (KeyError, ValueError, struct.error) as error:
            raise WeaksegError(
                f"{path}: not a feature cache ({error}); delete it and run `weakseg features`"
            ) from error
        if self.path.stat().st_size < memory_share * free_memory():
            self._bytes = np.fromfile(self.path, dtype=np.uint8)
            self._bytes.flags.writeable = False
        else:
            self._bytes = np.memmap(self.path, dtype=np.uint8, mode="r")
        self._offset = 8 + length
        self._entries = header
        self.ids: list[str] = list(self.metadata["sizes"])
        self.step: float | None = self.metadata["step"]

    def check(
        self,
        network: Network,
        weights_sha256: str | None,
        photos_sha256: str,
        projection_sha256: str | None = None,
    ) -> None:
        """Raise WeaksegError unless the maps are those that a network's trunk gives of certain photos.

        Args:
            network: names trunk, stride and scale.
            weights_sha256: hash of the trunk's weights file.
            photos_sha256: hash of the photos (`Contents.digest`).
            projection_sha256: hash of the file that says how maps are projected, if they are.
        """
        wanted = cache_facts(network, weights_sha256, photos_sha256, projection_sha256)
        for name, value in wanted.items():
            if self.metadata.get(name) != value:
                raise WeaksegError(
                    f"{self.path}: made with {name} {self.metadata.get(name)}, the study has {value}; run `weakseg "
                    "features` again"
                )

    def raw(self, image_id: str) -> np.ndarray:
        """The stored map (h, w, C), read-only, uint8 or float16."""
        try:
            entry = self._entries[image_id]
        except KeyError:
            raise WeaksegError(f"{self.path}: no map of image {image_id}; delete it and run again") from None
        begin, end = entry["data_offsets"]
        return (
            self._bytes[self._offset + begin : self._offset + end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        )

    def decode(self, raw: Tensor) -> Tensor:
        """Stored values (..., C) as float32."""
        values = raw.to(torch.float32)
        return values if self.step is None else values.mul_(self.step)

    def maps(self, image_id: str) -> Tensor:
        """The trunk's map of a whole photo, (C, h, w) float32."""
        return self.decode(torch.from_numpy(self.raw(image_id).copy())).permute(2, 0, 1)

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo in its own pixels."""
        height, width = self.metadata["sizes"][image_id]
        return height, width


def cache_facts(
    network: Network, weights_sha256: str | None, photos_sha256: str, projection_sha256: str | None = None
) -> dict[str, Any]:
    """All that decides a cache's maps."""
    return {
        "trunk": network.trunk,
        "output_stride": network.output_stride,
        "image_scale": network.image_scale,
        "weights_sha256": weights_sha256,
        "photos_sha256": photos_sha256,
        "projection_sha256": projection_sha256,
    }


def write_feature_cache(
    path: str | Path,
    maps: Iterable[tuple[str, tuple[int, int], Tensor]],
    *,
    bound: float | None,
    metadata: dict[str, Any],
) -> None:
    """Write a cache in one step, map by map, so that memory holds one map at a time.

    Args:
        path: the file.
        maps: (image id, photo size (H, W), map (C, h, w) float32) in order.
        bound: upper bound of the values, whose lower bound is 0; None where they are not bounded.
        metadata: JSON-able facts about the trunk, kept with the maps.
    """
    step = None if bound is None else bound / 255
    entries: dict[str, Any] = {}
    sizes: dict[str, tuple[int, int]] = {}
    with atomic_path(path) as temporary:
        body = temporary.with_name(temporary.name + ".body")
        try:
            position = 0
            with open(body, "wb") as stream:
                for image_id, size, values in maps:
                    stored = values.permute(1, 2, 0).contiguous()
                    if step is None:
                        array = stored.to(torch.float16).numpy()
                    else:
                        array = (stored / step).round().clamp(0, 255).to(torch.uint8).numpy()
                    stream.write(array.tobytes())
                    entries[image_id] = {
                        "dtype": "F16" if step is None else "U8",
                        "shape": list(array.shape),
                        "data_offsets": [position, position + array.nbytes],
                    }
                    sizes[image_id] = size
                    position += array.nbytes
            entries["__metadata__"] = {"weakseg": json.dumps({**metadata, "step": step, "sizes": sizes})}
            header = json.dumps(entries).encode()
            header += b" " * (-len(header) % 8)
            with open(temporary, "wb") as out, open(body, "rb") as stream:
                out.write(struct.pack("<Q", len(header)) + header)
                while block := stream.read(1 << 24):
                    out.write(block)
        finally:
            body.unlink(missing_ok=True)
