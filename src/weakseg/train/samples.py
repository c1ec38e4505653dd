"""Training samples: crops of photos, or of a frozen trunk's cached maps, with labels at the score cells."""

from collections.abc import Callable, Iterator
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
    grid_of_image,
    pad_crop,
    padded_size,
    present_labels,
    random_window,
    scale_labels,
)
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
from weakseg.train.mixing import ImageStream


@dataclass(frozen=True)
class Sample:
    """One crop, for an output of h x w score cells.

    Attributes:
        inputs: what the network or its head takes, channels last: (s, s, 3) float32 or stored maps (h, w, C).
        labels: (h, w) uint8 labels at the score cells, 255 for void and padding: true ones, or those of a map from
            boxes, as the source's reader gives them.
        inside: (h, w) bool, whether the cell lies within the photo.
        present: (L+1,) bool, the labels that occur in the crop's pixels: its image-level labels.
    """

    inputs: np.ndarray
    labels: np.ndarray
    inside: np.ndarray
    present: np.ndarray


ReadLabels = Callable[[str], np.ndarray]
"""The label map (H, W) uint8 of an image by id: its pixel labels, or a map made from boxes."""


class SampleSource(Protocol):
    """Makes samples of images by id."""

    def with_labels(self, read_labels: ReadLabels) -> "SampleSource":
        """The same images with other label maps."""
        ...

    def whole_inputs(self, image_id: str) -> Tensor:
        """What the network or its head takes for a whole image, (1, channels, rows, columns) float32."""
        ...

    def whole_labels(self, image_id: str) -> np.ndarray:
        """The labels of a whole image at the score cells, (h, w) uint8; cells beyond the image are void."""
        ...

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


def _check_size(image_id: str, labels: np.ndarray, size: tuple[int, ...]) -> None:
    if labels.shape != tuple(size):
        raise WeaksegError(
            f"image {image_id}: its label map has {labels.shape[0]} rows and {labels.shape[1]} columns, its photo "
            f"{size[0]} and {size[1]}; make the maps of photos that were replaced again"
        )


class PhotoSource:
    """Crops of photos for a network that trains whole."""

    def __init__(
        self,
        folder: VocFolder,
        network: Network,
        preprocessing: Preprocessing,
        read_labels: ReadLabels | None = None,
    ) -> None:
        """Read from a VOC-layout folder; `preprocessing` is that of the initial weights.

        `read_labels` gives label maps in place of the folder's pixel labels.
        """
        self.folder = folder
        self.read_labels = read_labels or folder.labels
        self.network = network
        self.preprocessing = preprocessing
        # Padding is the mean pixel, which becomes 0 (DeepLab v1 release).
        pixel = np.array(preprocessing.mean) / preprocessing.scale
        self.fill = pixel if preprocessing.channel_order == "RGB" else pixel[::-1]

    def with_labels(self, read_labels: ReadLabels) -> "PhotoSource":
        """The same photos with other label maps."""
        return PhotoSource(self.folder, self.network, self.preprocessing, read_labels)

    def whole_inputs(self, image_id: str) -> Tensor:
        """A whole photo as the network sees it."""
        from weakseg.model.inputs import network_input

        image = self.folder.image(image_id)
        return network_input(image, self.network.image_scale, self.network.output_stride, self.preprocessing)

    def whole_labels(self, image_id: str) -> np.ndarray:
        """The labels of a whole photo at the score cells."""
        labels = self.read_labels(image_id)
        _check_size(image_id, labels, self.folder.size(image_id))
        return grid_of_image(scale_labels(labels, self.network.image_scale), self.network.output_stride)

    def sample(self, image_id: str, rng: np.random.Generator) -> Sample:
        """A random crop of a photo, mirrored half of the time."""
        from weakseg.model import preprocess

        image = self.folder.image(image_id)
        labels = self.read_labels(image_id)
        _check_size(image_id, labels, image.shape[:2])
        labels = scale_labels(labels, self.network.image_scale)
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

    def __init__(self, network: Network, cache: FeatureCache, read_labels: ReadLabels) -> None:
        """Read maps from `cache` and labels by `read_labels`; labels are kept in memory once read."""
        self.network = network
        self.cache = cache
        self.read_labels = read_labels
        self._labels: dict[str, np.ndarray] = {}

    def with_labels(self, read_labels: ReadLabels) -> "FeatureSource":
        """The same maps with other labels."""
        return FeatureSource(self.network, self.cache, read_labels)

    def whole_inputs(self, image_id: str) -> Tensor:
        """The map of a whole photo."""
        return self.cache.maps(image_id)[None]

    def whole_labels(self, image_id: str) -> np.ndarray:
        """The labels of a whole photo at the score cells."""
        return grid_of_image(self._scaled_labels(image_id), self.network.output_stride)

    def _scaled_labels(self, image_id: str) -> np.ndarray:
        if image_id not in self._labels:
            labels = self.read_labels(image_id)
            _check_size(image_id, labels, self.cache.size(image_id))
            self._labels[image_id] = scale_labels(labels, self.network.image_scale)
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
        labels: (N, h, w) int64 labels at the score cells. A weak image's come from its map where it has boxes; with
            image-level labels they are the true ones, for display and never for training.
        inside: (N, h, w) bool.
        present: (N, L+1) bool.
        strong: how many of the N images are strong.
    """

    inputs: Tensor
    labels: Tensor
    inside: Tensor
    present: Tensor
    strong: int


@dataclass(frozen=True)
class Part:
    """What a mini-batch draws from one stream.

    Attributes:
        stream: image ids, `strong` or `weak`.
        images: how many an iteration.
        source: makes their samples.
    """

    stream: ImageStream
    images: int
    source: SampleSource


class Bundles:
    """The mini-batches of a run by iteration, prepared ahead by a thread, each a function of seed and iteration."""

    def __init__(self, *, strong: Part | None, weak: Part | None, seed: int, ahead: int = 3) -> None:
        """Draw from the parts that are there; `ahead` mini-batches wait at most."""
        self.parts = [part for part in (strong, weak) if part is not None]
        self.strong = strong.images if strong is not None else 0
        self.seed = seed
        self.ahead = ahead

    def bundle(self, iteration: int) -> Bundle:
        """The mini-batch of an iteration 0, 1, ..."""
        samples: list[Sample] = []
        for part in self.parts:
            for slot in range(part.images):
                rng = np.random.default_rng([self.seed, *part.stream.name.encode(), iteration, slot])
                samples.append(part.source.sample(part.stream[iteration * part.images + slot], rng))
        return Bundle(
            inputs=self.parts[0].source.batch_inputs([s.inputs for s in samples]),
            labels=torch.from_numpy(np.stack([s.labels for s in samples]).astype(np.int64)),
            inside=torch.from_numpy(np.stack([s.inside for s in samples])),
            present=torch.from_numpy(np.stack([s.present for s in samples])),
            strong=self.strong,
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
