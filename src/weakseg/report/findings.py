"""What the paper finds by comparing lines of its tables, and whether the runs of a study bear it out.

A finding is one claim in words and one or more comparisons of two lines. `judge` holds the rule by which a comparison
is decided, `RULE` the same in words for readers.
"""

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from weakseg.config import Experiment, Study, reported_experiments
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.paths import StudyPaths
from weakseg.report.paper import PaperSetting, paper_lists, published_ious
from weakseg.report.results import StudyResults, experiment_label, read_metrics

Verdict = Literal["holds", "fails", "not decided"]

TERMINAL_WIDTH = 120
"""Columns to which running text in a terminal is wrapped."""

LEVEL = 0.05
"""A paired test with this p or a larger one does not decide."""

UNTESTED = 1.0
"""Points: without a test, a difference nearer than this to what is claimed does not decide."""

RULE = (
    "A claim compares two lines, or several pairs of them: it holds where every pair keeps it, and fails where one "
    "breaks it. The pair that decides is shown. Where both lines were trained with at least two common seeds, a paired "
    "t-test over these (two-sided) compares their difference with what is claimed, and leaves the pair not decided "
    f"with p of {LEVEL:g} or more. Where they were not, the means alone decide, and leave the pair not decided where "
    f"they are within {UNTESTED:g} point of what is claimed: another seed may turn that round."
)
"""The rule of `judge` and of `Finding.verdict` for readers."""

# Thresholds of this project, in points. The paper orders lines and prints figures; how far apart two lines must be to
# bear that out is not its claim.
ADAPT_ABOVE_FIXED = 5.0
SEG_ABOVE_RECT = 3.0
SEMI_NEAR_STRONG = 8.0
SEMI_NEAR_FROM = 750
"""Pixel labels, as the paper counts them, from which on semi-supervised lines are to be near."""
SEG_NEAR_STRONG = 4.0
COCO_TAGS_ADD = 1.0
"""Points that image-level labels of MS-COCO may add; the paper prints 67.7 and 67.6, and speaks of little."""
CRF_GAIN = (1.0, 8.0)
CRF_FROM = 20.0
"""Mean IOU without the CRF above which it is to help: below, most pixels have the wrong class, which it spreads."""


PASCAL_ONLY, COCO_TAGS, JOINT_SEMI, JOINT_5000, PRETRAIN, JOINT = range(1, 7)
"""Lines of Table 5."""


@dataclass(frozen=True)
class Finding:
    """A claim of the paper beside a study's own figures.

    Attributes:
        table: the table whose lines are compared.
        claim: what is claimed, in words.
        threshold: which number in the claim is this project's and not the paper's; empty where none is.
        paper: the published figures, as they are printed; empty where the paper has none.
        ours: the study's, means over seeds in percent, with the CRF.
        lines: ids of the experiments of the pair that decides, with a space between.
        pair: their names, in the order of `ours`.
        difference: of this pair's means, in points.
        asked: what the claim asks of the difference.
        spread: standard deviation of the difference over the common seeds; NaN for fewer than two.
        p: of the paired test; NaN for fewer than two common seeds.
        seeds: how many seeds both lines were trained with.
        verdict: holds, fails or not decided.
    """

    table: str
    claim: str
    threshold: str
    paper: str
    ours: str
    lines: str
    pair: str
    difference: float
    asked: str
    spread: float
    p: float
    seeds: int
    verdict: Verdict

    @property
    def margin(self) -> str:
        """The difference with its spread, as it is printed."""
        text = f"{self.difference:+.1f}".replace("-", "−")
        return text if math.isnan(self.spread) else f"{text} ± {self.spread:.1f}"

    @property
    def test(self) -> str:
        """p of the paired test with the number of seeds, as it is printed."""
        if math.isnan(self.p):
            return "one seed" if self.seeds else "no common seed"
        return f"p < 0.001 ({self.seeds})" if self.p < 0.001 else f"p = {self.p:.3f} ({self.seeds})"


@dataclass(frozen=True)
class _Line:
    """A line of a table: its experiment, its published figure, and its runs by seed, in percent."""

    row: Experiment
    published: float
    crf: pd.Series
    dcnn: pd.Series


