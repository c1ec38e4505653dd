"""The search for Bbox-Seg's alpha and CRF parameters on the held-out images, by IOU of the recovered foreground."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.annotations.bbox_seg_maps import BboxSegParams, bbox_seg_grid, photo_of_boxes
from weakseg.config import Study
from weakseg.crf import CRFParams
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import ImageBoxes
from weakseg.data.dataset import open_data
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_csv, atomic_write_json, sha256_file, sha256_json
from weakseg.metrics import confusion_matrix, foreground_iou, object_iou
from weakseg.parallel import parallel_map
from weakseg.paths import StudyPaths
from weakseg.search import Figures, best_of, finer_points, grid_points, staged_search

Point = tuple[float, CRFParams]
"""alpha and the CRF's parameters."""

RELEASED = (0.2, CRFParams(45.0, 37.0, 3.0, 15.0, 3.0))
"""What the released code takes, for data sets whose held-out images have no boxes to search on."""


@dataclass(frozen=True)
class _Scorer:
    """Confusion matrices of one image under many parameters (picklable, for other processes)."""

    manifest: Path
    points: tuple[Point, ...]
    iterations: int
    occluder_bias: float

    def __call__(self, item: tuple[str, ImageBoxes]) -> list[np.ndarray]:
        image_id, entry = item
        data = open_data(self.manifest)
        image, truth = photo_of_boxes(data, image_id, entry), data.pixel_labels(image_id)
        found: dict[Point, np.ndarray] = {}
        for alpha in dict.fromkeys(alpha for alpha, _ in self.points):
            sets = [crf for other, crf in self.points if other == alpha]
            params = BboxSegParams(alpha, sets[0], self.iterations, self.occluder_bias)
            maps = bbox_seg_grid(image, entry.boxes, params, sets)
            found |= {
                (alpha, crf): confusion_matrix(truth, labels, len(data.labels))
                for crf, labels in zip(sets, maps, strict=True)
            }
        return [found[point] for point in self.points]


def tune_bbox_seg(study: Study, paths: StudyPaths, *, threads: int = 1) -> None:
    """Try every alpha with every CRF parameter set; write all to bbox_seg_grid.csv and the best to bbox_seg.json.

    The criterion is `foreground_iou` from one confusion matrix over the held-out images. Refinement goes on around the
    best point, alpha kept. A finished stage is kept beside the result, under the hash of boxes, photos and masks, and
    not tried again after a kill. Where no held-out image has boxes the released values are taken, and the grid is that
    one line without figures; they are also taken where none of these images shows an object.

    Raises:
        WeaksegError: the study has no boxes.
    """
    if study.boxes is None:
        raise WeaksegError(f"study {study.name}: it has no boxes (`boxes: null`), so there is nothing to search")
    search, occluder_bias, alphas = study.boxes.search, study.boxes.occluder_bias, study.boxes.alphas
    data = open_data(paths.manifest)
    boxes = read_boxes(paths.boxes, data.labels)
    ids = [image_id for image_id in data.ids("held_out")[: search.images] if image_id in boxes]
    if not ids:
        print(f"{paths.boxes}: no held-out image has boxes, so alpha and the CRF have the released values")
        _write(paths, study, [_row(RELEASED, "released", {}, 0)], RELEASED, {})
        return
    items = [(i, boxes[i]) for i in ids]
    inputs = [paths.boxes, *(data.files(i)[kind] for i in ids for kind in ("photo", "mask"))]
    key = sha256_json([[sha256_file(path) for path in inputs], ids, search.iterations, occluder_bias])
    kept = paths.bbox_seg_grid.with_name(f".bbox_seg-{key[:16]}.partial.json")

    def evaluate(points: Sequence[Point], stage: str) -> Iterator[dict[Point, Figures]]:
        scorer = _Scorer(paths.manifest, tuple(points), search.iterations, occluder_bias)
        total = np.zeros((len(points), *(len(data.labels),) * 2), dtype=np.int64)
        label = f"Bbox-Seg {stage}, {len(points)} sets"
        for matrices in parallel_map(scorer, items, processes=threads, description=label):
            total += np.stack(matrices)
        yield {
            point: {"iou_foreground": foreground_iou(matrix), "iou_objects": object_iou(matrix)}
            for point, matrix in zip(points, total, strict=True)
        }

    tried = staged_search(
        [(alpha, crf) for alpha in alphas for crf in grid_points(search.coarse, search)],
        lambda best, level: [(best[0], crf) for crf in finer_points(search.coarse, best[1], search, level)],
        evaluate,
        rounds=search.rounds,
        walks=bool(search.finer),
        criterion="iou_foreground",
        name=_name,
        kept=kept,
    )
    best = best_of(tried, "iou_foreground")
    rows = [_row(one.point, one.stage, one.figures, len(ids)) for one in tried]
    if np.isnan(best.figures["iou_foreground"]):
        print(f"{paths.boxes}: no held-out image shows an object, so alpha and the CRF have the released values")
        _write(paths, study, rows, RELEASED, {})
        return
    _write(paths, study, rows, best.point, {**best.figures, "images": len(ids)})
    kept.unlink(missing_ok=True)


def _row(point: Point, stage: str, figures: Figures, images: int) -> dict[str, object]:
    named = {name: figures.get(name) for name in ("iou_foreground", "iou_objects")}
    return {"alpha": point[0], **asdict(point[1]), "stage": stage, **named, "images": images}


def _write(
    paths: StudyPaths, study: Study, rows: list[dict[str, object]], best: Point, figures: dict[str, float]
) -> None:
    assert study.boxes is not None
    atomic_write_csv(paths.bbox_seg_grid, rows)
    facts = {"iterations": study.boxes.search.iterations, "occluder_bias": study.boxes.occluder_bias}
    atomic_write_json(paths.bbox_seg_params, {"alpha": best[0], **asdict(best[1]), **figures, **facts})


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
