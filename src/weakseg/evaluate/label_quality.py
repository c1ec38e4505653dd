"""How right the labels are that each box method trains with: IOU against the pixel labels, by class."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from weakseg.annotations.choice import spread
from weakseg.annotations.maps import map_reader
from weakseg.config import Study
from weakseg.data.prepare import open_data
from weakseg.data.transforms import grid_of_image, scale_labels
from weakseg.errors import WeaksegError
from weakseg.evaluate.mean_iou import confusion_matrix, iou
from weakseg.files import atomic_path
from weakseg.labels import CLASSES, IGNORE, NUM_LABELS
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths

COLUMNS = ("method", "moment", "at", "class", "iou", "images")
"""Columns of label_quality.csv: method; moment of training (Bbox-EM-Fixed) or `fixed`; whether pixels or score cells
are compared; class; IOU in percent, empty for a class that neither truth nor labels show; images compared."""


class _Comparer:
    """Confusion of an image's map with the truth, at its pixels and at its score cells (picklable)."""

    def __init__(self, manifest: Path, maps: Path, image_scale: float, stride: int) -> None:
        self.manifest, self.maps, self.image_scale, self.stride = manifest, maps, image_scale, stride

    def __call__(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        truth = open_data(self.manifest).labels(image_id)
        labels = map_reader(self.maps, [image_id])(image_id)
        cells = (grid_of_image(scale_labels(m, self.image_scale), self.stride) for m in (truth, labels))
        true_cells, cell_labels = cells
        inside = cell_labels != IGNORE  # beyond the image neither says anything
        return confusion_matrix(truth, labels), confusion_matrix(true_cells[inside], cell_labels[inside])


def measure_labels(study: Study, paths: StudyPaths, watched: RunPaths | None, *, threads: int = 1) -> None:
    """Write label_quality.csv for Bbox-Rect, Bbox-Seg and, at moments of its training, Bbox-EM-Fixed.

    `boxes.quality_images` of train_aug, at even distances, are compared; where Bbox-EM-Fixed was watched, as many as
    were looked at then, so that all methods are compared on the same images. The E-step's labels exist at score cells
    only, so all methods are compared there, and the two fixed ones at pixels as well.

    Args:
        study, paths: the study.
        watched: the run of Bbox-EM-Fixed on boxes alone, or None where the study has none.
        threads: processes.

    Raises:
        WeaksegError: the study has no boxes, or maps are missing.
    """
    if study.boxes is None:
        raise WeaksegError(f"study {study.name}: it has no boxes (`boxes: null`), so there are no labels to measure")
    frames = [] if watched is None else list(_watched_frames(watched.estep_confusion))
    count = int(frames[0]["images"].iloc[0]) if frames else study.boxes.quality_images
    ids = spread(sorted(open_data(paths.manifest).ids("train_aug")), count)
    fixed = []
    for method, name in (("bbox_rect", "Bbox-Rect"), ("bbox_seg", "Bbox-Seg")):
        folder = paths.box_maps(method)
        map_reader(folder, ids)
        comparer = _Comparer(paths.manifest, folder, study.network.image_scale, study.network.output_stride)
        at_pixels, at_cells = (np.zeros((NUM_LABELS, NUM_LABELS), dtype=np.int64) for _ in range(2))
        for pixels, cells in parallel_map(comparer, ids, processes=threads, description=f"labels of {name}"):
            at_pixels += pixels
            at_cells += cells
        fixed.append(_frame(name, "fixed", "pixels", at_pixels, len(ids)))
        fixed.append(_frame(name, "fixed", "cells", at_cells, len(ids)))
    with atomic_path(paths.label_quality) as temporary:
        pd.concat([*fixed, *frames]).to_csv(temporary, index=False)


def _watched_frames(path: Path) -> Iterator[pd.DataFrame]:
    try:
        rows = pd.read_csv(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; train the run of Bbox-EM-Fixed (Weak) again") from None
    for moment, part in rows.groupby("moment", sort=False):
        confusion = part[list(CLASSES)].to_numpy(dtype=np.int64)
        yield _frame("Bbox-EM-Fixed", str(moment), "cells", confusion, int(part["images"].iloc[0]))


def _frame(method: str, moment: str, at: str, confusion: np.ndarray, images: int) -> pd.DataFrame:
    occurs = (confusion.sum(0) + confusion.sum(1)) > 0
    values = np.where(occurs, 100 * iou(confusion), np.nan).round(3)
    frame = pd.DataFrame({"class": list(CLASSES), "iou": values, "images": images})
    return frame.assign(method=method, moment=moment, at=at)[list(COLUMNS)]
