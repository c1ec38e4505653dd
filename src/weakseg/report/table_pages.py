"""Parts of the pages that show a table, each as HTML for a cell of its notebook."""

import pandas as pd
from markupsafe import Markup

from weakseg.report import figures
from weakseg.report.findings import judge, read_findings
from weakseg.report.html import html_findings, html_rows, html_table, image_tag, made_of
from weakseg.report.paper import PaperSetting, published_ious
from weakseg.report.results import StudyResults, read_metrics
from weakseg.report.tables import MISSING, read_table, table_title


def lines(results: StudyResults, table: str) -> Markup:
    """Every published line with this study's figures, where it runs the line."""
    return html_table(results, table, read_table(results.paths, table))


def bars(results: StudyResults, table: str) -> Markup:
    """The same as bars, and what made them."""
    figure = figures.table_bars(read_table(results.paths, table), results.weak_word(table))
    about = f"Each line of {table_title(table)} with and without the CRF, beside the paper"
    return image_tag(figure, about, made_of(results, table, results.runs_in(table)))


def verdicts(results: StudyResults, table: str) -> Markup:
    """The findings that compare lines of the table; a sentence where there are none."""
    found = [finding for finding in read_findings(results.paths) if finding.table == table]
    return html_findings(found) if found else Markup("<p>No finding of the paper compares lines that are run here.</p>")


def stated(results: StudyResults, table: str) -> Markup:
    """The differences between lines of the table that the paper's text states, beside those here; empty without any.

    Those here are means over common seeds with their standard deviation, and p of the paired t-test against 0.
    """
    published = published_ious(results)
    lines = {row.line_in(table): row for row in results.experiments if row.line_in(table) and row.variant is None}
    chosen = StudyResults(results.study, list(lines.values()), results.paths, results.config_dir)
    metrics = read_metrics(chosen).set_index(["experiment", "seed"])["iou_crf"]
    rows = []
    for one in PaperSetting.read(results.config_dir).differences:
        if one.higher.table == one.lower.table == table:
            runs = [metrics[lines[end.line].id] for end in (one.higher, one.lower) if end.line in lines]
            here, p = _difference(*runs) if len(runs) == 2 else (MISSING, MISSING)
            rows.append(
                {
                    "in the text": one.claim,
                    "points": f"{one.points:.1f}",
                    "lines": f"{one.higher.line} and {one.lower.line}",
                    "printed": f"{published[one.higher.place]:.1f} and {published[one.lower.place]:.1f}",
                    "here": here,
                    "paired test (seeds)": p,
                }
            )
    if not rows:
        return Markup("")
    return html_rows(
        pd.DataFrame(rows),
        text=("in the text",),
        strong=("here",),
        caption="Differences that the paper's text states, in points, with the lines that they compare; here with the "
        "standard deviation over seeds.",
    )


def _difference(higher: pd.Series, lower: pd.Series) -> tuple[str, str]:
    """The mean difference of two lines' figures by seed, with its spread, and p; of one common seed the difference."""
    seeds = sorted(set(higher.index) & set(lower.index))
    if len(seeds) < 2:
        return f"{higher.mean() - lower.mean():+.1f}".replace("-", "−"), "one seed"
    differences = higher[seeds] - lower[seeds]
    p = judge(differences.tolist(), strict=True)[1]
    text = f"{differences.mean():+.1f} ± {differences.std():.1f}".replace("-", "−")
    return text, f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} ({len(seeds)})"
