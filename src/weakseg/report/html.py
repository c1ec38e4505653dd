"""Tables and figures as HTML that needs nothing from elsewhere, by the templates of `page/`."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from weakseg.report.findings import Finding
from weakseg.report.provenance import figure_facts
from weakseg.report.results import StudyResults
from weakseg.report.tables import MISSING, display_table, line_notes, table_caption
from weakseg.report.thumbnails import base64_text

# nbconvert has an environment of its own for notebook.html.j2, which escapes nothing; head.html.j2 serves both.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A template of `page/` with these values, which are escaped unless they are HTML of this module."""
    return _TEMPLATES.get_template(template).render(**values)


def _macro(name: str, *values: Any) -> Markup:
    return getattr(_TEMPLATES.get_template("macros.html.j2").module, name)(*values)


def html_rows(
    frame: pd.DataFrame,
    *,
    text: Sequence[str] = (),
    strong: Sequence[str] = (),
    wrapped: Sequence[str] = (),
    muted: Sequence[bool] | None = None,
    links: Sequence[str] | None = None,
    unlinked: Sequence[str] = (),
    caption: str = "",
) -> Markup:
    """A frame as an HTML table that scrolls sideways where it has to; cells are printed with str(), escaped.

    Args:
        frame: one table row a row.
        text: columns set to the left; others are numbers, set to the right.
        strong: columns to stress.
        wrapped: columns whose cells may have several lines.
        muted: a flag a row, for rows to set back.
        links: an address a row, to which its numbers lead.
        unlinked: columns of numbers that lead nowhere.
        caption: a sentence above the table.
    """
    kinds = (("text", text), ("strong", strong), ("wrapped", wrapped))
    columns = [
        {"name": name, "kind": " ".join(kind for kind, names in kinds if name in names)} for name in map(str, frame)
    ]
    rows = []
    for number, values in enumerate(frame.itertuples(index=False)):
        cells = []
        for column, value in zip(columns, values, strict=True):
            link = links[number] if links is not None and column["name"] not in (*text, *unlinked) else ""
            cells.append({"text": str(value), "kind": column["kind"], "link": "" if value == MISSING else link})
        rows.append({"kind": "muted" if muted is not None and muted[number] else "", "cells": cells})
    return _macro("table", columns, rows, caption)


def html_table(results: StudyResults, table: str, frame: pd.DataFrame) -> Markup:
    """A table (as `tables.read_table` gives it); variants, and lines that are not run, are set back."""
    return html_rows(
        display_table(frame, results.weak_word(table), line_notes(results, table)),
        text=("method", "FOV", "note"),
        strong=("DCNN + CRF",),
        wrapped=("note",),
        muted=(frame["line"].duplicated() | (frame["seeds"] == 0)).tolist(),
        links=[f"runs.html#{experiment}" if experiment else "" for experiment in frame["experiment"]],
        unlinked=("line", "paper"),
        caption=table_caption(results, table),
    )


def html_findings(found: Sequence[Finding]) -> Markup:
    """Findings as a table, a row a claim, each figure with a link to its runs; `findings.RULE` explains verdicts."""
    return _macro("findings", [{"finding": finding, "ours": _linked(finding)} for finding in found])


def _linked(finding: Finding) -> list[tuple[str, str]]:
    """The parts of a finding's own figures, each with the experiment that it belongs to (empty for none)."""
    ids, parts = finding.lines.split(), finding.ours.split(" vs ")
    if len(parts) != len(ids):
        return [(finding.ours, ids[0])]
    return list(zip(parts, ids, strict=True))


def made_of(results: StudyResults, page: str, runs: Iterable[tuple[str, int]] | None = None) -> Markup:
    """What stands under a figure: the runs behind it (all by default), the code, and the command that makes it again.

    Args:
        results: the study.
        page: the page's name, as snakemake knows it.
        runs: experiments with their seeds.

    Raises:
        WeaksegError: a run is not trained.
    """
    return _macro("made", figure_facts(results, page, runs))


def image_tag(figure: Figure, alt: str, made: Markup | str = "") -> Markup:
    """A figure as an <img> that holds its own SVG, and under it what made it (`made_of`)."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _macro("picture", "svg+xml", base64_text(stream.getvalue()), alt, False) + made


def photo_tag(figure: Figure | bytes, alt: str, made: Markup | str = "", *, dpi: int = 140) -> Markup:
    """A figure with photos, or its JPEG, as an <img> that holds it, at the width of the other figures."""
    if isinstance(figure, bytes):
        return _macro("picture", "jpeg", base64_text(figure), alt, True) + made
    stream = io.BytesIO()
    options = {"quality": 88, "optimize": True}
    figure.savefig(stream, format="jpg", dpi=dpi, bbox_inches="tight", pil_kwargs=options)
    return _macro("picture", "jpeg", base64_text(stream.getvalue()), alt, True) + made


def csv_link(name: str, frame: pd.DataFrame) -> Markup:
    """A link that saves a frame as a CSV file, which the page itself holds."""
    text = frame.to_csv(index=False, float_format="%.6g")
    return _macro("download", name, base64_text(text.encode()), len(frame))


def cost_chart(**values: Any) -> Markup:
    """The plot of IOU against annotation cost with its sliders and table; for the values see `annotation_cost`."""
    return _macro("cost", values)
