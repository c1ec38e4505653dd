"""The search for the CRF's parameters on the held-out images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.config import Study
from weakseg.crf import CRFParams, mean_field_grid, unary_from_scores
from weakseg.data.dataset import open_data
from weakseg.evaluate.crf_place import crf_device, placed
from weakseg.evaluate.score_store import ScoreStore
from weakseg.files import atomic_write_csv, atomic_write_json, sha256_file, sha256_json
from weakseg.metrics import confusion_matrix, mean_iou
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths
from weakseg.search import Figures, best_of, finer_points, grid_points, in_blocks, staged_search

BLOCK = 24
"""Parameter sets tried together on each image."""


@dataclass(frozen=True)
class _Scorer:
    """Confusion matrices of one image under many parameters (picklable, for other processes)."""

    scores: Path
    manifest: Path
    points: tuple[CRFParams, ...]
    iterations: int
    device: str | None = None

    def __call__(self, image_id: str) -> list[np.ndarray]:
        data = open_data(self.manifest)
        image, truth = data.image(image_id), data.pixel_labels(image_id)
        unary = unary_from_scores(ScoreStore(self.scores).full(image_id))
        unary, image = placed(unary, self.device), placed(image, self.device)
        maps = mean_field_grid(unary, image, self.points, iterations=self.iterations)
        return [confusion_matrix(truth, labels, len(data.labels)) for labels in maps]


def tune_crf(study: Study, paths: StudyPaths, run: RunPaths, *, threads: int = 1) -> None:
    """Try the study's grids on the held-out images; write every combination to crf_grid.csv and the best to crf.json.

    The criterion is mean IOU from one confusion matrix over the held-out images (Chen et al. 2015, section 4). What was
    tried before a kill is kept beside the result, under the hash of scores, photos and masks, and not tried again.
    """
    search = study.crf
    data, store = open_data(paths.manifest), ScoreStore(run.scores)
    ids = data.ids("held_out")[: search.images]
    inputs = [run.scores, *(data.files(i)[kind] for i in ids for kind in ("photo", "mask"))]
    device = crf_device(study)
    # What was tried elsewhere is other by rounding; on the cores the key is that of before.
    place = [] if device is None else [study.compute.crf]
    key = sha256_json([[sha256_file(path) for path in inputs], ids, search.iterations, *place])
    kept = run.resume / f"crf-{key[:16]}.json"

    def evaluate(points: Sequence[CRFParams], stage: str) -> Iterator[dict[CRFParams, Figures]]:
        # Sets that share a lattice stand together, so that it is built once an image.
        ordered = sorted(points, key=lambda p: (p.sigma_xy, p.sigma_rgb, p.w))
        for number, block in enumerate(in_blocks(ordered, BLOCK)):
            scorer = _Scorer(run.scores, paths.manifest, tuple(block), search.iterations, device)
            total = np.zeros((len(block), *(len(data.labels),) * 2), dtype=np.int64)
            first = number * BLOCK + 1
            label = f"CRF {stage} {first}-{first + len(block) - 1} of {len(ordered)}"
            processes = threads if device is None else 1
            for matrices in parallel_map(scorer, ids, processes=processes, description=label):
                total += np.stack(matrices)
            yield {point: {"iou": mean_iou(matrix)} for point, matrix in zip(block, total, strict=True)}

    tried = staged_search(
        grid_points(search.coarse, search),
        lambda best, level: finer_points(search.coarse, best, search, level),
        evaluate,
        rounds=search.rounds,
        walks=bool(search.finer),
        criterion="iou",
        name=lambda p: "/".join(repr(float(value)) for value in asdict(p).values()),
        kept=kept,
    )
    plain = sum(confusion_matrix(data.pixel_labels(i), store.full(i).argmax(0), len(data.labels)) for i in ids)
    atomic_write_csv(
        run.crf_grid,
        [{**asdict(one.point), "stage": one.stage, **one.figures, "images": len(ids)} for one in tried],
    )
    best = best_of(tried, "iou")
    facts = {"iou_dcnn": mean_iou(np.asarray(plain)), "images": len(ids), "iterations": search.iterations}
    atomic_write_json(run.crf, {**asdict(best.point), **best.figures, **facts})
    kept.unlink(missing_ok=True)
