"""Collecting a study's results under `results/reference`, small enough to be committed."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from weakseg.config import Study, reported_experiments
from weakseg.data.box_files import keep_counts
from weakseg.data.dataset import read_manifest
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_json, atomic_write_text
from weakseg.paths import StudyPaths
from weakseg.report import box_pages, figures
from weakseg.report.findings import read_findings
from weakseg.report.gallery import gallery_html
from weakseg.report.pages import GALLERY
from weakseg.report.pictures import draw_qualitative
from weakseg.report.provenance import write_provenance
from weakseg.report.results import (
    StudyResults,
    data_counts,
    read_confusion,
    read_grids,
    read_logs,
    read_metrics,
    read_per_class,
)
from weakseg.report.tables import display_table, line_notes, markdown_table, read_table, read_tables

LARGEST_PAGE = 1_500_000
"""Bytes that a page may have to be kept."""

SCHEMA = "yaml-language-server"
"""Stands in the line of a YAML file that names its schema."""


def collect_reference(
    study: Study, paths: StudyPaths, config_dir: str | Path = "config", out_dir: str | Path = "results/reference"
) -> None:
    """Write a finished study's CSVs, pages, figures and provenance to `{out_dir}/{study}/`.

    Files: `{table}.csv` and `{table}.md`; `findings.csv`; `metrics.csv`, `per_class.csv`, `crf_grid.csv` and
    `training.csv` over all runs (`training.csv` as means over blocks of iterations); the winners of the CRF's searches
    (`crf.csv`) and the confusion matrices (`confusion.csv`); with boxes `bbox_seg_grid.csv`, `label_quality.csv` and
    `boxes.json`, which counts them; `manifest.json` without the names of images; `config/`, the study and the sheets;
    `report/*.html`; `figures/*`; `provenance.json`. Files of these names are replaced, others left alone.
    `redraw.redraw_report` draws the pages anew from them.

    Raises:
        WeaksegError: a run, a table or the report is missing, or a page is too large to keep.
    """
    results = StudyResults(study, reported_experiments(study, config_dir), paths, Path(config_dir))
    target = Path(out_dir) / study.name
    pages = _pages(results)
    # Read before anything is written: an unfinished study leaves the reference as it was.
    frames = {
        "metrics": read_metrics(results),
        "per_class": read_per_class(results),
        "crf_grid": read_grids(results),
        "training": _rounded(read_logs(results, points=60)),
    }
    tables = read_tables(results)
    frames |= tables | {"findings": pd.DataFrame(read_findings(paths))}
    frames |= {"crf": _read_winners(results), "confusion": _read_confusions(results)}
    kept = {"manifest": _kept_manifest(results)}
    if _has_boxes(results):
        frames |= {"bbox_seg_grid": box_pages.read_grid(results), "label_quality": box_pages.read_quality(results)}
        kept["boxes"] = keep_counts(paths.boxes)
    drawn = _draw_figures(results)
    for name, frame in tables.items():
        shown = display_table(frame, results.weak_word(name), line_notes(results, name))
        atomic_write_text(target / f"{name}.md", markdown_table(shown))
    for name, frame in frames.items():
        with atomic_path(target / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False)
    for name, values in kept.items():
        atomic_write_json(target / f"{name}.json", values)
    _keep_configuration(results, target / "config")
    for name, content in drawn.items():
        with atomic_path(target / "figures" / name) as temporary:
            temporary.write_bytes(content)
    write_provenance(results, target / "provenance.json")
    for name, text in pages.items():
        atomic_write_text(target / "report" / name, text)


def _has_boxes(results: StudyResults) -> bool:
    return any(row.label_maps for row in results.experiments)


def _pages(results: StudyResults) -> dict[str, str]:
    """The report's pages by file name, all of them small enough; a gallery that is not is drawn smaller."""
    paths = results.paths
    files = sorted(paths.report.glob("*.html"))
    index = paths.report / "index.html"
    if index not in files:
        raise WeaksegError(f"{index}: no such page; make it with `snakemake --config study={paths.study}`")
    pages = {}
    for page in files:
        size = page.stat().st_size
        if size > LARGEST_PAGE and page.stem == GALLERY:
            pages[page.name] = gallery_html(results, largest=LARGEST_PAGE)
        elif size > LARGEST_PAGE:
            raise WeaksegError(
                f"{page}: {size:,} bytes, and a page that is kept may have {LARGEST_PAGE:,}; show fewer images "
                "(report.qualitative_images)"
            )
        else:
            pages[page.name] = page.read_text(encoding="utf-8")
    return pages


def _read_winners(results: StudyResults) -> pd.DataFrame:
    """The winner of each run's search for the CRF's parameters, as `crf.json` has it; runs of stage `test` had none."""
    rows = []
    for row, seed, run in results.of_val.runs():
        rows.append({"experiment": row.id, "seed": seed, **json.loads(run.crf.read_text(encoding="utf-8"))})
    return pd.DataFrame(rows)


def _read_confusions(results: StudyResults) -> pd.DataFrame:
    """The confusion matrices of val of all runs below each other, with and without the CRF."""
    frames = []
    for row, seed, _ in results.of_val.runs():
        for crf in (True, False):
            frame = read_confusion(results, row.id, seed, crf=crf).reset_index(names="truth")
            frames.append(frame.assign(experiment=row.id, seed=seed, crf=crf))
    return pd.concat(frames, ignore_index=True)


def _kept_manifest(results: StudyResults) -> dict[str, Any]:
    """The manifest without the folder and the names of the images."""
    manifest = read_manifest(results.paths.manifest)
    return {**manifest, "root": "", "lists": {role: [] for role in manifest["lists"]}}


def _keep_configuration(results: StudyResults, target: Path) -> None:
    """Write the study with all its values, and the sheets: configuration may change after the runs."""
    values = yaml.safe_dump(results.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    atomic_write_text(target / "studies" / f"{results.study.name}.yaml", values)
    for name in ("experiments.yaml", "paper.yaml"):
        # The line for editors names a schema by its place beside the original.
        lines = (results.config_dir / name).read_text(encoding="utf-8").splitlines(keepends=True)
        atomic_write_text(target / name, "".join(line for line in lines if SCHEMA not in line))


def _rounded(logs: pd.DataFrame) -> pd.DataFrame:
    """Four significant digits are more than a curve shows."""
    numbers = logs.select_dtypes("floating").columns
    return logs.assign(**{name: logs[name].map(lambda value: float(f"{value:.4g}")) for name in numbers})


def _draw_figures(results: StudyResults) -> dict[str, bytes]:
    """The figures that a README shows, by file name."""
    figures.set_style()
    drawn: dict[str, bytes] = {}
    if _has_boxes(results):
        drawn["alpha.png"] = _image(box_pages.draw_alpha(results), "png", dpi=130)
    if results.estep_run is not None:
        drawn["figure4.jpg"] = _image(box_pages.draw_figure4(results), "jpg", dpi=110)
    if "table1" in results.tables:
        curve = figures.iou_against_strong(read_table(results.paths, "table1"), data_counts(results)["pixel_labelled"])
        drawn["iou_vs_strong.png"] = _image(curve, "png", dpi=130)
    typical, failures = draw_qualitative(results, results.tables[0])
    drawn["qualitative.jpg"] = _image(typical, "jpg", dpi=110)
    if failures is not None:
        drawn["failures.jpg"] = _image(failures, "jpg", dpi=110)
    return drawn


def _image(figure: Figure | bytes, kind: str, *, dpi: int) -> bytes:
    if isinstance(figure, bytes):
        return figure
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=dpi, bbox_inches="tight")
    return stream.getvalue()
