"""Tables and figures as HTML that needs nothing from elsewhere."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from weakseg.report.tables import display_table

STYLE_SHEET = Path(__file__).parent / "page" / "report.css"
"""The one style sheet of all pages, written into each so that a page is a single file."""


def html_rows(
    frame: pd.DataFrame,
    *,
    text: Sequence[str] = (),
    strong: Sequence[str] = (),
    muted: Sequence[bool] | None = None,
    caption: str = "",
) -> str:
    """A frame as an HTML table that scrolls sideways where it has to; cells are printed with str(), escaped.

    Args:
        frame: one table row a row.
        text: columns set to the left; others are numbers, set to the right.
        strong: columns to stress.
        muted: a flag a row, for rows to set back.
        caption: a sentence above the table.
    """
    kinds = {
        name: " ".join(kind for kind, names in (("text", text), ("strong", strong)) if name in names) for name in frame
    }
    head = "".join(f'<th scope="col" class="{kinds[name]}">{escape(str(name))}</th>' for name in frame)
    rows = []
    for number, values in enumerate(frame.itertuples(index=False)):
        cells = "".join(
            f'<td class="{kinds[name]}">{escape(str(value))}</td>' for name, value in zip(frame, values, strict=True)
        )
        rows.append(f'<tr class="{"muted" if muted is not None and muted[number] else ""}">{cells}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(rows)
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def html_table(frame: pd.DataFrame, table: str = "table1") -> str:
    """A table of the paper (as `tables.read_table` gives it); variants are set back under their line."""
    return html_rows(
        display_table(frame, table),
        text=("method", "FOV"),
        strong=("DCNN + CRF",),
        muted=frame["line"].duplicated().tolist(),
        caption="Mean IOU on val in percent; ± is the standard deviation over seeds, the last column a difference in "
        "points.",
    )


def html_orders(orders: pd.DataFrame) -> str:
    """The orders of `orders.check_orders`; those that fail are stressed."""
    table = html_rows(orders, text=list(orders.columns))
    return table.replace('<td class="text">no</td>', '<td class="text fails">no</td>')


def image_tag(figure: Figure, alt: str) -> str:
    """A figure as an <img> that holds its own SVG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}">'


def photo_tag(figure: Figure, alt: str, *, dpi: int = 140) -> str:
    """A figure with photos as an <img> that holds its own JPEG, at the width of the other figures."""
    stream = io.BytesIO()
    options = {"quality": 88, "optimize": True}
    figure.savefig(stream, format="jpg", dpi=dpi, bbox_inches="tight", pil_kwargs=options)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" style="width: 100%">'
