"""Training samples: crops of photos, or of a frozen trunk's cached feature maps, with what annotation says of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weakseg.config import Network, Preprocessing
from weakseg.data.crop_labels import CropLabels
from weakseg.data.dataset import DataSet
from weakseg.data.features import FeatureCache
from weakseg.data.transforms import (
    CropWindow,
    crop_places,
    grid_of_crop,
    grid_of_image,
    pad_crop,
    random_window,
    scale_labels,
    scaled_size,
)
from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
from weakseg.model.inputs import network_input
from weakseg.model.weights import preprocess


@dataclass(frozen=True)
class Crop:
    """A random crop of an image.

    Attributes:
        inputs: what the network or its head takes, channels last: (s, s, 3) float32 or stored feature maps (h, w, C).
        window: where it lies.
        size: height and width of the photo in its own pixels.
    """

    inputs: np.ndarray
    window: CropWindow
    size: tuple[int, int]


class Inputs(Protocol):
    """Gives what the network takes of an image."""

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop, mirrored half of the time."""
        ...

    def whole(self, image_id: str) -> Tensor:
        """A whole image, (1, channels, rows, columns) float32."""
        ...

    def batch(self, inputs: np.ndarray) -> Tensor:
        """Crops (N, rows, columns, channels) as a float32 batch (N, channels, rows, columns)."""
        ...


class PhotoInputs:
    """Crops of photos, for a network that trains whole."""

    def __init__(self, data: DataSet, network: Network, preprocessing: Preprocessing) -> None:
        """Read photos of `data`; `preprocessing` is that of the initial weights."""
        self.data, self.network, self.preprocessing = data, network, preprocessing
        # Padding is the mean pixel, which becomes 0 (DeepLab v1 release).
        pixel = np.array(preprocessing.mean) / preprocessing.scale
        self.fill = pixel if preprocessing.channel_order == "RGB" else pixel[::-1]

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop of a photo."""
        network, image = self.network, self.data.image(image_id)
        size = (image.shape[0], image.shape[1])
        seen = scaled_size(size, network.image_scale)
        if seen != size:
            image = np.asarray(Image.fromarray(image).resize(seen[::-1], Image.Resampling.BILINEAR))
        places = crop_places(size, network.crop_px, network.image_scale, network.output_stride, 1)
        window = random_window(rng, places, network.crop_px)
        pixels = pad_crop(image.astype(np.float32), window, self.fill.astype(np.float32))
        return Crop(preprocess(pixels, self.preprocessing).permute(1, 2, 0).numpy(), window, size)

    def whole(self, image_id: str) -> Tensor:
        """A whole photo as the network sees it."""
        network = self.network
        return network_input(self.data.image(image_id), network.image_scale, network.output_stride, self.preprocessing)

    def batch(self, inputs: np.ndarray) -> Tensor:
        """(N, 3, s, s) float32 in channels-last memory, which the CPU's convolutions prefer."""
        return torch.from_numpy(inputs).permute(0, 3, 1, 2)


class FeatureInputs:
    """Crops of a frozen trunk's cached feature maps; offsets are multiples of the stride, mirroring reverses the map.

    The trunk saw the whole photo, not the crop, and was not run on the mirrored one: both differences are those of a
    frozen trunk near the crop's border, and are small against its field of view.
    """

    def __init__(self, network: Network, cache: FeatureCache) -> None:
        """Read feature maps from `cache`."""
        self.network, self.cache = network, cache

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop of an image's feature map."""
        network, size = self.network, self.cache.size(image_id)
        stride = network.output_stride
        window = random_window(
            rng, crop_places(size, network.crop_px, network.image_scale, stride, stride), network.crop_px
        )
        cells = CropWindow(
            window.top // stride, window.left // stride, (network.crop_px - 1) // stride + 1, window.mirrored
        )
        return Crop(pad_crop(self.cache.raw(image_id), cells, 0), window, size)

    def whole(self, image_id: str) -> Tensor:
        """The feature map of a whole photo."""
        return self.cache.maps(image_id)[None]

    def batch(self, inputs: np.ndarray) -> Tensor:
        """(N, C, h, w) float32 in channels-last memory."""
        return self.cache.decode(torch.from_numpy(inputs)).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Told:
    """What annotation says of a crop.

    Attributes:
        label_map: (h, w) uint8 labels at the score cells, 255 for void and padding; None with image-level labels.
        present: (L+1,) bool image-level labels; None with label maps.
    """

    label_map: np.ndarray | None = None
    present: np.ndarray | None = None


class Annotation(Protocol):
    """Says of crops what their stream's annotation tells."""

    def of_crop(self, image_id: str, crop: Crop) -> Told:
        """What is said of a crop."""
        ...

    def of_image(self, image_id: str, size: tuple[int, int]) -> Told:
        """What is said of a whole image of height and width `size`."""
        ...


class MapAnnotation:
    """Label maps: pixel labels, or maps made from boxes."""

    def __init__(self, read: Callable[[str], np.ndarray], network: Network, *, keep: bool) -> None:
        """Read maps (H, W) uint8 by image id; `keep` them in memory once read."""
        self.read, self.network, self.keep = read, network, keep
        self._kept: dict[str, np.ndarray] = {}

    def of_crop(self, image_id: str, crop: Crop) -> Told:
        """The labels of a crop at its score cells."""
        labels = pad_crop(self._scaled(image_id, crop.size), crop.window, IGNORE)
        return Told(label_map=grid_of_crop(labels, self.network.output_stride))

    def of_image(self, image_id: str, size: tuple[int, int]) -> Told:
        """The labels of a whole image at its score cells; cells beyond the image are void."""
        return Told(label_map=grid_of_image(self._scaled(image_id, size), self.network.output_stride))

    def _scaled(self, image_id: str, size: tuple[int, int]) -> np.ndarray:
        if image_id in self._kept:
            return self._kept[image_id]
        labels = self.read(image_id)
        if labels.shape != tuple(size):
            raise WeaksegError(
                f"image {image_id}: its label map has {labels.shape[0]} rows and {labels.shape[1]} columns, its photo "
                f"{size[0]} and {size[1]}; make the maps of photos that were replaced again"
            )
        scaled = scale_labels(labels, self.network.image_scale)
        if self.keep:
            self._kept[image_id] = scaled
        return scaled


class TagAnnotation:
    """Image-level labels."""

    def __init__(self, labels: CropLabels) -> None:
        """Tell the labels of photos and, where they are known, of crops."""
        self.labels = labels

    def of_crop(self, image_id: str, crop: Crop) -> Told:
        """The labels that a crop shows."""
        return Told(present=self.labels.present(image_id, crop.window))

    def of_image(self, image_id: str, size: tuple[int, int]) -> Told:
        """The labels that a photo shows."""
        return Told(present=self.labels.tags[image_id])


def inside_cells(window: CropWindow, size: tuple[int, int], network: Network) -> np.ndarray:
    """Which score cells of a crop lie within the photo of height and width `size`, (h, w) bool."""
    height, width = scaled_size(size, network.image_scale)
    cells = np.arange(0, window.side, network.output_stride)
    inside = np.outer(window.top + cells < height, window.left + cells < width)
    return inside[:, ::-1] if window.mirrored else inside
