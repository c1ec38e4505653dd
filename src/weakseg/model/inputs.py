"""A photo as a network sees it."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weakseg.config import Preprocessing
from weakseg.data.transforms import padded_size, scaled_size
from weakseg.model.weights import preprocess


def network_input(image: np.ndarray, scale: float, stride: int, preprocessing: Preprocessing) -> Tensor:
    """A whole photo as the network sees it: scaled, preprocessed, padded with the mean pixel (which is 0).

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (1, 3, stride * k + 1, stride * m + 1) float32 in channels-last memory.
    """
    height, width = scaled_size(image.shape, scale)
    if (height, width) != image.shape[:2]:
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    inputs = preprocess(image, preprocessing)
    bottom, right = padded_size(height, stride) - height, padded_size(width, stride) - width
    padded = torch.nn.functional.pad(inputs, (0, right, 0, bottom))
    return padded[None].contiguous(memory_format=torch.channels_last)
