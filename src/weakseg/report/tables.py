"""Tables of the paper with a study's figures beside the published ones."""

from pathlib import Path

import pandas as pd

from weakseg.config import Study, load_paper, study_experiments
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.paths import StudyPaths
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
)
"""Columns of `tables/*.csv`; IOU in percent, `sd` the sample standard deviation over seeds (empty for one seed)."""


def build_table(results: StudyResults, table: str) -> pd.DataFrame:
    """A row an experiment of the table, variants under their line; counts are those really used.

    Raises:
        WeaksegError: the study runs no experiment of this table, or a run is missing.
    """
    published = {(f.table, f.line): f.iou for f in load_paper(results.config_dir)}
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
        if (table, line) not in published:
            raise WeaksegError(
                f"{results.config_dir}/paper.yaml: {table} has no line {line}, which experiment {row.id} "
                "names; mend the line in experiments.yaml or add the published figure"
            )
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
                "method": row.method,
                "strong": runs["strong"].iloc[0],
                "weak": runs["weak"].iloc[0],
                "network": runs["network"].iloc[0],
                "fov": row.fov,
                "seeds": len(runs),
                "published_iou": published[table, line],
                "iou_crf_mean": runs["iou_crf"].mean(),
                "iou_crf_sd": runs["iou_crf"].std(),
                "iou_dcnn_mean": runs["iou_dcnn"].mean(),
                "iou_dcnn_sd": runs["iou_dcnn"].std(),
                "iou_crf_untuned_val_mean": runs["iou_crf_untuned_val"].mean(),
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


WEAK_COLUMN = {"table3": "boxes"}
"""What the paper's tables call weakly annotated images; `weak` where nothing is said."""


def display_table(frame: pd.DataFrame, table: str = "table1") -> pd.DataFrame:
    """The table as people read it: one decimal, spread over seeds, the difference to the paper."""

    def spread(mean: float, sd: float) -> str:
        return f"{mean:.1f}" if pd.isna(sd) else f"{mean:.1f} ± {sd:.1f}"

    rows = []
    for row in frame.itertuples(index=False):
        rows.append(
            {
                "line": row.line,
                "method": row.method,
                "strong": f"{row.strong:,}" if row.strong else "–",
                WEAK_COLUMN.get(table, "weak"): f"{row.weak:,}" if row.weak else "–",
                "FOV": row.fov,
                "seeds": row.seeds,
                "paper": f"{row.published_iou:.1f}",
                "DCNN": spread(row.iou_dcnn_mean, row.iou_dcnn_sd),
                "DCNN + CRF": spread(row.iou_crf_mean, row.iou_crf_sd),
                "without held-out": f"{row.iou_crf_untuned_val_mean:.1f}",
                "ours − paper": f"{row.iou_crf_mean - row.published_iou:+.1f}".replace("-", "−"),
            }
        )
    return pd.DataFrame(rows)


def markdown_table(frame: pd.DataFrame) -> str:
    """A display table as GitHub Markdown."""
    head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    body = ["| " + " | ".join(str(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, *body]) + "\n"
