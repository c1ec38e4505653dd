"""Tables of a study's figures, beside the published ones where there are any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import Experiment, PaperFigure, Study, study_experiments
from weakseg.data.dataset import read_manifest
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.paths import StudyPaths
from weakseg.report.paper import published_lines
from weakseg.report.results import StudyResults, read_metrics

COLUMNS = (
    "line",
    "experiment",
    "method",
    "strong",
    "weak",
    "network",
    "fov",
    "seeds",
    "published_iou",
    "iou_crf_mean",
    "iou_crf_sd",
    "iou_dcnn_mean",
    "iou_dcnn_sd",
    "iou_crf_untuned_val_mean",
    "iou_crf_occurring_mean",
)
"""Columns of `tables/*.csv`; IOU in percent, `sd` the sample standard deviation over seeds (empty for one seed).

`published_iou` is empty where the paper has no such line, `iou_crf_occurring_mean` where a run did not note it, and
`iou_crf_untuned_val_mean` for runs of the test stage. A published line that the study does not run has no `experiment`
and no figure of ours; its `seeds`, `strong` and `weak` are 0.
"""

TEXTS = ("experiment", "network")
"""Columns that are empty texts for lines that are not run."""

MISSING = "–"
"""Printed in place of a figure that there is not."""

COUNTS_OF_OTHER_SETS = "table5"
"""The table that counts images of MS-COCO alone: all of its lines have VOC's pixel labels besides."""

NOT_RUN = "not run here"
"""Said of a published line that the study does not run."""


def build_table(results: StudyResults, table: str) -> pd.DataFrame:
    """A row an experiment of the table, variants under their line, and one for each published line that is not run.

    Counts are those really used.

    Raises:
        WeaksegError: the study runs no experiment of this table, or a run is missing.
    """
    published = published_lines(results, table)
    line_of = {row.id: line for row in results.experiments if (line := row.line_in(table))}
    chosen = [row for row in results.experiments if row.id in line_of]
    if not chosen:
        raise WeaksegError(f"study {results.study.name}: no experiment of {table}; see config/experiments.yaml")
    chosen.sort(key=lambda row: (line_of[row.id], row.variant is not None))
    originals = {line_of[row.id]: row for row in reversed(chosen)}
    metrics = read_metrics(StudyResults(results.study, chosen, results.paths, results.config_dir))
    if table == COUNTS_OF_OTHER_SETS:
        metrics = _counts_of_other_sets(metrics, chosen)
    rows = []
    for row in chosen:
        line = line_of[row.id]
        name = _name(row, table, originals[line], published.get(line))
        runs = metrics[metrics["experiment"] == row.id]
        rows.append(_run_line(results, row, runs, {"line": line, "method": name}, published.get(line)))
    rows += [_published_line(figure) for line, figure in published.items() if line not in line_of.values()]
    rows.sort(key=lambda row: row["line"])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _counts_of_other_sets(metrics: pd.DataFrame, chosen: list[Experiment]) -> pd.DataFrame:
    """The counts of images of other data sets alone, those of a run's start included.

    A run's own counts are of these already, unless it draws from the study's own data set alone.
    """
    first = metrics.groupby("experiment")[["strong", "weak"]].first()
    metrics = metrics.copy()
    for row in chosen:
        if not row.datasets:
            start = first.loc[row.init_from] if row.init_from in first.index else (0, 0)
            metrics.loc[metrics["experiment"] == row.id, ["strong", "weak"]] = tuple(start)
    return metrics


def _name(row: Experiment, table: str, original: Experiment, figure: PaperFigure | None) -> str:
    """What a table calls a run: a run of another table as it is printed here; a variant with what makes it one.

    What the column of the field of view shows anyway is not said.
    """
    if row.variant is not None and row is not original and row.fov == original.fov:
        return f"{row.title}, {row.variant}"
    return figure.method if figure is not None and table != row.table and row.variant is None else row.title


def _run_line(
    results: StudyResults, row: Experiment, runs: pd.DataFrame, place: dict[str, Any], figure: PaperFigure | None
) -> dict[str, Any]:
    """The line of an experiment; `place` holds its number and name."""
    for name in ("strong", "weak", "network"):
        if runs[name].nunique() > 1:
            values = ", ".join(str(value) for value in runs[name])
            raise WeaksegError(
                f"experiment {row.id} of study {results.study.name}: {name} differs between seeds ({values}); make "
                "the older runs again"
            )
    return {
        **place,
        "experiment": row.id,
        "strong": runs["strong"].iloc[0],
        "weak": runs["weak"].iloc[0],
        "network": runs["network"].iloc[0],
        "fov": row.fov,
        "seeds": len(runs),
        "published_iou": figure.iou if figure else float("nan"),
        "iou_crf_mean": runs["iou_crf"].mean(),
        "iou_crf_sd": runs["iou_crf"].std(),
        "iou_dcnn_mean": runs["iou_dcnn"].mean(),
        "iou_dcnn_sd": runs["iou_dcnn"].std(),
        "iou_crf_untuned_val_mean": runs["iou_crf_untuned_val"].mean(),
        # Over all seeds or not at all: it stands beside a mean over all.
        "iou_crf_occurring_mean": runs["iou_crf_occurring"].mean(skipna=False),
    }


def _published_line(figure: PaperFigure) -> dict[str, Any]:
    """A published line that is not run; what is not named is empty."""
    known = {"line": figure.line, "method": figure.method, "fov": figure.fov, "published_iou": figure.iou}
    return {**known, "experiment": "", "network": "", "strong": 0, "weak": 0, "seeds": 0}


