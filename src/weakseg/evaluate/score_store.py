"""Score maps of a run's evaluation images: written once, read by everything after the network."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weakseg.errors import WeaksegError
from weakseg.evaluate.upsampling import upsample_scores
from weakseg.files import atomic_path


class ScoreStore:
    """Score maps by image id, in one safetensors file; opening is cheap, maps are read one by one."""

    def __init__(self, path: str | Path) -> None:
        """Open a store.

        Raises:
            WeaksegError: no such file, or not a score store.
        """
        self.path = Path(path)
        try:
            with safe_open(self.path, framework="np") as stream:
                facts = json.loads((stream.metadata() or {})["weakseg"])
            self.stride: int = facts["stride"]
            self.image_scale: float = facts["image_scale"]
            self.sizes: dict[str, tuple[int, int]] = {k: (v[0], v[1]) for k, v in facts["sizes"].items()}
        except FileNotFoundError:
            raise WeaksegError(f"{path}: no such score store; run `weakseg score` first") from None
        except (SafetensorError, KeyError, ValueError) as error:
            raise WeaksegError(f"{path}: not a score store ({error}); delete it and run `weakseg score`") from error

    @property
    def ids(self) -> list[str]:
        """The image ids, in the order they were written."""
        return list(self.sizes)

    def map(self, image_id: str) -> np.ndarray:
        """The stored map of an image, (L+1, h, w) float16."""
        if image_id not in self.sizes:
            raise WeaksegError(f"{self.path}: no scores of image {image_id}; delete the file and run `weakseg score`")
        with safe_open(self.path, framework="np") as stream:
            return stream.get_tensor(image_id)

    def full(self, image_id: str) -> np.ndarray:
        """Scores at the photo's pixels, (L+1, H, W) float32."""
        return upsample_scores(
            self.map(image_id), self.sizes[image_id], stride=self.stride, image_scale=self.image_scale
        )


def write_scores(
    path: str | Path, maps: Iterable[tuple[str, tuple[int, int], np.ndarray]], *, stride: int, image_scale: float
) -> None:
    """Write a store in one step from (image id, photo size (H, W), map (L+1, h, w)).

    Raises:
        WeaksegError: values that are not finite in half precision.
    """
    tensors: dict[str, np.ndarray] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for image_id, size, scores in maps:
        with np.errstate(over="ignore"):  # reported below
            tensors[image_id] = np.ascontiguousarray(scores, dtype=np.float16)
        if not np.isfinite(tensors[image_id]).all():
            raise WeaksegError(
                f"{path}: scores of image {image_id} are not finite in half precision; train the run again, with a "
                "lower learning rate if it diverged"
            )
        sizes[image_id] = size
    facts: dict[str, Any] = {"stride": stride, "image_scale": image_scale, "sizes": sizes}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"weakseg": json.dumps(facts)})
