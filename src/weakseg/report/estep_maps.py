"""E-step maps over a training, as the pages of the report read and show them."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from weakseg.errors import WeaksegError

MOMENTS = {"start": "start", "middle": "half-way", "end": "end"}
"""How a page names the moments of a training at which its E-step is shown."""


def read_estep_maps(path: Path) -> dict[str, np.ndarray]:
    """Label maps (h, w) uint8 at the score cells by `moment/image`, as `weakseg estep-maps` wrote them.

    Raises:
        WeaksegError: no such file, or not readable.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; make the run with `snakemake {path}`") from None
    except SafetensorError as error:
        raise WeaksegError(f"{path}: not readable ({error}); delete it and run snakemake again") from error


def images_shown(maps: dict[str, np.ndarray]) -> list[str]:
    """The ids of the images that `read_estep_maps` gave, sorted."""
    return sorted({name.split("/", 1)[1] for name in maps})


def at_pixels(cells: np.ndarray, size: tuple[int, ...], pixels_a_cell: float) -> np.ndarray:
    """A label map at score cells as seen at an image's pixels: each pixel shows its nearest cell within the image."""
    rows, columns = (
        np.minimum(np.round(np.arange(length) / pixels_a_cell), (length - 1) // pixels_a_cell).astype(int)
        for length in size
    )
    return cells[np.ix_(rows, columns)]
