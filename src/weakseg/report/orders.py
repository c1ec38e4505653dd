"""The orders between lines that the paper reports, held against a study's table."""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from weakseg.config import load_paper
from weakseg.data.splits import PAPER_TRAIN_AUG
from weakseg.report.results import StudyResults

NEAR = 4.0
"""Points that Bbox-Seg with some pixel labels may stay behind pixel labels for all images; 2.5 in the paper."""


class _Orders:
    """Rows of the check, and the figures they compare: means over seeds after the CRF, variants left out."""

    def __init__(self, results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> None:
        published = {(figure.table, figure.line): figure.iou for figure in load_paper(results.config_dir)}
        self.rows = {row.id: row for row in results.experiments if row.variant is None}
        self.crf: dict[str, float] = {}
        self.dcnn: dict[str, float] = {}
        self.paper: dict[str, float] = {}
        for table, frame in frames.items():
            for line in frame[frame["experiment"].isin(list(self.rows))].itertuples():
                self.crf[line.experiment] = line.iou_crf_mean
                self.dcnn[line.experiment] = line.iou_dcnn_mean
                self.paper[line.experiment] = published[table, line.line]
        self.checks: list[dict[str, str]] = []

    def add(self, order: str, theirs: str, ours: str, holds: bool) -> None:
        """A row."""
        self.checks.append({"Order": order, "Paper": theirs, "Here": ours, "Holds": "yes" if holds else "no"})

    def above(self, order: str, high: Sequence[str], low: Sequence[str]) -> None:
        """Each of `high` above each of `low`; the closest pair is printed. Left out where a side is empty."""
        if high and low:
            least, most = min(self.crf[i] for i in high), max(self.crf[i] for i in low)
            theirs = f"{min(self.paper[i] for i in high):.1f} > {max(self.paper[i] for i in low):.1f}"
            self.add(order, theirs, f"{least:.1f} {_relation(least, most)} {most:.1f}", least > most)

    def ids(self, kind: str, estep: str | None = None, annotation: str | None = None) -> list[str]:
        """Experiments with a figure, of a kind, an E-step, a weak annotation."""
        rows = ((i, self.rows[i]) for i in self.crf)
        return [
            i
            for i, row in rows
            if row.kind == kind and estep in (None, row.estep) and annotation in (None, row.weak_annotation)
        ]

    def crf_helps(self) -> None:
        """The CRF raises every line that is above 20 without it."""
        gains = [self.crf[i] - self.dcnn[i] for i in self.crf if self.dcnn[i] > 20]
        if gains:
            order = "The CRF raises every line that is above 20"
            self.add(order, "yes", f"least gain {min(gains):+.1f}", min(gains) > 0)

    def frame(self) -> pd.DataFrame:
        """The rows."""
        return pd.DataFrame(self.checks, columns=["Order", "Paper", "Here", "Holds"])


def check_orders(results: StudyResults, frames: Mapping[str, pd.DataFrame], table: str = "table1") -> pd.DataFrame:
    """The paper's orders beside those of a written table; an order whose lines the study does not run is left out.

    Args:
        results: the study.
        frames: the rows of `tables/*.csv` by table; orders between tables need both.
        table: whose orders are checked.

    Returns:
        Columns Order, Paper, Here (the figures compared, in percent) and Holds (yes or no).
    """
    if table == "table3":
        return _box_orders(results, frames)
    return _image_level_orders(results, {table: frames[table]})


def _image_level_orders(results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    orders = _Orders(results, frames)
    crf, rows, ids, above = orders.crf, orders.rows, orders.ids, orders.above
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
        theirs = _chain([orders.paper[i] for i in curve])
        orders.add("IOU rises with every step of pixel labels", theirs, _chain(values), rising)
    orders.crf_helps()
    return orders.frame()


def _box_orders(results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    orders = _Orders(results, {"table3": frames["table3"]})
    ids, above = orders.ids, orders.above
    for kind, name in (("weak", "boxes alone"), ("semi", "some pixel labels")):
        above(f"Bbox-Seg above Bbox-Rect with {name}", ids(kind, "bbox_seg"), ids(kind, "bbox_rect"))
        above(f"Bbox-EM-Fixed above Bbox-Rect with {name}", ids(kind, "bbox_em_fixed"), ids(kind, "bbox_rect"))
    above("Every semi-supervised line above every weak line", ids("semi"), ids("weak"))
    everything = [i for i in ids("strong") if orders.rows[i].strong == PAPER_TRAIN_AUG]
    for best in everything:
        for name in ids("semi", "bbox_seg"):
            behind, theirs = orders.crf[best] - orders.crf[name], orders.paper[best] - orders.paper[name]
            order = f"Bbox-Seg with some pixel labels within {NEAR:g} points of pixel labels for all images"
            orders.add(order, f"{theirs:.1f} behind", f"{behind:.1f} behind", behind <= NEAR)
    part = [i for i in ids("strong") if i not in everything]
    helped = ids("semi", "bbox_seg") + ids("semi", "bbox_em_fixed")
    above("Bbox-Seg and Bbox-EM-Fixed help beside the same pixel labels", helped, part)
    if "table1" in frames:
        both = _Orders(results, {name: frames[name] for name in ("table1", "table3")})
        boxes, tags = both.ids("weak", annotation="box"), both.ids("weak", annotation="image")
        both.above("Every line with boxes alone above every line with image-level labels alone", boxes, tags)
        orders.checks += both.checks
    orders.crf_helps()
    return orders.frame()


def _sees_all(strong: int, weak: int) -> bool:
    """Whether a line uses every training image, with one annotation or another."""
    return strong + weak == PAPER_TRAIN_AUG


def _relation(high: float, low: float) -> str:
    return ">" if high > low else "=" if high == low else "<"


def _chain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