@dataclass(frozen=True)
class _Comparison:
    """Two quantities by seed (of two lines, or with and without the CRF), and what their difference is to be.

    Attributes:
        first, second: percent by seed; the difference is the first less the second.
        bound: points; a bound of 0 must be exceeded, any other may be met.
        at_most: the difference may not be above the bound; else not below it.
        ids: the experiments compared.
        pair: their names.
        published: the paper's figures of both; None where it has none.
    """

    first: pd.Series
    second: pd.Series
    bound: float
    ids: tuple[str, ...]
    pair: str
    published: tuple[float, float] | None = None
    at_most: bool = False

    @property
    def common(self) -> list[int]:
        """The seeds of both."""
        return sorted(set(self.first.index) & set(self.second.index))

    @property
    def means(self) -> tuple[float, float]:
        """Means over the common seeds where the test can be made, else over all seeds of each."""
        seeds = self.common
        if len(seeds) < 2:
            return float(self.first.mean()), float(self.second.mean())
        return float(self.first[seeds].mean()), float(self.second[seeds].mean())

    @property
    def differences(self) -> list[float]:
        """By common seed where there are several, else that of the means."""
        seeds = self.common
        if len(seeds) < 2:
            return [self.means[0] - self.means[1]]
        return [float(value) for value in self.first[seeds] - self.second[seeds]]

    def judged(self) -> tuple[Verdict, float, float]:
        """Verdict, p, and by how many points the claim is kept (negative: broken)."""
        sign = -1 if self.at_most else 1
        # Figures are printed with three decimals at most: what is left of binary fractions must not decide.
        kept = [round(sign * (value - self.bound), 6) for value in self.differences]
        verdict, p = judge(kept, strict=self.bound == 0)
        return verdict, p, sum(kept) / len(kept)


def judge(kept: Sequence[float], *, strict: bool) -> tuple[Verdict, float]:
    """Decide a comparison from the points by which it is kept (negative: broken), one value a common seed.

    The sign of the mean decides. A single value must be `UNTESTED` points from zero for that: seeds of one line differ
    by as much. With several seeds the mean must be told from zero: the paired t-test against the claimed difference,
    which is the test of these values against 0, has p below `LEVEL`. The test is two-sided, as it stands behind "holds"
    and "fails" alike. No second rule compares the mean with the spread: up to six seeds the test asks for more than one
    standard deviation anyway (2.5 of them at three seeds); with more seeds a mean is known better than one run is, and
    claims are about means. A claim over several pairs needs no correction to hold: all of its tests must be passed.

    Args:
        kept: points, by seed; a single value is that of the means.
        strict: 0 is not enough.

    Returns:
        The verdict, and p (NaN for a single value).
    """
    mean = sum(kept) / len(kept)
    verdict: Verdict = "holds" if (mean > 0 if strict else mean >= 0) else "fails"
    if len(kept) < 2:
        return (verdict if abs(mean) >= UNTESTED else "not decided"), math.nan
    if min(kept) == max(kept):  # without a spread there is nothing to test
        return verdict, 1.0 if mean == 0 else 0.0
    from scipy.stats import ttest_1samp  # slow to import, and nothing else here needs it

    p = float(ttest_1samp(kept, 0).pvalue)
    return (verdict if p < LEVEL else "not decided"), p


