"""Training samples: crops of photos, or of a frozen trunk's cached maps, with labels at the score cells."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weakseg.config import Network, Preprocessing
from weakseg.data.features import FeatureCache
from weakseg.data.transforms import (
    CropWindow,
    grid_of_crop,
    pad_crop,
    padded_size,
    present_labels,
    random_window,
    scale_labels,
)
from weakseg.data.voc import VocFolder
from weakseg.labels import IGNORE
from weakseg.train.mixing import ImageStream


@dataclass(frozen=True)
class Sample:
    """One crop, for an output of h x w score cells.

    Attributes:
        inputs: what the network or its head takes, channels last: (s, s, 3) float32 or stored maps (h, w, C).
        labels: (h, w) uint8 labels at the score cells, 255 for void and padding.
        inside: (h, w) bool, whether the cell lies within the photo.
        present: (L+1,) bool, the labels that occur in the crop's pixels: its image-level labels.
    """

    inputs: np.ndarray
    labels: np.ndarray
    inside: np.ndarray
    present: np.ndarray


class SampleSource(Protocol):
    """Makes samples of images by id."""

    def sample(self, image_id: str, rng: np.random.Generator) -> Sample:
        """A random crop of an image."""
        ...

    def batch_inputs(self, inputs: list[np.ndarray]) -> Tensor:
        """Stack inputs to a float32 batch (N, channels, rows, columns)."""
        ...


def _cropped_labels(
    labels: np.ndarray, window: CropWindow, network: Network
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and insideness at the score cells, and the labels present in the crop's pixels."""
    crop = pad_crop(labels, window, IGNORE)
    inside = pad_crop(np.ones(labels.shape, dtype=bool), window, False)
    stride = network.output_stride
    return grid_of_crop(crop, stride), grid_of_crop(inside, stride), present_labels(crop)


class PhotoSource:
    """Crops of photos for a network that trains whole."""

    def __init__(self, folder: VocFolder, network: Network, preprocessing: Preprocessing) -> None:
        """Read from a VOC-layout folder; `preprocessing` is that of the initial weights."""
        self.folder = folder
        self.network = network
        self.preprocessing = preprocessing
        # Padding is the mean pixel, which becomes 0 (DeepLab v1 release).
        pixel = np.array(preprocessing.mean) / preprocessing.scale
        self.fill = pixel if preprocessing.channel_order == "RGB" else pixel[::-1]

    def sample(self, image_id: str, rng: np.random.Generator) -> Sample:
        """A random crop of a photo, mirrored half of the time."""
        from weakseg.model import preprocess

        image = self.folder.image(image_id)
        labels = scale_labels(self.folder.labels(image_id), self.network.image_scale)
        if labels.shape != image.shape[:2]:
            resized = Image.fromarray(image).resize(labels.shape[::-1], Image.Resampling.BILINEAR)
            image = np.asarray(resized)
        window = random_window(rng, labels.shape, self.network.crop_px)
        crop = pad_crop(image.astype(np.float32), window, self.fill.astype(np.float32))
        inputs = preprocess(crop, self.preprocessing).permute(1, 2, 0).numpy()
        return Sample(inputs, *_cropped_labels(labels, window, self.network))

    def batch_inputs(self, inputs: list[np.ndarray]) -> Tensor:
        """(N, 3, s, s) float32 in channels-last memory, which the CPU's convolutions prefer."""
        return torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2)


class FeatureSource:
    """Crops of a frozen trunk's cached maps; offsets are multiples of the stride, mirroring reverses the map.

    The trunk saw the whole photo, not the crop, and was not run on the mirrored one: both differences are those of a
    frozen trunk near the crop's border, and are small against its field of view.
    """

    def __init__(self, folder: VocFolder, network: Network, cache: FeatureCache) -> None:
        """Read maps from `cache` and labels from `folder`; labels are kept in memory once read."""
        self.folder = folder
        self.network = network
        self.cache = cache
        self._labels: dict[str, np.ndarray] = {}

    def _scaled_labels(self, image_id: str) -> np.ndarray:
        if image_id not in self._labels:
            self._labels[image_id] = scale_labels(self.folder.labels(image_id), self.network.image_scale)
        return self._labels[image_id]

    def sample(self, image_id: str, rng: np.random.Generator) -> Sample:
        """A random crop of an image's map, mirrored half of the time."""
        labels = self._scaled_labels(image_id)
        stride = self.network.output_stride
        padded = tuple(padded_size(size, stride) for size in labels.shape)
        window = random_window(rng, padded, self.network.crop_px, step=stride)
        cells = CropWindow(
            window.top // stride,
            window.left // stride,
            (self.network.crop_px - 1) // stride + 1,
            window.mirrored,
        )
        inputs = pad_crop(self.cache.raw(image_id), cells, 0)
        return Sample(inputs, *_cropped_labels(labels, window, self.network))

    def batch_inputs(self, inputs: list[np.ndarray]) -> Tensor:
        """(N, C, h, w) float32 in channels-last memory."""
        return self.cache.decode(torch.from_numpy(np.stack(inputs))).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Bundle:
    """A mini-batch, strong images first.

    Attributes:
        inputs: (N, channels, rows, columns) float32.
        labels: (N, h, w) int64 labels at the score cells; a weak image's are for display, never for training.
        inside: (N, h, w) bool.
        present: (N, L+1) bool.
        strong: how many of the N images are strong.
    """

    inputs: Tensor
    labels: Tensor
    inside: Tensor
    present: Tensor
    strong: int


class Bundles:
    """The mini-batches of a run by iteration, prepared ahead by a thread, each a function of seed and iteration."""

    def __init__(
        self,
        source: SampleSource,
        *,
        strong: ImageStream | None,
        weak: ImageStream | None,
        batch_strong: int,
        batch_weak: int,
        seed: int,
        ahead: int = 3,
    ) -> None:
        """Draw `batch_strong` and `batch_weak` images an iteration from the streams that are there."""
        self.source = source
        self.parts = [
            (name, stream, size)
            for name, stream, size in (("strong", strong, batch_strong), ("weak", weak, batch_weak))
            if stream is not None
        ]
        self.seed = seed
        self.ahead = ahead

    def bundle(self, iteration: int) -> Bundle:
        """The mini-batch of an iteration 0, 1, ..."""
        samples: list[Sample] = []
        strong = 0
        for name, stream, size in self.parts:
            for slot in range(size):
                rng = np.random.default_rng([self.seed, *name.encode(), iteration, slot])
                samples.append(self.source.sample(stream[iteration * size + slot], rng))
            strong += size if name == "strong" else 0
        return Bundle(
            inputs=self.source.batch_inputs([s.inputs for s in samples]),
            labels=torch.from_numpy(np.stack([s.labels for s in samples]).astype(np.int64)),
            inside=torch.from_numpy(np.stack([s.inside for s in samples])),
            present=torch.from_numpy(np.stack([s.present for s in samples])),
            strong=strong,
        )

    def iterate(self, first: int, last: int) -> Iterator[Bundle]:
        """The mini-batches of iterations first .. last - 1 in order."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting: list[Future[Bundle]] = []
            try:
                for iteration in range(first, last):
                    while len(waiting) < self.ahead and iteration + len(waiting) < last:
                        waiting.append(pool.submit(self.bundle, iteration + len(waiting)))
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()
