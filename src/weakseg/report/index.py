"""The report's first page: what the study is, its tables, a curve, and the way to the other pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import Study, study_experiments
from weakseg.files import atomic_write_text
from weakseg.paths import StudyPaths
from weakseg.report import figures
from weakseg.report.findings import check_findings
from weakseg.report.html import html_findings, html_table, image_tag, render
from weakseg.report.notes import conventions, differences, differences_of_runs, network_text
from weakseg.report.pages import Page, existing_pages
from weakseg.report.provenance import gather_provenance
from weakseg.report.results import StudyResults, data_counts
from weakseg.report.tables import read_tables, table_title


def write_index(study: Study, paths: StudyPaths, config_dir: str | Path = "config") -> None:
    """Write `report/index.html` from the tables, the runs' metrics and the pages that are there; one file, no scripts.

    Raises:
        WeaksegError: a table or a run is missing.
    """
    results = StudyResults(study, study_experiments(study, config_dir), paths, Path(config_dir))
    atomic_write_text(paths.report / "index.html", index_html(results, existing_pages(paths)))


def index_html(results: StudyResults, pages: Mapping[str, Page]) -> str:
    """The page's HTML, with a link to each of `pages` (by name, in this order)."""
    frames = read_tables(results)
    return render(
        "study.html.j2",
        title=f"study {results.study.name}",
        study=results.study,
        study_facts=_facts(results),
        differences=differences(results) + differences_of_runs(results),
        tables=[_table(results, frames, name) for name in frames],
        pages=pages,
        conventions=conventions(results),
        provenance=_provenance(gather_provenance(results)),
    )


def _facts(results: StudyResults) -> dict[str, str]:
    counts, lists = data_counts(results), results.study.dataset.lists
    return {
        "Images": results.study.dataset.name,
        "Training": f"{counts['training']:,} images, {counts['pixel_labelled']:,} of them in {lists.pixel_labelled}",
        "Evaluation": f"{counts['evaluation']:,} images in {lists.evaluation}; CRF tuned on {counts['held_out']:,}",
        "Network": network_text(results),
        "Runs": f"{len(results.runs())}, of {len(results.experiments)} experiments",
    }


def _table(results: StudyResults, frames: Mapping[str, pd.DataFrame], name: str) -> dict[str, Any]:
    frame = frames[name]
    found = check_findings(results, frames, name)
    section: dict[str, Any] = {
        "title": table_title(name),
        "lines": html_table(frame, results.weak_word(name)),
        "findings": html_findings(found) if len(found) else "",
        "held": int((found["Holds"] == "yes").sum()),
        "count": len(found),
        "curve": "",
    }
    if name == "table1":
        figures.set_style()
        drawing = figures.iou_against_strong(frame, data_counts(results)["pixel_labelled"])
        section["curve"] = image_tag(
            drawing, "Mean IOU against the number of images with pixel labels, here and in the paper"
        )
    return section


def _provenance(facts: dict[str, Any]) -> dict[str, str]:
    reported = facts["reported"]
    commit = reported["commit"] or "not a checkout"
    if reported["uncommitted_changes"]:
        commit += " with uncommitted changes"
    hardware = reported["hardware"]
    memory = f", {hardware['memory_gib']:g} GiB" if hardware["memory_gib"] else ""
    devices = ", ".join(sorted({str(run["device"]) for run in facts["runs"]}))
    return {
        "Code": f"weakseg {reported['weakseg']}, commit {commit}",
        "Configuration": f"study {facts['study_hash'][:16]}, experiments {facts['experiments_hash'][:16]} (SHA-256)",
        "Data": f"{facts['data']['name']}, {facts['data']['source']}",
        "Training": f"{facts['train_seconds_total'] / 60:.1f} minutes for {len(facts['runs'])} runs, on {devices}",
        "Report written on": f"{hardware['cpu']}, {hardware['cores']} cores{memory}",
        "Versions": ", ".join(
            [f"Python {reported['python']}", *(f"{name} {version}" for name, version in reported["packages"].items())]
        ),
    }
