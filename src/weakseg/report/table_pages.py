"""Parts of the pages that show a table, each as HTML for a cell of its notebook."""

import pandas as pd
from markupsafe import Markup

from weakseg.report import figures
from weakseg.report.findings import read_findings
from weakseg.report.html import html_findings, html_rows, html_table, image_tag, made_of
from weakseg.report.paper import PaperSetting, published_ious
from weakseg.report.results import StudyResults
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
    """The differences between lines of the table that the paper's text states, beside those here; empty without any."""
    published, frame = published_ious(results), read_table(results.paths, table)
    # The first of a line is the line itself; variants come after it.
    ours = frame.drop_duplicates("line").set_index("line")["iou_crf_mean"]
    rows = []
    for one in PaperSetting.read(results.config_dir).differences:
        if one.higher.table == one.lower.table == table:
            here = ours.get(one.higher.line, float("nan")) - ours.get(one.lower.line, float("nan"))
            rows.append(
                {
                    "in the text": one.claim,
                    "points": f"{one.points:.1f}",
                    "lines": f"{one.higher.line} and {one.lower.line}",
                    "printed": f"{published[one.higher.place]:.1f} and {published[one.lower.place]:.1f}",
                    "here": MISSING if pd.isna(here) else f"{here:+.1f}".replace("-", "−"),
                }
            )
    if not rows:
        return Markup("")
    return html_rows(
        pd.DataFrame(rows),
        text=("in the text",),
        strong=("here",),
        caption="Differences that the paper's text states, in points, with the lines that they compare.",
    )
