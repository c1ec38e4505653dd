"""The search for the CRF's parameters on the held-out images: a coarse grid, then finer ones around the best."""

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from weakseg.config import CrfGrid, CrfSearch, Study
from weakseg.crf import CRFParams, mean_field_grid, unary_from_scores
from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import VocFolder
from weakseg.evaluate.mean_iou import confusion_matrix, mean_iou
from weakseg.evaluate.scores import ScoreStore
from weakseg.files import atomic_write_csv, atomic_write_json, sha256_file, sha256_json
from weakseg.labels import NUM_LABELS
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths

BLOCK = 24
"""Parameter sets tried together on each image."""


def grid_points(grid: CrfGrid, search: CrfSearch) -> list[CRFParams]:
    """All combinations of a grid, w slowest, sigma_rgb fastest."""
    return [
        CRFParams(w, xy, rgb, search.w_pos, search.sigma_pos)
        for w, xy, rgb in itertools.product(grid.w, grid.sigma_xy, grid.sigma_rgb)
    ]


def finer_points(grid: CrfGrid, best: CRFParams, search: CrfSearch, level: int) -> list[CRFParams]:
    """A grid of three values a parameter around the best: its own and those a fraction of the coarse distance away.

    The fraction is 1/2 in round 1, 1/4 in round 2 and so on; a parameter that the coarse grid does not vary stays;
    values that are not positive are left out.
    """

    def around(value: float, coarse: tuple[float, ...]) -> list[float]:
        if len(coarse) < 2:
            return [value]
        distance = min(b - a for a, b in itertools.pairwise(sorted(set(coarse)))) / 2**level
        return [v for v in (value - distance, value, value + distance) if v > 0]

    return [
        CRFParams(w, xy, rgb, search.w_pos, search.sigma_pos)
        for w, xy, rgb in itertools.product(
            around(best.w, grid.w), around(best.sigma_xy, grid.sigma_xy), around(best.sigma_rgb, grid.sigma_rgb)
        )
    ]


@dataclass(frozen=True)
class _Scorer:
    """Confusion matrices of one image under many parameters (picklable, for other processes)."""

    scores: Path
    root: Path
    points: tuple[CRFParams, ...]
    iterations: int

    def __call__(self, image_id: str) -> list[np.ndarray]:
        folder = VocFolder(self.root)
        image, truth = folder.image(image_id), folder.labels(image_id)
        unary = unary_from_scores(ScoreStore(self.scores).full(image_id))
        maps = mean_field_grid(unary, image, self.points, iterations=self.iterations)
        return [confusion_matrix(truth, labels) for labels in maps]


def tune_crf(study: Study, paths: StudyPaths, run: RunPaths, *, threads: int = 1) -> None:
    """Try the study's grids on the held-out images; write every combination to crf_grid.csv and the best to crf.json.

    The criterion is mean IOU from one confusion matrix over the held-out images (Chen et al. 2015, section 4); of
    equal ones the first tried wins. What was tried before a kill is kept beside the result, under the hash of scores,
    photos and masks, and not tried again.
    """
    search = study.crf
    folder = open_data(paths.manifest)
    ids = held_out(paths.manifest)[: search.images]
    inputs = [run.scores, *(path for i in ids for path in (folder.image_path(i), folder.mask_path(i)))]
    key = sha256_json([[sha256_file(path) for path in inputs], ids, search.iterations])
    partial = run.root / "resume" / f"crf-{key[:16]}.json"
    known: dict[str, float] = json.loads(partial.read_text(encoding="utf-8")) if partial.exists() else {}
    rows: list[dict[str, float | str]] = []

    def try_points(points: list[CRFParams], stage: str) -> None:
        tried = {_name(row) for row in rows}
        fresh = [p for p in dict.fromkeys(points) if _name(asdict(p)) not in tried]
        # Sets that share a lattice stand together, so that it is built once an image; a block is what a kill can cost.
        pending = sorted(
            (p for p in fresh if _name(asdict(p)) not in known), key=lambda p: (p.sigma_xy, p.sigma_rgb, p.w)
        )
        for start in range(0, len(pending), BLOCK):
            block = tuple(pending[start : start + BLOCK])
            scorer = _Scorer(run.scores, folder.root, block, search.iterations)
            total = np.zeros((len(block), NUM_LABELS, NUM_LABELS), dtype=np.int64)
            label = f"CRF {stage} {start + 1}-{start + len(block)} of {len(pending)}"
            for matrices in parallel_map(scorer, ids, processes=threads, description=label):
                total += np.stack(matrices)
            known.update({_name(asdict(p)): mean_iou(m) for p, m in zip(block, total, strict=True)})
            atomic_write_json(partial, known)
        rows.extend({**asdict(p), "stage": stage, "iou": known[_name(asdict(p))], "images": len(ids)} for p in fresh)

    try_points(grid_points(search.coarse, search), "coarse")
    for level in range(1, search.refine_rounds + 1):
        try_points(finer_points(search.coarse, _best(rows), search, level), "fine")

    store = ScoreStore(run.scores)
    plain = sum(confusion_matrix(folder.labels(i), store.full(i).argmax(0)) for i in ids)
    atomic_write_csv(run.crf_grid, rows)
    best = _best(rows)
    atomic_write_json(
        run.crf,
        {
            **asdict(best),
            "iou": max(float(row["iou"]) for row in rows),
            "iou_dcnn": mean_iou(np.asarray(plain)),
            "images": len(ids),
            "iterations": search.iterations,
        },
    )
    partial.unlink(missing_ok=True)


def _name(values: dict[str, float | str]) -> str:
    return "/".join(repr(float(values[k])) for k in ("w", "sigma_xy", "sigma_rgb", "w_pos", "sigma_pos"))


def _best(rows: list[dict[str, float | str]]) -> CRFParams:
    winner = max(rows, key=lambda row: float(row["iou"]))  # the first of equal ones
    return CRFParams.of(winner)
