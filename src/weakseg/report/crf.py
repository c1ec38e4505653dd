"""What the CRF's search found, run by run."""

import json

import pandas as pd

from weakseg.errors import WeaksegError
from weakseg.report.results import StudyResults, experiment_label, read_grids

SEARCHED = ("w", "sigma_xy", "sigma_rgb")


def winners(results: StudyResults) -> pd.DataFrame:
    """The winner of every run's search as text cells, one row a run.

    Columns: run, seed, w, sigma_xy, sigma_rgb, without CRF, with CRF (IOU in percent on the held-out images), gain
    (points), on the border: the parameters whose winning value is the smallest or largest of several tried.

    Raises:
        WeaksegError: a run's CRF is not tuned.
    """
    grids = read_grids(results)
    rows = []
    for row, seed, run in results.of_val.runs():
        try:
            best = json.loads(run.crf.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WeaksegError(f"{run.crf}: no such file; make the run with `snakemake {run.metrics}`") from None
        grid = grids[(grids["experiment"] == row.id) & (grids["seed"] == seed)]
        rows.append(
            {
                "run": experiment_label(row),
                "seed": str(seed),
                **{name: f"{best[name]:g}" for name in SEARCHED},
                "without CRF": f"{best['iou_dcnn']:.1f}",
                "with CRF": f"{best['iou']:.1f}",
                "gain": f"{best['iou'] - best['iou_dcnn']:+.1f}",
                "on the border": ", ".join(name for name in SEARCHED if _on_border(grid[name], best[name])) or "–",
            }
        )
    return pd.DataFrame(rows)


def _on_border(tried: pd.Series, value: float) -> bool:
    return tried.nunique() > 1 and value in (tried.min(), tried.max())
