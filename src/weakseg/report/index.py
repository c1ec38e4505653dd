"""The report's first page: what was asked, what was found, and the way to everything else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from weakseg.config import Study, reported_experiments
from weakseg.files import atomic_write_text
from weakseg.paths import StudyPaths
from weakseg.report import figures
from weakseg.report.findings import RULE, Finding, read_findings, tally
from weakseg.report.html import csv_link, html_findings, html_table, image_tag, made_of, render
from weakseg.report.notes import conventions, differences, differences_of_runs, network_text, question
from weakseg.report.pages import Page, existing_pages
from weakseg.report.provenance import gather_provenance, source_facts
from weakseg.report.results import StudyResults, data_counts, read_metrics, read_per_class
from weakseg.report.run_page import runs_html
from weakseg.report.tables import read_tables, table_title


def write_index(study: Study, paths: StudyPaths, config_dir: str | Path = "config") -> None:
    """Write `report/index.html` from the tables, findings, runs and pages that are there, and `report/runs.html`.

    Each is one file that needs nothing from elsewhere; the numbers of the first lead to anchors of the second.

    Raises:
        WeaksegError: a table, the findings or a run is missing.
    """
    results = StudyResults(study, reported_experiments(study, config_dir), paths, Path(config_dir))
    atomic_write_text(paths.report / "runs.html", runs_html(results))
    atomic_write_text(paths.report / "index.html", index_html(results, existing_pages(paths)))


def index_html(results: StudyResults, pages: Mapping[str, Page]) -> str:
    """The page's HTML, with a link to each of `pages` (by name, in this order)."""
    tables, found = read_tables(results), read_findings(results.paths)
    return render(
        "study.html.j2",
        title=f"study {results.study.name}",
        study=results.study,
        question=question(results),
        found=html_findings(found) if found else "",
        tally=tally(found),
        rule=RULE,
        pages=pages,
        downloads=_downloads(results, tables, found),
        study_facts=_facts(results),
        differences=differences(results) + differences_of_runs(results),
        tables=[_table(results, frame, name) for name, frame in tables.items()],
        conventions=conventions(results),
        provenance=_provenance(gather_provenance(results)),
    )


def _downloads(results: StudyResults, tables: Mapping[str, pd.DataFrame], found: list[Finding]) -> list[Markup]:
    frames = {"findings": pd.DataFrame(found), **tables, "metrics": read_metrics(results)}
    frames["per_class"] = read_per_class(results)
    return [csv_link(f"{results.study.name}_{name}.csv", frame) for name, frame in frames.items()]


def _facts(results: StudyResults) -> dict[str, str]:
    counts, lists = data_counts(results), results.study.dataset.lists
    return {
        "Images": results.study.dataset.name,
        "Training": f"{counts['training']:,} images, {counts['pixel_labelled']:,} of them in {lists.pixel_labelled}",
        "Evaluation": f"{counts['evaluation']:,} images in {lists.evaluation}; CRF tuned on {counts['held_out']:,}",
        "Network": network_text(results),
        "Runs": f"{len(results.runs())}, of {len(results.experiments)} experiments",
    }


def _table(results: StudyResults, frame: pd.DataFrame, name: str) -> dict[str, Any]:
    section = {"title": table_title(name), "lines": html_table(results, name, frame), "curve": ""}
    if name == "table1":
        figures.set_style()
        drawing = figures.iou_against_strong(frame, data_counts(results)["pixel_labelled"])
        section["curve"] = image_tag(
            drawing,
            "Mean IOU against the number of images with pixel labels, here and in the paper",
            made_of(results, "iou_vs_strong", results.runs_in(name)),
        )
    return section


def _provenance(facts: dict[str, Any]) -> dict[str, str]:
    reported = facts["reported"]
    hardware = reported["hardware"]
    memory = f", {hardware['memory_gib']:g} GiB" if hardware["memory_gib"] else ""
    devices = ", ".join(sorted({str(run["device"]) for run in facts["runs"]}))
    return {
        **source_facts(facts),
        "Training": f"{facts['train_seconds_total'] / 60:.1f} minutes for {len(facts['runs'])} runs, on {devices}",
        "Report written on": f"{hardware['cpu']}, {hardware['cores']} cores{memory}",
        "Versions": ", ".join(
            [f"Python {reported['python']}", *(f"{name} {version}" for name, version in reported["packages"].items())]
        ),
    }