class _Table:
    """The lines of a table that have a published figure; variants of a line take no part."""

    def __init__(self, results: StudyResults, metrics: pd.DataFrame, table: str) -> None:
        self.table = table
        published, everything = published_ious(results), paper_lists(results)["training"]
        self.lines: list[_Line] = []
        self.by_number: dict[int, _Line] = {}
        for row in results.experiments:
            number = row.line_in(table)
            if row.variant is None and number is not None and (table, number) in published:
                runs = metrics[metrics["experiment"] == row.id].set_index("seed")
                self.lines.append(_Line(row, published[table, number], runs["iou_crf"], runs["iou_dcnn"]))
                self.by_number[number] = self.lines[-1]
        self.everything = everything
        self.all_strong = [line for line in self.of("strong") if line.row.strong >= everything]

    def of(self, kind: str, method: str | None = None, annotation: str | None = None) -> list[_Line]:
        """Lines of a kind, a method of weak images, a weak annotation; fewest pixel labels first."""
        found = [
            line
            for line in self.lines
            if line.row.kind == kind
            and method in (None, line.row.weak_method)
            and annotation in (None, line.row.weak_annotation)
        ]
        return sorted(found, key=lambda line: line.row.strong)

    def at(self, *numbers: int) -> list[_Line]:
        """Those of these lines, by their numbers in the table, that the study runs."""
        return [self.by_number[number] for number in numbers if number in self.by_number]

    def sees_all(self, line: _Line) -> bool:
        """Whether a line uses every training image, with one annotation or another."""
        return line.row.strong + line.row.weak >= self.everything

    def above(self, claim: str, high: Iterable[_Line], low: Iterable[_Line], bound: float = 0.0) -> list[Finding]:
        """Each of `high` above each of `low`, by `bound` points at least; nothing where a side is empty."""
        pairs = [_pair(a, b, bound) for a, b in itertools.product(high, low)]
        note = f"The {bound:g} points are this project's; the paper orders the lines." if bound else ""
        return _finding(self.table, claim, pairs, asked=f"≥ {bound:g}" if bound else "> 0", threshold=note)

    def near(self, claim: str, behind: Iterable[_Line], ahead: Iterable[_Line], points: float) -> list[Finding]:
        """Each of `behind` no more than so many points below each of `ahead`."""
        pairs = [_pair(a, b, -points) for a, b in itertools.product(behind, ahead)]
        note = f"The {points:g} points are this project's; the paper prints the figures."
        return _finding(self.table, claim, pairs, asked=f"≥ −{points:g}", threshold=note)

    def no_more(self, claim: str, high: Iterable[_Line], low: Iterable[_Line], points: float) -> list[Finding]:
        """Each of `high` at most so many points above each of `low`."""
        pairs = [replace(_pair(a, b, points), at_most=True) for a, b in itertools.product(high, low)]
        note = f"The {points:g} points are this project's; the paper prints the figures."
        return _finding(self.table, claim, pairs, asked=f"≤ {points:g}", threshold=note)

    def helped(self) -> list[tuple[_Line, _Line]]:
        """Each semi-supervised line on all images beside strong training on the same pixel labels."""
        semi = [line for line in self.of("semi") if self.sees_all(line)]
        return [(a, b) for a, b in itertools.product(semi, self.of("strong")) if a.row.strong == b.row.strong]

    def rises(self) -> list[Finding]:
        """IOU rises along the semi-supervised lines on all images."""
        curve = [line for line in self.of("semi") if self.sees_all(line)]
        steps = [_pair(more, fewer, 0.0) for fewer, more in itertools.pairwise(curve)]
        return _finding(
            self.table,
            "IOU rises with every step of pixel labels",
            steps,
            asked="> 0",
            paper=", ".join(f"{line.published:.1f}" for line in curve),
            ours=", ".join(f"{line.crf.mean():.1f}" for line in curve),
        )

    def crf_helps(self, published: tuple[float, float] | None) -> list[Finding]:
        """The CRF adds between so many and so many points to each line that is above `CRF_FROM` without it."""
        least, most = CRF_GAIN
        lines = [line for line in self.lines if line.dcnn.mean() > CRF_FROM]
        gains = [float(line.crf.mean() - line.dcnn.mean()) for line in lines]
        bounds = ((least, False), (most, True))
        return _finding(
            self.table,
            f"The CRF adds {least:g} to {most:g} points to every line above {CRF_FROM:g}",
            [
                _Comparison(
                    line.crf, line.dcnn, bound, (line.row.id,), f"{experiment_label(line.row)}, with and without",
                    at_most=at_most,
                )
                for line in lines
                for bound, at_most in bounds
            ],
            asked=f"{least:g} to {most:g}",
            threshold="All three numbers are this project's."
            + ("" if published is None else " The paper's figures are those of its first text."),
            paper="" if published is None else f"{published[0]:+.1f} to {published[1]:+.1f}",
            ours=f"{min(gains):+.1f} to {max(gains):+.1f}".replace("-", "−") if gains else "",
        )  # fmt: skip


def _pair(first: _Line, second: _Line, bound: float) -> _Comparison:
    names = f"{experiment_label(first.row)} against {experiment_label(second.row)}"
    published = (first.published, second.published)
    return _Comparison(first.crf, second.crf, bound, (first.row.id, second.row.id), names, published)


