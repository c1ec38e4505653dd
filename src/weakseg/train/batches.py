"""Mini-batches by iteration, each a function of the seed and the iteration alone, made ahead by other processes."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from weakseg.config import Network
from weakseg.train.distributed import ALONE, Processes
from weakseg.train.samples import Annotation, Crop, Inputs, Told, inside_cells, visible_part
from weakseg.train.streams import ImageStream

AHEAD = 3
"""Mini-batches that wait at most for each process that makes them."""


@dataclass(frozen=True)
class Draw:
    """What a mini-batch draws from one stream.

    Attributes:
        stream: endless image ids.
        images: how many an iteration.
        annotation: says what is known of their crops.
    """

    stream: ImageStream
    images: int
    annotation: Annotation


@dataclass(frozen=True)
class Part:
    """The images of one stream in a mini-batch.

    Attributes:
        inside: (n, h, w) bool, whether a score cell lies within the photo.
        label_map: (n, h, w) int64 labels at the score cells, or None.
        present: (n, L+1) bool image-level labels, or None.
    """

    inside: np.ndarray
    label_map: np.ndarray | None
    present: np.ndarray | None


@dataclass(frozen=True)
class Batch:
    """A mini-batch: the images of one stream after those of the other.

    Attributes:
        inputs: (N, ...), as `Inputs.crop` gives them.
        visible: (N, 3) int64, `visible_part` of each crop.
        parts: one a stream.
    """

    inputs: np.ndarray
    visible: np.ndarray
    parts: tuple[Part, ...]


class Batches(Dataset[Batch]):
    """The mini-batches of a run by iteration, or of each the images that one of several processes has."""

    def __init__(
        self, inputs: Inputs, draws: Sequence[Draw], network: Network, seed: int, processes: Processes = ALONE
    ) -> None:
        """Draw crops from `inputs` and what is known of them from each stream."""
        self.inputs, self.draws, self.network, self.seed = inputs, tuple(draws), network, seed
        self.processes = processes

    def __getitem__(self, iteration: int) -> Batch:
        """The mini-batch of an iteration 0, 1, ..."""
        crops: list[Crop] = []
        parts = []
        for draw in self.draws:
            inside, told = [], []
            for slot in self.processes.dealt(draw.images):
                image_id = draw.stream[iteration * draw.images + slot]
                rng = np.random.default_rng([self.seed, *draw.stream.name.encode(), iteration, slot])
                crop = self.inputs.crop(image_id, rng)
                crops.append(crop)
                inside.append(inside_cells(crop.window, crop.size, self.network))
                told.append(draw.annotation.of_crop(image_id, crop))
            parts.append(_part(inside, told))
        visible = np.array([visible_part(crop, self.network) for crop in crops], dtype=np.int64)
        return Batch(np.stack([crop.inputs for crop in crops]), visible, tuple(parts))

    def iterate(self, first: int, last: int, workers: int) -> Iterator[Batch]:
        """The mini-batches of iterations first .. last - 1, made by `workers` other processes; 0: by this one."""
        forks = "fork" in multiprocessing.get_all_start_methods()
        loader: Any = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            # Arrays go through a pipe, not through shared memory, of which containers have little.
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            # Else the loader draws its seed from the generator that dropout draws from.
            generator=torch.Generator(),
            # A fork shares the feature maps that are held in memory.
            multiprocessing_context="fork" if workers and forks else None,
        )
        return iter(loader)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _part(inside: Sequence[np.ndarray], told: Sequence[Told]) -> Part:
    maps = [one.label_map for one in told if one.label_map is not None]
    present = [one.present for one in told if one.present is not None]
    return Part(
        inside=np.stack(inside),
        label_map=np.stack(maps).astype(np.int64) if maps else None,
        present=np.stack(present) if present else None,
    )
