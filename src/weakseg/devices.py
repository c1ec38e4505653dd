"""The device that a network runs on, the precision of its products, and the way of data to it."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from weakseg.config import Precision


def choose_device() -> torch.device:
    """The GPU that is this process's, where there is one; else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """A device in words: the GPU's name and memory, or the CPU and its threads."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda})"
    return f"CPU ({torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''})"


def short_name(device: torch.device) -> str:
    """A device in a word or two, for progress bars."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def set_precision(precision: Precision) -> None:
    """Let single-precision convolutions and products be IEEE's, or those of TF32 where it is asked for.

    torch lets convolutions on a GPU be TF32 if nothing is said. A CPU has no TF32: nothing changes there.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass: under bf16 convolutions and products are cast to bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Values of the host on a device; a copy to a GPU goes through pinned memory and is not waited for."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
