"""Bbox-Seg: boxes become segmentations by a dense CRF, once and before training (Papandreou et al. 2015, section 3.3).

The central part of a box is likely its object, the ring around it may be either; the CRF decides by colour and place.
Numbers are those of the released code.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.crf import CRFParams, mean_field_grid, unary_from_probabilities
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import Box, ImageBoxes, check_boxes, largest_first
from weakseg.data.dataset import DataSet, open_data, teaching_ids
from weakseg.data.images import write_index_png
from weakseg.errors import WeaksegError
from weakseg.files import replace_folder, sha256_file, sha256_json
from weakseg.labels import BACKGROUND
from weakseg.parallel import parallel_map

EPSILON = 1e-12
"""Probability of what a box rules out; its unary, 27.6, is below the CRF's weight, so that colours may overrule it."""

WHOLE_BELOW_AREA, WHOLE_BELOW_SIDE = 121, 10
"""Boxes of fewer pixels, or with a shorter side, are core as a whole."""

CORE, RING = 0.75, 0.5
"""Probability of the object in the core of its box and in the ring around it; the background has the rest."""


@dataclass(frozen=True)
class BboxSegParams:
    """What decides Bbox-Seg's maps.

    Attributes:
        alpha: share of a box that is its core, 0..1; .2 in the paper.
        crf: parameters of the dense CRF; w 45, sigma_xy 37, sigma_rgb 3, w_pos 15, sigma_pos 3 for alpha .2.
        iterations: mean-field updates.
        occluder_bias: see `box_probabilities`.
    """

    alpha: float
    crf: CRFParams
    iterations: int = 10
    occluder_bias: float = 0.0


