"""Tables and figures as HTML that needs nothing from elsewhere, by the templates of `page/`."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from weakseg.report.tables import display_table

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
    muted: Sequence[bool] | None = None,
    fails: Mapping[str, str] | None = None,
    caption: str = "",
) -> Markup:
    """A frame as an HTML table that scrolls sideways where it has to; cells are printed with str(), escaped.

    Args:
        frame: one table row a row.
        text: columns set to the left; others are numbers, set to the right.
        strong: columns to stress.
        muted: a flag a row, for rows to set back.
        fails: by column the text of cells that report a failure.
        caption: a sentence above the table.
    """
    columns = [
        {"name": name, "kind": " ".join(kind for kind, names in (("text", text), ("strong", strong)) if name in names)}
        for name in map(str, frame)
    ]
    rows = []
    for number, values in enumerate(frame.itertuples(index=False)):
        cells = []
        for column, value in zip(columns, values, strict=True):
            failed = (fails or {}).get(column["name"]) == str(value)
            cells.append({"text": str(value), "kind": column["kind"] + (" fails" if failed else "")})
        rows.append({"kind": "muted" if muted is not None and muted[number] else "", "cells": cells})
    return _macro("table", columns, rows, caption)


def html_table(frame: pd.DataFrame, weak: str = "weak") -> Markup:
    """A table (as `tables.read_table` gives it); variants are set back under their line.

    `weak` is what weakly annotated images are called (`StudyResults.weak_word`).
    """
    return html_rows(
        display_table(frame, weak),
        text=("method", "FOV"),
        strong=("DCNN + CRF",),
        muted=frame["line"].duplicated().tolist(),
        caption="Mean IOU on val in percent; ± is the standard deviation over seeds, the last column a difference in "
        "points.",
    )


def html_findings(findings: pd.DataFrame) -> Markup:
    """The findings of `findings.check_findings`; those that fail are stressed."""
    return html_rows(findings, text=list(findings.columns), fails={"Holds": "no"})


def image_tag(figure: Figure, alt: str) -> Markup:
    """A figure as an <img> that holds its own SVG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _macro("picture", "svg+xml", base64.b64encode(stream.getvalue()).decode(), alt, False)


def photo_tag(figure: Figure | bytes, alt: str, *, dpi: int = 140) -> Markup:
    """A figure with photos, or its JPEG, as an <img> that holds it, at the width of the other figures."""
    if isinstance(figure, bytes):
        return _macro("picture", "jpeg", base64.b64encode(figure).decode(), alt, True)
    stream = io.BytesIO()
    options = {"quality": 88, "optimize": True}
    figure.savefig(stream, format="jpg", dpi=dpi, bbox_inches="tight", pil_kwargs=options)
    return _macro("picture", "jpeg", base64.b64encode(stream.getvalue()).decode(), alt, True)
