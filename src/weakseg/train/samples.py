"""Training samples: crops of photos, or of a frozen trunk's cached feature maps, with what annotation says of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from weakseg.config import Network, Preprocessing
from weakseg.data.crop_labels import CropLabels
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
from weakseg.devices import to_device
from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
from weakseg.model.inputs import network_input
from weakseg.train.photos import HeldPhotos, scaled_photo
from weakseg.train.sources import CachedMaps, Photos


@dataclass(frozen=True)
class Crop:
    """A random crop of an image.

    Attributes:
        inputs: what a mini-batch's input is made of, as `Inputs.batch` takes it: (s, s, 3) uint8 pixels, padded with 0
            and not mirrored yet; or where they begin in memory; or stored feature maps (h, w, C).
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

    def batch(self, inputs: np.ndarray, visible: np.ndarray, device: torch.device) -> Tensor:
        """The `inputs` of N crops as a float32 batch (N, channels, rows, columns) on a device.

        Args:
            inputs: (N, ...), those of the crops.
            visible: (N, 3) int64, of each crop `visible_part`.
            device: where the network is.
        """
        ...


def visible_part(crop: Crop, network: Network) -> tuple[int, int, bool]:
    """How many rows and columns of a crop lie within the photo, and whether it is mirrored."""
    window, size = crop.window, scaled_size(crop.size, network.image_scale)
    rows, columns = (min(window.side, n - begin) for n, begin in zip(size, (window.top, window.left), strict=True))
    return rows, columns, window.mirrored


class PhotoInputs:
    """Crops of photos, for a network that trains whole.

    A crop is cut as uint8 by the process that makes mini-batches; what is left, padding, mirroring and preprocessing,
    is done for a whole batch on the network's device.
    """

    def __init__(self, data: Photos, network: Network, preprocessing: Preprocessing) -> None:
        """Read photos of `data`; `preprocessing` is that of the initial weights."""
        self.data, self.network, self.preprocessing = data, network, preprocessing
        self._finish = CropFinisher(preprocessing)

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop of a photo."""
        image = self.data.image(image_id)
        size = (image.shape[0], image.shape[1])
        window = self._window(rng, size)
        pixels = scaled_photo(image, self.network.image_scale)
        return Crop(pad_crop(pixels, replace(window, mirrored=False), 0), window, size)

    def whole(self, image_id: str) -> Tensor:
        """A whole photo as the network sees it."""
        network = self.network
        return network_input(self.data.image(image_id), network.image_scale, network.output_stride, self.preprocessing)

    def batch(self, inputs: np.ndarray, visible: np.ndarray, device: torch.device) -> Tensor:
        """(N, 3, s, s) float32 in channels-last memory, which convolutions prefer."""
        return self._finish(to_device(inputs, device), to_device(visible, device))

    def _window(self, rng: np.random.Generator, size: tuple[int, int]) -> CropWindow:
        network = self.network
        places = crop_places(size, network.crop_px, network.image_scale, network.output_stride, 1)
        return random_window(rng, places, network.crop_px)


class HostPhotoInputs(PhotoInputs):
    """Crops of photos that the machine's memory holds."""

    def __init__(self, data: Photos, network: Network, preprocessing: Preprocessing, held: HeldPhotos) -> None:
        """Cut from photos `held` in the machine's memory."""
        super().__init__(data, network, preprocessing)
        self.held = held

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop of a photo."""
        size = self.held.sizes[image_id]
        window = self._window(rng, size)
        return Crop(pad_crop(self.held.photo(image_id), replace(window, mirrored=False), 0), window, size)


class DevicePhotoInputs(PhotoInputs):
    """Crops of photos that the network's device holds: a crop is but a place in its memory until a batch is made."""

    def __init__(self, data: Photos, network: Network, preprocessing: Preprocessing, held: HeldPhotos) -> None:
        """Cut from photos `held` on the network's device."""
        super().__init__(data, network, preprocessing)
        self.first, self.sizes, self.pixels = held.first, held.sizes, held.pixels

    def __getstate__(self) -> dict[str, object]:
        """Without the pixels: another process that makes mini-batches needs their places alone."""
        return {**self.__dict__, "pixels": None}

    def crop(self, image_id: str, rng: np.random.Generator) -> Crop:
        """A random crop of a photo: the place of its first pixel, and how far a row is from the next."""
        size = self.sizes[image_id]
        window = self._window(rng, size)
        width = scaled_size(size, self.network.image_scale)[1]
        place = self.first[image_id] + window.top * width + window.left
        return Crop(np.array([place, width], dtype=np.int64), window, size)

    def batch(self, inputs: np.ndarray, visible: np.ndarray, device: torch.device) -> Tensor:
        """(N, 3, s, s) float32 in channels-last memory, gathered from the photos on the device."""
        places, seen = to_device(inputs, device), to_device(visible, device)
        at = torch.arange(self.network.crop_px, device=device)
        # Beyond the photo the last row and column within it, which padding will lie over.
        rows, columns = (torch.minimum(at, seen[:, axis, None] - 1) for axis in (0, 1))
        offsets = (places[:, :1] + rows * places[:, 1:])[:, :, None] + columns[:, None, :]
        return self._finish(self.pixels[offsets], seen)