def write_table(study: Study, paths: StudyPaths, config_dir: str | Path, table: str) -> None:
    """Write `tables/{table}.csv`."""
    results = StudyResults(study, study_experiments(study, config_dir), paths, Path(config_dir))
    frame = build_table(results, table)
    with atomic_path(paths.table(table)) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.3f")


def read_table(paths: StudyPaths, table: str) -> pd.DataFrame:
    """A table that `write_table` wrote.

    Raises:
        WeaksegError: not written yet, or with other columns.
    """
    path = paths.table(table)
    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such table; make it with `snakemake {path}`") from None
    if list(frame.columns) != list(COLUMNS):
        raise WeaksegError(f"{path}: not the columns of a table; delete it and make it again with `snakemake {path}`")
    return frame.fillna(dict.fromkeys(TEXTS, ""))


def read_tables(results: StudyResults) -> dict[str, pd.DataFrame]:
    """All tables of a study by name."""
    return {name: read_table(results.paths, name) for name in results.tables}


def table_title(table: str) -> str:
    """The heading of a table: `Table 1` of table1, `Table own` of own."""
    return f"Table {table.removeprefix('table')}" if table.removeprefix("table").isdigit() else f"Table {table}"


def table_caption(results: StudyResults, table: str) -> str:
    """On which list the figures of a table are, and what its columns hold."""
    rows = [row for row in results.experiments if row.line_in(table)]
    sentences = ["Mean IOU on val in percent; ± is the standard deviation over seeds."]
    if any(row.stage == "test" for row in rows):
        count = read_manifest(results.paths.manifest)["counts"].get("test")
        lists, size = results.study.dataset.lists, f"{count:,} images" if count else "images"
        own = f"the {size} of this study's list {lists.test} stand in for it."
        if lists.test is None:
            own = f"{size} of val, which the second stage does not train on, stand in for it."
        sentences = [
            "Mean IOU in percent; ± is the standard deviation over seeds.",
            f"The paper's figures are on the test set of VOC 2012; {own}",
        ]
    if table == COUNTS_OF_OTHER_SETS:
        names = " and ".join(results.study.other_datasets[name].name for row in rows[-1:] for name in row.datasets)
        own = results.study.dataset.name
        sentences.append(
            f"Counts are images of {names or 'other data sets'}; every line has all pixel labels of {own}."
        )
    return " ".join([*sentences, "“ours − paper” is a difference in points."])


def line_notes(results: StudyResults, table: str) -> dict[int, str]:
    """What is said of a published line where it is not run: whose it is, and its counts as they are printed."""
    weak, notes = results.weak_word(table), {}
    for line, figure in published_lines(results, table).items():
        note = f"by others{f' ({figure.by})' if figure.by else ''}" if figure.peer else NOT_RUN
        counts = [f"{name} {count}" for name, count in (("strong", figure.strong), (weak, figure.weak)) if count]
        notes[line] = "; ".join([note, *(count for count in counts if not count.endswith(" -"))])
    return notes


def display_table(frame: pd.DataFrame, weak: str = "weak", notes: Mapping[int, str] | None = None) -> pd.DataFrame:
    """The table as people read it: one decimal, spread over seeds, the difference to the paper.

    The mean over the classes that occur is shown where it differs from the mean over all, by 0.05 points in one line at
    least. Lines that are not run have dashes, and a note in a last column, which other tables have not got.

    Args:
        frame: rows as `read_table` gives them.
        weak: what weakly annotated images are called (`StudyResults.weak_word`).
        notes: what is said of a line that is not run (`line_notes`).
    """
    apart = (frame["iou_crf_occurring_mean"] - frame["iou_crf_mean"]).abs() >= 0.05
    some_not_run = (frame["seeds"] == 0).any()
    rows = []
    for row in frame.itertuples(index=False):
        shown = {
            "line": row.line,
            "method": row.method,
            "strong": f"{row.strong:,}" if row.strong else MISSING,
            weak: f"{row.weak:,}" if row.weak else MISSING,
            "FOV": MISSING if row.fov == "none" else row.fov,
            "seeds": row.seeds or MISSING,
            "paper": _figure(row.published_iou),
            "DCNN": _figure(row.iou_dcnn_mean, row.iou_dcnn_sd),
            "DCNN + CRF": _figure(row.iou_crf_mean, row.iou_crf_sd),
            "without held-out": _figure(row.iou_crf_untuned_val_mean),
        }
        if apart.any():
            shown["classes that occur"] = _figure(row.iou_crf_occurring_mean)
        difference = row.iou_crf_mean - row.published_iou
        shown["ours − paper"] = MISSING if pd.isna(difference) else f"{difference:+.1f}".replace("-", "−")
        if some_not_run:
            shown["note"] = "" if row.seeds else (notes or {}).get(row.line, NOT_RUN)
        rows.append(shown)
    return pd.DataFrame(rows)


def _figure(mean: float, spread: float = float("nan")) -> str:
    if pd.isna(mean):
        return MISSING
    return f"{mean:.1f}" if pd.isna(spread) else f"{mean:.1f} ± {spread:.1f}"


def markdown_table(frame: pd.DataFrame) -> str:
    """A display table as GitHub Markdown."""
    head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    body = ["| " + " | ".join(str(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, *body]) + "\n"
