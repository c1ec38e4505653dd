"""What the gallery shows of weakly annotated training images: what a method was given, and what it made of that."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from weakseg.annotations.chosen_images import shown_images
from weakseg.config import Experiment
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import Box, ImageBoxes
from weakseg.data.dataset import DataSet, open_data
from weakseg.data.label_maps import BOX_METHODS, map_reader
from weakseg.data.tag_files import read_tags
from weakseg.labels import BACKGROUND
from weakseg.metrics import image_iou
from weakseg.report.estep_maps import MOMENTS, at_pixels, images_shown, read_estep_maps
from weakseg.report.results import StudyResults, experiment_label
from weakseg.report.thumbnails import base64_text, map_png, photo_jpeg

GIVEN = {"image": "image-level labels", "box": "boxes"}
"""What a page calls the annotation of weak images."""


def weak_data(results: StudyResults, longest_px: int) -> dict[str, Any]:
    """The weak training images with annotation, maps made from boxes and E-step maps, as JSON-able values.

    Pictures are base64 texts (see `thumbnails`). `methods` has a row a run with E-step maps: id, label, what its images
    offer, and the iterations done at each moment. `images` has id, photo, truth (None where it is not known), tags
    (labels), boxes ([label, top, left, bottom, right], the edges in shares of height and width), `made` (name, map and
    image IOU in percent of each map made from boxes) and `estep` (by run, map and IOU of each moment). An IOU is None
    where there is no truth.

    Args:
        results: the study.
        longest_px: longer side of the pictures.

    Raises:
        WeaksegError: an annotation, a map or an image is missing.
    """
    maps = {run: read_estep_maps(results.paths.run(run, seed).estep_maps) for run, seed in results.estep_runs}
    rows = {row.id: row for row in results.experiments}
    shower = _Shower(results, maps, longest_px)
    return {
        "methods": [_method(results, rows[run]) for run in maps],
        "images": [shower.image(image_id) for image_id in shower.ids],
    }


def _method(results: StudyResults, row: Experiment) -> dict[str, Any]:
    length = results.study.solver_of(row).iterations
    stream = row.estep_stream
    assert stream is not None, "only runs with an E-step have E-step maps"
    return {
        "run": row.id,
        "label": experiment_label(row),
        "given": GIVEN[stream.annotation],
        "iterations": [0, length // 2, length],
    }


class _Shower:
    """Reads what there is of each image."""

    def __init__(self, results: StudyResults, maps: Mapping[str, dict[str, np.ndarray]], longest_px: int) -> None:
        self.maps, self.longest_px = maps, longest_px
        self.data: DataSet = open_data(results.paths.manifest)
        boxed = any(row.label_maps for row in results.experiments)
        self.boxes: dict[str, ImageBoxes] = read_boxes(results.paths.boxes, results.labels) if boxed else {}
        self.ids = sorted({image_id for found in maps.values() for image_id in images_shown(found)})
        if not self.ids and boxed:
            self.ids = shown_images(self.data, self.boxes, results.study.report.box_images)
        self.tags = read_tags(results.paths.image_labels, results.labels) if self.ids else {}
        self.readers = {
            name: map_reader(results.paths.box_maps(method), self.ids, results.labels)
            for method, name in BOX_METHODS.items()
            if boxed
        }
        network = results.study.network
        self.pixels_a_cell = network.output_stride / network.image_scale

    def image(self, image_id: str) -> dict[str, Any]:
        """One image, see `weak_data`."""
        size = self.data.size(image_id)
        truth = self.data.pixel_labels(image_id) if self.data.has_pixel_labels(image_id) else None
        entry, tags = self.boxes.get(image_id), self.tags.get(image_id)
        return {
            "id": image_id,
            "size": list(size),
            "photo": base64_text(photo_jpeg(self.data.image(image_id), self.longest_px)),
            "truth": None if truth is None else self._small(truth),
            "tags": [] if tags is None else [int(label) for label in np.flatnonzero(tags) if label != BACKGROUND],
            "boxes": [_shares(box, size) for box in entry.boxes] if entry else [],
            "made": [{"name": name, **self._shown(read(image_id), truth)} for name, read in self.readers.items()],
            "estep": {run: self._moments(found, image_id, size, truth) for run, found in self.maps.items()},
        }

    def _moments(
        self, found: Mapping[str, np.ndarray], image_id: str, size: tuple[int, int], truth: np.ndarray | None
    ) -> list[dict[str, Any]]:
        """The maps of a run at each moment; none of an image that its E-step does not teach."""
        names = [f"{moment}/{image_id}" for moment in MOMENTS]
        cells = [found[name] for name in names if name in found]
        return [self._shown(at_pixels(labels, size, self.pixels_a_cell), truth) for labels in cells]

    def _shown(self, labels: np.ndarray, truth: np.ndarray | None) -> dict[str, Any]:
        return {"map": self._small(labels), "iou": None if truth is None else _rounded(image_iou(truth, labels))}

    def _small(self, labels: np.ndarray) -> str:
        return base64_text(map_png(labels, self.longest_px))


def _rounded(iou: float) -> float | None:
    """One decimal; None for an image without anything to compare."""
    return None if np.isnan(iou) else round(iou, 1)


def _shares(box: Box, size: tuple[int, int]) -> list[float]:
    """Label and edges of a box; the edges in shares of the photo's height and width, those at the end exclusive."""
    height, width = size
    edges = (box.top / height, box.left / width, (box.bottom + 1) / height, (box.right + 1) / width)
    return [box.label, *(round(edge, 4) for edge in edges)]