def _finding(
    table: str,
    claim: str,
    comparisons: Sequence[_Comparison],
    *,
    asked: str,
    threshold: str = "",
    paper: str | None = None,
    ours: str | None = None,
) -> list[Finding]:
    """The finding that these comparisons make together, or none where there are none.

    It fails where one fails, is not decided where one is not, and holds where all do. Shown is the one that decides,
    and of several of one verdict that with the least to spare.
    """
    if not comparisons:
        return []
    order: tuple[Verdict, ...] = ("fails", "not decided", "holds")
    judged = [(*comparison.judged(), comparison) for comparison in comparisons]
    verdict, p, _, shown = min(judged, key=lambda known: (order.index(known[0]), known[2]))
    differences = pd.Series(shown.differences)
    if paper is None:
        paper = "{:.1f} vs {:.1f}".format(*shown.published) if shown.published else ""
    return [
        Finding(
            table=table,
            claim=claim,
            threshold=threshold,
            paper=paper,
            ours="{:.1f} vs {:.1f}".format(*shown.means) if ours is None else ours,
            lines=" ".join(shown.ids),
            pair=shown.pair,
            difference=float(differences.mean()),
            asked=asked,
            spread=float(differences.std()) if len(differences) > 1 else math.nan,
            p=p,
            seeds=len(shown.common),
            verdict=verdict,
        )
    ]


def find(results: StudyResults, metrics: pd.DataFrame) -> list[Finding]:
    """The findings of Tables 1, 3 and 5 for which a study has run the lines, in the order of the report.

    Args:
        results: the study.
        metrics: its runs, as `results.read_metrics` gives them.
    """
    tags, boxes, coco = (_Table(results, metrics, name) for name in ("table1", "table3", "table5"))
    gain = PaperSetting.read(results.config_dir).crf_gain
    found = [*_image_level(tags), *tags.crf_helps(gain), *_boxes(boxes, tags), *boxes.crf_helps(gain)]
    return found + _two_data_sets(coco)


def _image_level(table: _Table) -> list[Finding]:
    found = table.above(
        f"EM-Adapt at least {ADAPT_ABOVE_FIXED:g} points above EM-Fixed, with image-level labels alone",
        table.of("weak", "em_adapt"),
        table.of("weak", "em_fixed"),
        ADAPT_ABOVE_FIXED,
    )
    found += table.above("Every semi-supervised line above every weak line", table.of("semi"), table.of("weak"))
    found += table.rises()
    near = [line for line in table.of("semi") if line.row.strong >= SEMI_NEAR_FROM]
    found += table.near(
        f"Semi-supervised lines from the paper's {SEMI_NEAR_FROM} pixel labels on within {SEMI_NEAR_STRONG:g} points "
        "of pixel labels for all images",
        near,
        table.all_strong,
        SEMI_NEAR_STRONG,
    )
    helped = [_pair(more, alone, 0.0) for more, alone in table.helped()]
    found += _finding(table.table, "Weak images help beside the same pixel labels", helped, asked="> 0")
    return found + _best(table)


def _boxes(table: _Table, tags: _Table) -> list[Finding]:
    found = table.above(
        f"Bbox-Seg at least {SEG_ABOVE_RECT:g} points above Bbox-Rect, with boxes alone",
        table.of("weak", "bbox_seg"),
        table.of("weak", "bbox_rect"),
        SEG_ABOVE_RECT,
    )
    em_fixed = "Bbox-EM-Fixed above Bbox-Rect, with"
    found += table.above(f"{em_fixed} boxes alone", table.of("weak", "bbox_em_fixed"), table.of("weak", "bbox_rect"))
    for method, name in (("bbox_seg", "Bbox-Seg"), ("bbox_em_fixed", "Bbox-EM-Fixed")):
        claim = f"{name} above Bbox-Rect, with some pixel labels"
        found += table.above(claim, table.of("semi", method), table.of("semi", "bbox_rect"))
    found += table.above("Every semi-supervised line above every weak line", table.of("semi"), table.of("weak"))
    found += table.near(
        f"Bbox-Seg with some pixel labels within {SEG_NEAR_STRONG:g} points of pixel labels for all images",
        table.of("semi", "bbox_seg"),
        table.all_strong,
        SEG_NEAR_STRONG,
    )
    # Bbox-Rect is left out: in the paper it stays below the same pixel labels alone.
    clever = [(a, b) for a, b in table.helped() if a.row.weak_method in ("bbox_seg", "bbox_em_fixed")]
    found += _finding(
        table.table,
        "Bbox-Seg and Bbox-EM-Fixed help beside the same pixel labels",
        [_pair(more, alone, 0.0) for more, alone in clever],
        asked="> 0",
    )
    found += table.above(
        "Every line with boxes alone above every line with image-level labels alone",
        table.of("weak", annotation="box"),
        tags.of("weak", annotation="image"),
    )
    return found + _best(table)


