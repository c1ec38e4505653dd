"""A photo as a network sees it, and its scores."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weakseg.config import Network, Preprocessing
from weakseg.data.transforms import padded_size, scaled_size
from weakseg.model.segmenter import Segmenter
from weakseg.model.weights import preprocess


def network_input(
    image: np.ndarray, scale: float, stride: int, preprocessing: Preprocessing, least: int | None = None
) -> Tensor:
    """A whole photo as the network sees it: scaled, preprocessed, padded with the mean pixel (which is 0).

    Args:
        image: (H, W, 3) uint8 RGB.
        scale: factor on its sides.
        stride: output stride.
        preprocessing: how pixels enter the trunk.
        least: padded sides have at least this length, stride * k + 1; None: the photo's own, rounded up.

    Returns:
        (1, 3, stride * k + 1, stride * m + 1) float32 in channels-last memory.
    """
    height, width = scaled_size(image.shape, scale)
    if (height, width) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    inputs = preprocess(image, preprocessing)
    bottom, right = (max(padded_size(side, stride), least or 0) - side for side in (height, width))
    padded = torch.nn.functional.pad(inputs, (0, right, 0, bottom))
    return padded[None].contiguous(memory_format=torch.channels_last)


def whole_scores(
    model: Segmenter,
    image: np.ndarray,
    network: Network,
    preprocessing: Preprocessing,
    device: torch.device | None = None,
) -> Tensor:
    """Scores of a whole photo, padded to `network.test_px`, at the cells that the photo's own padded size has.

    Cells beyond are those of padding alone, and no pixel of the photo is interpolated from them.

    Args:
        model: the network, in eval mode.
        image: (H, W, 3) uint8 RGB.
        network: its description: scale, stride, test size.
        preprocessing: how pixels enter the trunk.
        device: where the network is; None: the CPU.

    Returns:
        (L+1, h, w) float32 on the CPU.
    """
    inputs = network_input(image, network.image_scale, network.output_stride, preprocessing, network.test_px)
    rows, columns = own_cells(image.shape, network)
    return model.own_scores(model(inputs.to(device)))[0, :, :rows, :columns].cpu()


def padded_sides(size: tuple[int, ...], network: Network) -> tuple[int, int]:
    """Height and width of a photo of this height and width as `network_input` pads it: to `test_px` at least."""
    height, width = (
        max(padded_size(side, network.output_stride), network.test_px or 0)
        for side in scaled_size(size, network.image_scale)
    )
    return height, width


def own_cells(size: tuple[int, ...], network: Network) -> tuple[int, int]:
    """Rows and columns of score cells of a photo of this height and width that is padded no further than it must be."""
    rows, columns = (
        (padded_size(side, network.output_stride) - 1) // network.output_stride + 1
        for side in scaled_size(size, network.image_scale)
    )
    return rows, columns
