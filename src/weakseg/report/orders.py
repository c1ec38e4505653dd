"""The orders between lines that the paper reports, held against a study's table."""

import itertools
from collections.abc import Sequence

import pandas as pd

from weakseg.config import load_paper
from weakseg.data.splits import PAPER_TRAIN_AUG
from weakseg.report.results import StudyResults


def check_orders(results: StudyResults, frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's orders beside those of a written table; an order whose lines the study does not run is left out.

    Means over seeds after the CRF are compared; variants of a line are left out.

    Args:
        results: the study.
        frame: the rows of `tables/*.csv`.

    Returns:
        Columns Order, Paper, Here (the figures compared, in percent) and Holds (yes or no).
    """
    rows = {row.id: row for row in results.experiments if row.variant is None}
    published = {(figure.table, figure.line): figure.iou for figure in load_paper(results.config_dir)}
    paper = {name: published[row.table, row.line] for name, row in rows.items()}
    kept = frame[frame["experiment"].isin(list(rows))]
    crf = dict(zip(kept["experiment"], kept["iou_crf_mean"], strict=True))
    dcnn = dict(zip(kept["experiment"], kept["iou_dcnn_mean"], strict=True))
    checks: list[dict[str, str]] = []

    def add(order: str, theirs: str, ours: str, holds: bool) -> None:
        checks.append({"Order": order, "Paper": theirs, "Here": ours, "Holds": "yes" if holds else "no"})

    def above(order: str, high: Sequence[str], low: Sequence[str]) -> None:
        """Each of `high` above each of `low`; the closest pair is printed."""
        if high and low:
            least, most = min(crf[i] for i in high), max(crf[i] for i in low)
            theirs = f"{min(paper[i] for i in high):.1f} > {max(paper[i] for i in low):.1f}"
            add(order, theirs, f"{least:.1f} {_relation(least, most)} {most:.1f}", least > most)

    def ids(kind: str, estep: str | None = None) -> list[str]:
        return [i for i in crf if rows[i].kind == kind and estep in (None, rows[i].estep)]

    weak, semi = ids("weak"), ids("semi")
    strong = sorted(ids("strong"), key=lambda i: rows[i].strong)
    above("EM-Adapt above EM-Fixed without pixel labels", ids("weak", "em_adapt"), ids("weak", "em_fixed"))
    above("Every semi-supervised line above every weak line", semi, weak)
    everything = [i for i in strong if rows[i].strong == PAPER_TRAIN_AUG]
    above("Pixel labels for all images above every other line", everything, [i for i in crf if i not in everything])
    for name in strong:
        fellows = [i for i in semi if rows[i].strong == rows[name].strong and _sees_all(rows[i].strong, rows[i].weak)]
        above("Weak images help beside the same pixel labels", fellows, [name])
    curve = sorted((i for i in semi if _sees_all(rows[i].strong, rows[i].weak)), key=lambda i: rows[i].strong)
    if len(curve) > 1:
        values = [crf[i] for i in curve]
        rising = all(a < b for a, b in itertools.pairwise(values))
        add("IOU rises with every step of pixel labels", _chain([paper[i] for i in curve]), _chain(values), rising)
    gains = [crf[i] - dcnn[i] for i in crf if dcnn[i] > 20]
    if gains:
        add("The CRF raises every line that is above 20", "yes", f"least gain {min(gains):+.1f}", min(gains) > 0)
    return pd.DataFrame(checks, columns=["Order", "Paper", "Here", "Holds"])


def _sees_all(strong: int, weak: int) -> bool:
    """Whether a line uses every training image, with one annotation or another."""
    return strong + weak == PAPER_TRAIN_AUG


def _relation(high: float, low: float) -> str:
    return ">" if high > low else "=" if high == low else "<"


def _chain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