def _two_data_sets(table: _Table) -> list[Finding]:
    pascal, pretrain, joint = (table.at(number) for number in (PASCAL_ONLY, PRETRAIN, JOINT))
    found = table.no_more(
        f"Image-level labels of all of MS-COCO add no more than {COCO_TAGS_ADD:g} point to PASCAL-only",
        table.at(COCO_TAGS),
        pascal,
        COCO_TAGS_ADD,
    )
    semi = "Cross-Joint (Semi), with 5,000 pixel labels of MS-COCO, above"
    found += table.above(f"{semi} these pixel labels alone", table.at(JOINT_SEMI), table.at(JOINT_5000))
    found += table.above(f"{semi} PASCAL-only", table.at(JOINT_SEMI), pascal)
    found += table.above(
        "Cross-Pretrain and Cross-Joint, with all pixel labels of MS-COCO, above PASCAL-only", pretrain + joint, pascal
    )
    return found + table.above("Cross-Joint above Cross-Pretrain, with all of these", joint, pretrain)


def _best(table: _Table) -> list[Finding]:
    others = [line for line in table.lines if line not in table.all_strong]
    return table.above("Pixel labels for all images above every other line", table.all_strong, others)


def write_findings(study: Study, paths: StudyPaths, config_dir: str | Path = "config") -> list[Finding]:
    """Write `tables/findings.csv`, a row a finding, and return them.

    Raises:
        WeaksegError: a run is missing.
    """
    results = StudyResults(study, reported_experiments(study, config_dir), paths, Path(config_dir))
    found = find(results, read_metrics(results))
    frame = pd.DataFrame([asdict(finding) for finding in found], columns=[field.name for field in fields(Finding)])
    with atomic_path(paths.findings) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4g")
    return found


def read_findings(paths: StudyPaths) -> list[Finding]:
    """The findings that `write_findings` wrote.

    Raises:
        WeaksegError: not written yet, or not by this version.
    """
    path, again = paths.findings, f"make it with `snakemake {paths.findings}`"
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; {again}") from None
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise WeaksegError(f"{path}: not a CSV file ({error}); delete it and {again}") from error
    if list(frame) != [field.name for field in fields(Finding)]:
        raise WeaksegError(f"{path}: not the columns of findings; delete it and {again}")
    texts = [field.name for field in fields(Finding) if field.name not in ("difference", "spread", "p", "seeds")]
    frame[texts] = frame[texts].fillna("")
    return [Finding(**row) for row in frame.to_dict("records")]


def tally(findings: Sequence[Finding]) -> str:
    """How many hold, fail and are not decided, in words."""
    counts = {name: sum(finding.verdict == name for finding in findings) for name in ("fails", "not decided")}
    held = len(findings) - sum(counts.values())
    parts = [f"{held} of {len(findings)} findings hold"]
    words = {"fails": "fails" if counts["fails"] == 1 else "fail", "not decided": "not decided"}
    parts += [f"{count} {words[name]}" for name, count in counts.items() if count]
    return ", ".join(parts)


def terminal_table(study: str, findings: Sequence[Finding]) -> str:
    """The findings as an aligned table of plain text, verdicts first; claims come last, since they are long."""
    if not findings:
        return f"study {study}: no finding of the paper compares lines that it runs"
    heads = ("verdict", "paper", "ours", "difference", "asked", "paired test (seeds)", "claim")
    cells = [
        (f.verdict if f.verdict == "holds" else f.verdict.upper(), f.paper, f.ours, f.margin, f.asked, f.test, f.claim)
        for f in findings
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [f"What the paper found, in study {study}: {tally(findings)}"]
    for table in dict.fromkeys(f.table for f in findings):
        of_table = [cell for f, cell in zip(findings, cells, strict=True) if f.table == table]
        heading = "Table " + table.removeprefix("table")
        lines += ["", heading, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *of_table))]
    note = f"Mean IOU with the CRF in percent; differences in points, ± the standard deviation over seeds. {RULE}"
    return "\n".join([*lines, "", *textwrap.wrap(note, TERMINAL_WIDTH)])
