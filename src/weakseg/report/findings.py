"""What the paper finds by comparing lines of its tables, held against a study's tables."""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from weakseg.report.paper import paper_lists
from weakseg.report.results import StudyResults

NEAR = 4.0
"""Points that Bbox-Seg with some pixel labels may stay behind pixel labels for all images: a rule of this project."""

COLUMNS = ("Finding", "Paper", "Here", "Holds")


class _Findings:
    """Rows of the check, and the figures they compare: means over seeds after the CRF.

    Variants of a line and lines without a published figure take no part.
    """

    def __init__(self, results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> None:
        self.everything = paper_lists(results)["training"]
        self.rows = {row.id: row for row in results.experiments if row.variant is None}
        self.crf: dict[str, float] = {}
        self.dcnn: dict[str, float] = {}
        self.paper: dict[str, float] = {}
        for frame in frames.values():
            compared = frame["experiment"].isin(list(self.rows)) & frame["published_iou"].notna()
            for line in frame[compared].itertuples():
                self.crf[line.experiment] = line.iou_crf_mean
                self.dcnn[line.experiment] = line.iou_dcnn_mean
                self.paper[line.experiment] = line.published_iou
        self.checks: list[dict[str, str]] = []

    def add(self, finding: str, theirs: str, ours: str, holds: bool) -> None:
        """A row."""
        self.checks.append({"Finding": finding, "Paper": theirs, "Here": ours, "Holds": "yes" if holds else "no"})

    def above(self, finding: str, high: Sequence[str], low: Sequence[str]) -> None:
        """Each of `high` above each of `low`; the closest pair is printed. Left out where a side is empty."""
        if high and low:
            least, most = min(self.crf[i] for i in high), max(self.crf[i] for i in low)
            theirs = f"{min(self.paper[i] for i in high):.1f} > {max(self.paper[i] for i in low):.1f}"
            self.add(finding, theirs, f"{least:.1f} {_relation(least, most)} {most:.1f}", least > most)

    def ids(self, kind: str, method: str | None = None, annotation: str | None = None) -> list[str]:
        """Experiments with a figure, of a kind, a method of weak images, a weak annotation."""
        rows = ((i, self.rows[i]) for i in self.crf)
        return [
            i
            for i, row in rows
            if row.kind == kind and method in (None, row.weak_method) and annotation in (None, row.weak_annotation)
        ]

    def sees_all(self, experiment: str) -> bool:
        """Whether a line uses every training image, with one annotation or another."""
        row = self.rows[experiment]
        return row.strong + row.weak >= self.everything

    def crf_helps(self) -> None:
        """The CRF raises every line that is above 20 without it."""
        gains = [self.crf[i] - self.dcnn[i] for i in self.crf if self.dcnn[i] > 20]
        if gains:
            finding = "The CRF raises every line that is above 20"
            self.add(finding, "yes", f"least gain {min(gains):+.1f}", min(gains) > 0)

    def frame(self) -> pd.DataFrame:
        """The rows."""
        return pd.DataFrame(self.checks, columns=list(COLUMNS))


def check_findings(results: StudyResults, frames: Mapping[str, pd.DataFrame], table: str) -> pd.DataFrame:
    """What the paper finds in a table, beside the study's own; what the study lacks the lines for is left out.

    Args:
        results: the study.
        frames: the rows of `tables/*.csv` by table; findings between tables need both.
        table: whose findings are checked; there are some for table1 and table3 only.

    Returns:
        Columns Finding, Paper, Here (the figures compared, in percent) and Holds (yes or no).
    """
    if table == "table1":
        return _image_level_findings(results, frames)
    if table == "table3":
        return _box_findings(results, frames)
    return pd.DataFrame(columns=list(COLUMNS))


def _image_level_findings(results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    found = _Findings(results, {"table1": frames["table1"]})
    crf, rows, ids, above = found.crf, found.rows, found.ids, found.above
    weak, semi = ids("weak"), ids("semi")
    strong = sorted(ids("strong"), key=lambda i: rows[i].strong)
    above("EM-Adapt above EM-Fixed without pixel labels", ids("weak", "em_adapt"), ids("weak", "em_fixed"))
    above("Every semi-supervised line above every weak line", semi, weak)
    everything = [i for i in strong if rows[i].strong == found.everything]
    above("Pixel labels for all images above every other line", everything, [i for i in crf if i not in everything])
    for name in strong:
        fellows = [i for i in semi if rows[i].strong == rows[name].strong and found.sees_all(i)]
        above("Weak images help beside the same pixel labels", fellows, [name])
    curve = sorted((i for i in semi if found.sees_all(i)), key=lambda i: rows[i].strong)
    if len(curve) > 1:
        values = [crf[i] for i in curve]
        rising = all(a < b for a, b in itertools.pairwise(values))
        theirs = _chain([found.paper[i] for i in curve])
        found.add("IOU rises with every step of pixel labels", theirs, _chain(values), rising)
    found.crf_helps()
    return found.frame()


def _box_findings(results: StudyResults, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    found = _Findings(results, {"table3": frames["table3"]})
    ids, above = found.ids, found.above
    for kind, name in (("weak", "boxes alone"), ("semi", "some pixel labels")):
        above(f"Bbox-Seg above Bbox-Rect with {name}", ids(kind, "bbox_seg"), ids(kind, "bbox_rect"))
        above(f"Bbox-EM-Fixed above Bbox-Rect with {name}", ids(kind, "bbox_em_fixed"), ids(kind, "bbox_rect"))
    above("Every semi-supervised line above every weak line", ids("semi"), ids("weak"))
    everything = [i for i in ids("strong") if found.rows[i].strong == found.everything]
    for best in everything:
        for name in ids("semi", "bbox_seg"):
            behind, theirs = found.crf[best] - found.crf[name], found.paper[best] - found.paper[name]
            finding = f"Bbox-Seg with some pixel labels within {NEAR:g} points of pixel labels for all images"
            found.add(finding, f"{theirs:.1f} behind", f"{behind:.1f} behind", behind <= NEAR)
    part = [i for i in ids("strong") if i not in everything]
    helped = ids("semi", "bbox_seg") + ids("semi", "bbox_em_fixed")
    above("Bbox-Seg and Bbox-EM-Fixed help beside the same pixel labels", helped, part)
    if "table1" in frames:
        both = _Findings(results, {name: frames[name] for name in ("table1", "table3")})
        boxes, tags = both.ids("weak", annotation="box"), both.ids("weak", annotation="image")
        both.above("Every line with boxes alone above every line with image-level labels alone", boxes, tags)
        found.checks += both.checks
    found.crf_helps()
    return found.frame()


def _relation(high: float, low: float) -> str:
    return ">" if high > low else "=" if high == low else "<"


def _chain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