def box_core(box: Box, size: tuple[int, int], alpha: float) -> Box:
    """The central part of a box: eroded with a 3x3 square until less than alpha + .05 of it is left.

    One erosion is done in any case. The image's own outermost rows and columns are taken off first, since erosion
    stops at the image's border. A box of less than 121 pixels, or with a side shorter than 10, is its own core. An
    erosion that would leave nothing is not done. The core of a rectangle is a rectangle, so it is computed without
    drawing it.

    Args:
        box: within the image.
        size: height and width of the image in pixels.
        alpha: share of the box to keep, 0..1.
    """
    if not 0 <= alpha <= 1:
        raise WeaksegError(f"bbox_seg: alpha must lie in [0, 1], got {alpha}")
    if box.area < WHOLE_BELOW_AREA or box.height < WHOLE_BELOW_SIDE or box.width < WHOLE_BELOW_SIDE:
        return box
    top, left = max(box.top, 1), max(box.left, 1)
    bottom, right = min(box.bottom, size[0] - 2), min(box.right, size[1] - 2)
    height, width = bottom - top + 1, right - left + 1
    steps = 1
    while (height - 2 * steps) * (width - 2 * steps) >= (alpha + 0.05) * box.area:
        steps += 1
    steps = max(0, min(steps, (min(height, width) - 1) // 2))
    return Box(box.label, top + steps, left + steps, bottom - steps, right - steps)


def box_probabilities(
    boxes: Sequence[Box], size: tuple[int, int], *, alpha: float, occluder_bias: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the background and of each class that has a box, at every pixel (facts of the released code).

    Every probability starts at 1e-12. A box adds .75 to its class and .25 to the background in its core, .5 to both in
    the ring. A class is divided by the number of its boxes at the pixel, the background by that of all boxes; outside
    all boxes the background has 1 - 1e-12. At last labels are scaled to sum to 1. Classes without a box would stay at
    1e-12 everywhere, where no message reaches them, and are left out.

    Args:
        boxes: of one image.
        size: its height and width in pixels.
        alpha: share of a box that is its core, 0..1.
        occluder_bias: the k-th box from large to small (k = 1, 2, ...) adds so much times k to its class in its core,
            which favours small boxes in front of large ones; .1 in the released code where it is on.

    Returns:
        Labels (K,) uint8, background first, and probabilities (K, H, W) float32 that sum to 1.

    Raises:
        WeaksegError: a box that `check_boxes` refuses, alpha outside [0, 1], or a negative occluder_bias.
    """
    check_boxes(boxes, size, "bbox_seg")
    if not (occluder_bias >= 0 and math.isfinite(occluder_bias)):
        raise WeaksegError(f"bbox_seg: occluder_bias must be 0 or more, got {occluder_bias}")
    labels = np.array([BACKGROUND, *sorted({box.label for box in boxes})], dtype=np.uint8)
    row_of = {int(label): row for row, label in enumerate(labels)}
    chances = np.full((len(labels), *size), EPSILON, dtype=np.float32)
    covering = np.zeros((len(labels), *size), dtype=np.uint16)  # row 0: boxes of any class
    for rank, box in enumerate(largest_first(boxes), start=1):
        row, ring = row_of[box.label], box.pixels
        core = box_core(box, size, alpha).pixels
        chances[row][ring] += RING
        chances[0][ring] += 1 - RING
        chances[row][core] += CORE - RING + occluder_bias * rank
        chances[0][core] -= CORE - RING
        covering[row][ring] += 1
        covering[0][ring] += 1
    chances[0][covering[0] == 0] = 1 - EPSILON
    chances /= np.maximum(covering, 1)
    chances /= chances.sum(0)
    return labels, chances


def bbox_seg(image: np.ndarray, boxes: Sequence[Box], params: BboxSegParams) -> np.ndarray:
    """Bbox-Seg's label map: the CRF's most probable label under the probabilities of `box_probabilities`.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: of the image; without any the map is background everywhere.
        params: alpha and the CRF's parameters.

    Returns:
        (H, W) uint8; of equally probable labels the lowest.

    Raises:
        WeaksegError: as `box_probabilities`, or an image that is not (H, W, 3) uint8.
    """
    return bbox_seg_grid(image, boxes, params, [params.crf])[0]


def bbox_seg_grid(
    image: np.ndarray, boxes: Sequence[Box], params: BboxSegParams, sets: Sequence[CRFParams]
) -> list[np.ndarray]:
    """Bbox-Seg's label map for each of several CRF parameter sets, which take the place of `params.crf`."""
    size = (image.shape[0], image.shape[1])
    if not boxes:
        return [np.full(size, BACKGROUND, dtype=np.uint8) for _ in sets]
    labels, chances = box_probabilities(boxes, size, alpha=params.alpha, occluder_bias=params.occluder_bias)
    unary = unary_from_probabilities(chances, epsilon=EPSILON)
    return [labels[found] for found in mean_field_grid(unary, image, sets, iterations=params.iterations)]


def photo_of_boxes(data: DataSet, image_id: str, entry: ImageBoxes) -> np.ndarray:
    """The photo to which boxes belong, (H, W, 3) uint8 RGB.

    Raises:
        WeaksegError: it has another size than it had when the boxes were written.
    """
    image = data.image(image_id)
    if image.shape[:2] != entry.size:
        raise WeaksegError(
            f"image {image_id}: the photo has {image.shape[0]} rows and {image.shape[1]} columns, its boxes are for "
            f"{entry.size[0]} and {entry.size[1]}; run `weakseg annotate` again"
        )
    return image


@dataclass(frozen=True)
class _Writer:
    """Writes Bbox-Seg's map of one image (picklable, for other processes)."""

    manifest: Path
    folder: Path
    params: BboxSegParams

    def __call__(self, item: tuple[str, ImageBoxes]) -> None:
        image_id, entry = item
        data = open_data(self.manifest)
        labels = bbox_seg(photo_of_boxes(data, image_id, entry), entry.boxes, self.params)
        write_index_png(self.folder / f"{image_id}.png", labels, data.labels)


def write_bbox_seg(
    manifest_path: str | Path,
    boxes_json: str | Path,
    out_folder: str | Path,
    params: BboxSegParams,
    *,
    processes: int = 1,
) -> None:
    """Write Bbox-Seg's map of every image with boxes that may teach as a palette PNG, several images at a time.

    The folder takes its name when it is complete. Until then maps gather in a folder beside it that is named by the
    hash of parameters, boxes, list and photos, so that a stopped pass goes on where it was and never with maps of
    others. Folders that passes with other inputs left are removed at the end.
    """
    data, out_folder = open_data(manifest_path), Path(out_folder)
    boxes = read_boxes(boxes_json, data.labels)
    ids = [image_id for image_id in teaching_ids(data) if image_id in boxes]
    facts = {
        **asdict(params),
        "boxes_sha256": sha256_file(boxes_json),
        "list_sha256": sha256_json(ids),
        "photos_sha256": sha256_json([sha256_file(data.files(image_id)["photo"]) for image_id in ids]),
    }
    part = out_folder.with_name(f".{out_folder.name}-{sha256_json(facts)[:16]}.partial")
    part.mkdir(parents=True, exist_ok=True)
    for torn in part.glob(".*"):
        torn.unlink()
    pending = [(i, boxes[i]) for i in ids if not (part / f"{i}.png").exists()]
    if len(pending) < len(ids):
        print(f"Bbox-Seg: {len(ids) - len(pending)} of {len(ids)} maps are there already")
    writer = _Writer(Path(manifest_path), part, params)
    for _ in parallel_map(writer, pending, processes=processes, description="Bbox-Seg"):
        pass
    replace_folder(part, out_folder)
    for left in out_folder.parent.glob(f".{out_folder.name}-*.partial"):
        shutil.rmtree(left, ignore_errors=True)
