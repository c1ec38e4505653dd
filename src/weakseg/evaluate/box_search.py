"""The search for Bbox-Seg's alpha and CRF parameters on the held-out images, by IOU of the recovered foreground."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.annotations.bbox_seg import BboxSegParams, bbox_seg_grid, read_photo
from weakseg.annotations.boxes import ImageBoxes, boxes_of, read_boxes
from weakseg.config import Study
from weakseg.crf import CRFParams
from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.evaluate.crf_search import finer_points, grid_points
from weakseg.evaluate.mean_iou import confusion_matrix, iou
from weakseg.files import atomic_write_csv, atomic_write_json, sha256_file, sha256_json
from weakseg.labels import BACKGROUND, NUM_LABELS
from weakseg.parallel import parallel_map
from weakseg.paths import StudyPaths

Point = tuple[float, CRFParams]
"""alpha and the CRF's parameters."""


def foreground_iou(confusion: np.ndarray) -> float:
    """Mean IOU in percent over the foreground classes that occur in the truth; NaN where none does.

    Unlike the mean IOU of a run it leaves out the background, which is most of the image, and classes of which the few
    held-out images show none.
    """
    occurs = confusion.sum(1) > 0
    occurs[BACKGROUND] = False
    return float(100 * iou(confusion)[occurs].mean()) if occurs.any() else float("nan")


def object_iou(confusion: np.ndarray) -> float:
    """IOU in percent of all objects together against the background, classes not told apart."""
    objects = confusion[1:, 1:].sum()
    union = confusion.sum() - confusion[BACKGROUND, BACKGROUND]
    return float(100 * objects / max(union, 1))


@dataclass(frozen=True)
class _Scorer:
    """Confusion matrices of one image under many parameters (picklable, for other processes)."""

    root: Path
    points: tuple[Point, ...]
    iterations: int
    occluder_bias: float

    def __call__(self, item: tuple[str, ImageBoxes]) -> list[np.ndarray]:
        image_id, entry = item
        folder = VocFolder(self.root)
        image, truth = read_photo(folder, image_id, entry), folder.labels(image_id)
        found: dict[Point, np.ndarray] = {}
        for alpha in dict.fromkeys(alpha for alpha, _ in self.points):
            sets = [crf for other, crf in self.points if other == alpha]
            params = BboxSegParams(alpha, sets[0], self.iterations, self.occluder_bias)
            maps = bbox_seg_grid(image, entry.boxes, params, sets)
            found |= {(alpha, crf): confusion_matrix(truth, labels) for crf, labels in zip(sets, maps, strict=True)}
        return [found[point] for point in self.points]


def tune_bbox_seg(study: Study, paths: StudyPaths, *, threads: int = 1) -> None:
    """Try every alpha with every CRF parameter set; write all to bbox_seg_grid.csv and the best to bbox_seg.json.

    The criterion is `foreground_iou` from one confusion matrix over the held-out images; of equal ones the first tried
    wins. Refinement goes on around the best point, alpha kept. A finished stage is kept beside the result, under the
    hash of boxes, photos and masks, and not tried again after a kill.

    Raises:
        WeaksegError: the study has no boxes, or no held-out image shows an object.
    """
    if study.boxes is None:
        raise WeaksegError(f"study {study.name}: it has no boxes (`boxes: null`), so there is nothing to search")
    search = study.boxes.search
    folder = open_data(paths.manifest)
    boxes = read_boxes(paths.boxes)
    ids = held_out(paths.manifest)[: search.images]
    items = [(i, boxes_of(boxes, i, paths.boxes)) for i in ids]
    inputs = [paths.boxes, *(path for i in ids for path in (folder.image_path(i), folder.mask_path(i)))]
    key = sha256_json([[sha256_file(path) for path in inputs], ids, search.iterations, study.boxes.occluder_bias])
    partial = paths.bbox_seg_grid.with_name(f".bbox_seg-{key[:16]}.partial.json")
    known: dict[str, list[float]] = json.loads(partial.read_text(encoding="utf-8")) if partial.exists() else {}
    rows: list[dict[str, float | str]] = []

    def try_points(points: list[Point], stage: str) -> None:
        tried = {_name((float(row["alpha"]), CRFParams.of(row))) for row in rows}
        fresh = [point for point in dict.fromkeys(points) if _name(point) not in tried]
        pending = tuple(point for point in fresh if _name(point) not in known)
        if pending:
            scorer = _Scorer(folder.root, pending, search.iterations, study.boxes.occluder_bias)  # type: ignore[union-attr]
            total = np.zeros((len(pending), NUM_LABELS, NUM_LABELS), dtype=np.int64)
            label = f"Bbox-Seg {stage}, {len(pending)} sets"
            for matrices in parallel_map(scorer, items, processes=threads, description=label):
                total += np.stack(matrices)
            known.update({_name(p): [foreground_iou(m), object_iou(m)] for p, m in zip(pending, total, strict=True)})
            atomic_write_json(partial, known)
        for alpha, crf in fresh:
            foreground, objects = known[_name((alpha, crf))]
            rows.append(
                {
                    "alpha": alpha,
                    **asdict(crf),
                    "stage": stage,
                    "iou_foreground": foreground,
                    "iou_objects": objects,
                    "images": len(ids),
                }
            )

    try_points([(alpha, crf) for alpha in study.boxes.alphas for crf in grid_points(search.coarse, search)], "coarse")
    for level in range(1, search.refine_rounds + 1):
        best = _best(rows)
        points = finer_points(search.coarse, CRFParams.of(best), search, level)
        try_points([(float(best["alpha"]), crf) for crf in points], "fine")
    best = _best(rows)
    if np.isnan(float(best["iou_foreground"])):
        raise WeaksegError(f"{paths.boxes}: no held-out image shows an object, so alpha cannot be chosen")
    atomic_write_csv(paths.bbox_seg_grid, rows)
    chosen = {
        **{name: value for name, value in best.items() if name != "stage"},
        "iterations": search.iterations,
        "occluder_bias": study.boxes.occluder_bias,
    }
    atomic_write_json(paths.bbox_seg_params, chosen)
    partial.unlink(missing_ok=True)


def read_bbox_seg_params(path: str | Path) -> BboxSegParams:
    """The winner of the search.

    Raises:
        WeaksegError: no such file, or not the winner of a search.
    """
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        return BboxSegParams(
            float(facts["alpha"]), CRFParams.of(facts), int(facts["iterations"]), float(facts["occluder_bias"])
        )
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg tune-boxes` first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeaksegError(f"{path}: not Bbox-Seg's parameters ({error}); run `weakseg tune-boxes` again") from error


def _name(point: Point) -> str:
    alpha, crf = point
    return "/".join(repr(float(value)) for value in (alpha, *asdict(crf).values()))


def _best(rows: list[dict[str, float | str]]) -> dict[str, float | str]:
    return max(rows, key=lambda row: float(row["iou_foreground"]))  # the first of equal ones
