"""The report's first page: what the study is, its table, a curve, and the way to the other pages."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import Study, study_experiments
from weakseg.files import atomic_write_text
from weakseg.paths import StudyPaths
from weakseg.report import figures
from weakseg.report.html import STYLE_SHEET, html_orders, html_table, image_tag
from weakseg.report.notes import conventions, data_counts, differences, network_text
from weakseg.report.orders import check_orders
from weakseg.report.pages import PAGES, page_of
from weakseg.report.provenance import gather_provenance
from weakseg.report.results import StudyResults
from weakseg.report.tables import read_tables


def write_index(study: Study, paths: StudyPaths, config_dir: str | Path = "config") -> None:
    """Write `report/index.html` from the tables, the runs' metrics and the pages that are there; one file, no scripts.

    Raises:
        WeaksegError: a table or a run is missing.
    """
    results = StudyResults(study, study_experiments(study, config_dir), paths, Path(config_dir))
    atomic_write_text(paths.report / "index.html", index_html(results, existing_pages(paths)))


def existing_pages(paths: StudyPaths) -> list[str]:
    """Names of the pages in the report folder: the known ones in their order, then others by name."""
    found = {path.stem for path in paths.report.glob("*.html") if path.stem != "index"}
    return [name for name in PAGES if name in found] + sorted(found - set(PAGES))


def index_html(results: StudyResults, pages: Sequence[str]) -> str:
    """The page's HTML."""
    study = results.study
    sections = [_facts(results)]
    if notes := differences(results):
        sections.append(_section("Before comparing with the paper", _list(notes), kind="notes"))
    frames = read_tables(results)
    for name in frames:
        sections.append(_table(results, frames, name))
    sections.append(_links(pages))
    sections.append(_section("How the figures are made", _list(conventions(results))))
    sections.append(_provenance(gather_provenance(results)))
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>weakseg: study {escape(study.name)}</title>
<style>
{STYLE_SHEET.read_text(encoding="utf-8")}
</style>
</head>
<body>
<main>
<header>
<p class="kicker">weakseg report</p>
<h1>Study {escape(study.name)}</h1>
<p class="lead">{escape(study.description)}</p>
</header>
{body}
</main>
</body>
</html>
"""


def _section(title: str, inner: str, *, kind: str = "") -> str:
    return f'<section class="{kind}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>'


def _list(sentences: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "\n</ul>"


def _facts(results: StudyResults) -> str:
    counts = data_counts(results)
    runs = list(results.runs())
    facts = {
        "Images": results.study.dataset.name,
        "Training": f"{counts['train_aug']:,} images, {counts['train']:,} of them in train",
        "Evaluation": f"{counts['val']:,} images in val, {counts['crf_val']:,} held out for the CRF",
        "Network": network_text(results),
        "Runs": f"{len(runs)}, of {len(results.experiments)} experiments",
    }
    items = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">\n{items}\n</dl>'


def _table(results: StudyResults, frames: Mapping[str, pd.DataFrame], name: str) -> str:
    frame = frames[name]
    parts = [html_table(frame, name)]
    orders = check_orders(results, frames, name)
    if len(orders):
        held = int((orders["Holds"] == "yes").sum())
        parts.append(f"<h3>Orders of the paper: {held} of {len(orders)} hold</h3>\n{html_orders(orders)}")
    if name == "table1":
        figures.set_style()
        drawing = figures.iou_against_strong(frame, data_counts(results)["train"])
        alt = "Mean IOU against the number of images with pixel labels, here and in the paper"
        parts.append(f"<figure>{image_tag(drawing, alt)}</figure>")
    return _section(f"Table {name.removeprefix('table')}", "\n".join(parts))


def _links(pages: Sequence[str]) -> str:
    cards = []
    for name in pages:
        page = page_of(name)
        inner = f"<strong>{escape(page.title)}</strong><span>{escape(page.sentence)}</span>"
        cards.append(f'<a class="card" href="{escape(name)}.html">{inner}</a>')
    return _section("Pages", '<nav class="cards">\n' + "\n".join(cards) + "\n</nav>")


def _provenance(facts: dict[str, Any]) -> str:
    reported = facts["reported"]
    commit = reported["commit"] or "not a checkout"
    if reported["uncommitted_changes"]:
        commit += " with uncommitted changes"
    hardware = reported["hardware"]
    memory = f", {hardware['memory_gib']:g} GiB" if hardware["memory_gib"] else ""
    devices = ", ".join(sorted({str(run["device"]) for run in facts["runs"]}))
    rows = {
        "Code": f"weakseg {reported['weakseg']}, commit {commit}",
        "Configuration": f"study {facts['study_hash'][:16]}, experiments {facts['experiments_hash'][:16]} (SHA-256)",
        "Data": f"{facts['data']['name']}, {facts['data']['source']}",
        "Training": f"{facts['train_seconds_total'] / 60:.1f} minutes for {len(facts['runs'])} runs, on {devices}",
        "Report written on": f"{hardware['cpu']}, {hardware['cores']} cores{memory}",
        "Versions": ", ".join(
            [f"Python {reported['python']}", *(f"{name} {version}" for name, version in reported["packages"].items())]
        ),
    }
    items = "\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in rows.items())
    return _section("Provenance", f'<dl class="facts small">\n{items}\n</dl>')
