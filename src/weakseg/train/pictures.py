"""Pictures of the E-step's label maps beside the truth or the maps of boxes, for looking at a training as it runs."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from weakseg.files import atomic_path
from weakseg.labels import palette


def save_estep_pictures(
    folder: Path, iteration: int, given: Tensor, labels: Tensor, *, images: int = 8, zoom: int = 4
) -> Path:
    """Write one PNG: a column an image, the labels given with it above, the E-step's map below, in VOC colours.

    Args:
        folder: where `iteration_{iteration}.png` goes.
        iteration: names the file.
        given, labels: (N, h, w) int64 at the score cells; `given` is the truth, or the map of the boxes.
        images: how many columns at most.
        zoom: pixels a cell.
    """
    rows = [np.concatenate(list(maps[:images].cpu().numpy()), axis=1) for maps in (given, labels)]
    cells = np.concatenate(rows, axis=0).astype(np.uint8)
    picture = Image.fromarray(palette()[cells.repeat(zoom, 0).repeat(zoom, 1)])
    target = folder / f"iteration_{iteration:06d}.png"
    with atomic_path(target) as temporary:
        picture.save(temporary)
    return target