class CropFinisher:
    """Padding, mirroring and preprocessing of crops, for a whole batch on its device."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        """Preprocess as the initial weights want it."""
        self.preprocessing = preprocessing
        # Padding is the mean pixel, which becomes 0 (DeepLab v1 release).
        pixel = np.array(preprocessing.mean) / preprocessing.scale
        self.fill = pixel if preprocessing.channel_order == "RGB" else pixel[::-1]
        self._constants: dict[torch.device, Tensor] = {}

    def __call__(self, pixels: Tensor, visible: Tensor) -> Tensor:
        """Crops as the network takes them.

        Args:
            pixels: (N, s, s, 3) uint8 RGB, not mirrored.
            visible: (N, 3) int64: rows and columns within the photo, whether mirrored.

        Returns:
            (N, 3, s, s) float32 in channels-last memory.
        """
        if pixels.device not in self._constants:  # made once: each would be a transfer
            constants = np.array([self.fill, self.preprocessing.mean, self.preprocessing.std], dtype=np.float32)
            self._constants[pixels.device] = torch.from_numpy(constants).to(pixels.device)
        fill, mean, std = self._constants[pixels.device]
        at = torch.arange(pixels.shape[1], device=pixels.device)
        rows, columns = (at < visible[:, axis, None] for axis in (0, 1))
        inside = (rows[:, :, None] & columns[:, None, :])[..., None]
        values = torch.where(inside, pixels.to(torch.float32), fill)
        values = torch.where(visible[:, 2, None, None, None] > 0, values.flip(2), values)
        if self.preprocessing.channel_order == "BGR":
            values = values.flip(3)
        return ((values * self.preprocessing.scale - mean) / std).permute(0, 3, 1, 2)


class FeatureInputs:
    """Crops of a frozen trunk's cached feature maps; offsets are multiples of the stride, mirroring reverses the map.

    The trunk saw the whole photo, not the crop, and was not run on the mirrored one: both differences are those of a
    frozen trunk near the crop's border, and are small against its field of view.
    """

    def __init__(self, network: Network, cache: CachedMaps) -> None:
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

    def batch(self, inputs: np.ndarray, visible: np.ndarray, device: torch.device) -> Tensor:
        """(N, C, h, w) float32 in channels-last memory; crops are padded and mirrored already."""
        return self.cache.decode(to_device(inputs, device)).permute(0, 3, 1, 2)


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


class QualifiedAnnotation:
    """The annotation of another data set, asked by qualified ids."""

    def __init__(self, annotation: Annotation, prefix: str) -> None:
        """Take `prefix` off the ids."""
        self.annotation, self.prefix = annotation, prefix

    def of_crop(self, image_id: str, crop: Crop) -> Told:
        """What is said of a crop."""
        return self.annotation.of_crop(image_id.removeprefix(self.prefix), crop)

    def of_image(self, image_id: str, size: tuple[int, int]) -> Told:
        """What is said of a whole image of height and width `size`."""
        return self.annotation.of_image(image_id.removeprefix(self.prefix), size)


def inside_cells(window: CropWindow, size: tuple[int, int], network: Network) -> np.ndarray:
    """Which score cells of a crop lie within the photo of height and width `size`, (h, w) bool."""
    height, width = scaled_size(size, network.image_scale)
    cells = np.arange(0, window.side, network.output_stride)
    inside = np.outer(window.top + cells < height, window.left + cells < width)
    return inside[:, ::-1] if window.mirrored else inside
