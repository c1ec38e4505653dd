"""Tables of a study's figures, beside the published ones where there are any."""

from pathlib import Path

import pandas as pd

from weakseg.config import Study, study_experiments
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.paths import StudyPaths
from weakseg.report.paper import published_ious
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

`published_iou` is empty where the paper has no such line, `iou_crf_occurring_mean` where a run did not note it.
"""

MISSING = "–"
"""Printed in place of a figure that there is not."""


def build_table(results: StudyResults, table: str) -> pd.DataFrame:
    """A row an experiment of the table, variants under their line; counts are those really used.

    Raises:
        WeaksegError: the study runs no experiment of this table, or a run is missing.
    """
    published = published_ious(results)
    line_of = {row.id: line for row in results.experiments if (line := row.line_in(table))}
    chosen = sorted((row for row in results.experiments if row.id in line_of), key=lambda row: line_of[row.id])
    if not chosen:
        raise WeaksegError(f"study {results.study.name}: no experiment of {table}; see config/experiments.yaml")
    only = StudyResults(results.study, chosen, results.paths, results.config_dir)
    metrics = read_metrics(only)
    rows = []
    for row in chosen:
        runs = metrics[metrics["experiment"] == row.id]
        line = line_of[row.id]
        for name in ("strong", "weak", "network"):
            if runs[name].nunique() > 1:
                values = ", ".join(str(value) for value in runs[name])
                raise WeaksegError(
                    f"experiment {row.id} of study {results.study.name}: {name} differs between seeds ({values}); make "
                    "the older runs again"
                )
        rows.append(
            {
                "line": line,
                "experiment": row.id,
                "method": row.title,
                "strong": runs["strong"].iloc[0],
                "weak": runs["weak"].iloc[0],
                "network": runs["network"].iloc[0],
                "fov": row.fov,
                "seeds": len(runs),
                "published_iou": published.get((table, line), float("nan")),
                "iou_crf_mean": runs["iou_crf"].mean(),
                "iou_crf_sd": runs["iou_crf"].std(),
                "iou_dcnn_mean": runs["iou_dcnn"].mean(),
                "iou_dcnn_sd": runs["iou_dcnn"].std(),
                "iou_crf_untuned_val_mean": runs["iou_crf_untuned_val"].mean(),
                # Over all seeds or not at all: it stands beside a mean over all.
                "iou_crf_occurring_mean": runs["iou_crf_occurring"].mean(skipna=False),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


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
    return frame


def read_tables(results: StudyResults) -> dict[str, pd.DataFrame]:
    """All tables of a study by name."""
    return {name: read_table(results.paths, name) for name in results.tables}


def table_title(table: str) -> str:
    """The heading of a table: `Table 1` of table1, `Table own` of own."""
    return f"Table {table.removeprefix('table')}" if table.removeprefix("table").isdigit() else f"Table {table}"


def display_table(frame: pd.DataFrame, weak: str = "weak") -> pd.DataFrame:
    """The table as people read it: one decimal, spread over seeds, the difference to the paper.

    The mean over the classes that occur is shown where it differs from the mean over all, by 0.05 points in one line at
    least.

    Args:
        frame: rows as `read_table` gives them.
        weak: what weakly annotated images are called (`StudyResults.weak_word`).
    """
    apart = (frame["iou_crf_occurring_mean"] - frame["iou_crf_mean"]).abs() >= 0.05
    rows = []
    for row in frame.itertuples(index=False):
        shown = {
            "line": row.line,
            "method": row.method,
            "strong": f"{row.strong:,}" if row.strong else MISSING,
            weak: f"{row.weak:,}" if row.weak else MISSING,
            "FOV": row.fov,
            "seeds": row.seeds,
            "paper": _figure(row.published_iou),
            "DCNN": _figure(row.iou_dcnn_mean, row.iou_dcnn_sd),
            "DCNN + CRF": _figure(row.iou_crf_mean, row.iou_crf_sd),
            "without held-out": _figure(row.iou_crf_untuned_val_mean),
        }
        if apart.any():
            shown["classes that occur"] = _figure(row.iou_crf_occurring_mean)
        difference = row.iou_crf_mean - row.published_iou
        shown["ours − paper"] = MISSING if pd.isna(difference) else f"{difference:+.1f}".replace("-", "−")
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
