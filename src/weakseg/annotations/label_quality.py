"""How right the labels are that each box method trains with: IOU against the pixel labels, by class."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from weakseg.annotations.chosen_images import spread
from weakseg.config import Study
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import ImageBoxes
from weakseg.data.dataset import DataSet, open_data
from weakseg.data.label_maps import BOX_METHODS, map_reader
from weakseg.data.transforms import grid_of_image, scale_labels
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.labels import IGNORE, LabelSet
from weakseg.metrics import confusion_matrix, iou, occurring
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
        data = open_data(self.manifest)
        truth = data.pixel_labels(image_id)
        labels = map_reader(self.maps, [image_id], data.labels)(image_id)
        cells = (grid_of_image(scale_labels(m, self.image_scale), self.stride) for m in (truth, labels))
        true_cells, cell_labels = cells
        inside = cell_labels != IGNORE  # beyond the image neither says anything
        size = len(data.labels)
        return confusion_matrix(truth, labels, size), confusion_matrix(true_cells[inside], cell_labels[inside], size)


def measured_images(study: Study, data: DataSet, boxes: Mapping[str, ImageBoxes]) -> list[str]:
    """The training images whose labels are held against the truth, `boxes.quality_images` of those that have both.

    Where the study has no boxes, pixel labels are enough.
    """
    known = [i for i in sorted(data.ids("training")) if data.has_pixel_labels(i) and (i in boxes or not boxes)]
    return spread(known, study.boxes.quality_images if study.boxes else None)


def measure_labels(study: Study, paths: StudyPaths, shown: RunPaths | None, *, threads: int = 1) -> None:
    """Write label_quality.csv for Bbox-Rect, Bbox-Seg and, at moments of its training, Bbox-EM-Fixed.

    The E-step's labels exist at score cells only, so all methods are compared there, and the two fixed ones at pixels
    as well. Without pixel labels of training images nothing can be compared, and the file has no rows.

    Args:
        study, paths: the study.
        shown: the run of Bbox-EM-Fixed on boxes alone, or None where the study has none.
        threads: processes.

    Raises:
        WeaksegError: the study has no boxes, or maps are missing.
    """
    if study.boxes is None:
        raise WeaksegError(f"study {study.name}: it has no boxes (`boxes: null`), so there are no labels to measure")
    data = open_data(paths.manifest)
    labels = data.labels
    ids = measured_images(study, data, read_boxes(paths.boxes, labels))
    frames = [pd.DataFrame(columns=list(COLUMNS))]
    if not ids:
        print(f"{paths.manifest}: no training image has pixel labels, so the quality of labels cannot be known")
    for method, name in BOX_METHODS.items() if ids else ():
        folder = paths.box_maps(method)
        map_reader(folder, ids, labels)
        comparer = _Comparer(paths.manifest, folder, study.network.image_scale, study.network.output_stride)
        at_pixels, at_cells = (np.zeros((len(labels),) * 2, dtype=np.int64) for _ in range(2))
        for pixels, cells in parallel_map(comparer, ids, processes=threads, description=f"labels of {name}"):
            at_pixels += pixels
            at_cells += cells
        frames.append(_frame(labels, name, "fixed", "pixels", at_pixels, len(ids)))
        frames.append(_frame(labels, name, "fixed", "cells", at_cells, len(ids)))
    if shown is not None and ids:
        frames += _shown_frames(shown.estep_confusion, labels)
    with atomic_path(paths.label_quality) as temporary:
        pd.concat(frames[1:] or frames).to_csv(temporary, index=False)


def _shown_frames(path: Path, labels: LabelSet) -> Iterator[pd.DataFrame]:
    try:
        rows = pd.read_csv(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg estep-maps` first") from None
    for moment, part in rows.groupby("moment", sort=False):
        confusion = part[list(labels.names)].to_numpy(dtype=np.int64)
        yield _frame(labels, "Bbox-EM-Fixed", str(moment), "cells", confusion, int(part["images"].iloc[0]))


def _frame(labels: LabelSet, method: str, moment: str, at: str, confusion: np.ndarray, images: int) -> pd.DataFrame:
    values = np.where(occurring(confusion), 100 * iou(confusion), np.nan).round(3)
    frame = pd.DataFrame({"class": list(labels.names), "iou": values, "images": images})
    return frame.assign(method=method, moment=moment, at=at)[list(COLUMNS)]
