"""Readers of a study's result files, as tidy data frames."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import (
    EVERY,
    Experiment,
    Study,
    estep_runs,
    load_study,
    reported_experiments,
    shown_run,
    study_tables,
)
from weakseg.data.dataset import ROLES, read_manifest
from weakseg.errors import WeaksegError
from weakseg.labels import LabelSet
from weakseg.paths import RunPaths, StudyPaths


@dataclass(frozen=True)
class StudyResults:
    """A study with the files it wrote.

    Attributes:
        study: its configuration.
        experiments: what it runs, in the order of the sheet.
        paths: its files.
        config_dir: the folder of sheets.
    """

    study: Study
    experiments: list[Experiment]
    paths: StudyPaths
    config_dir: Path

    @property
    def tables(self) -> list[str]:
        """The tables that it fills."""
        return study_tables(self.experiments)

    @cached_property
    def labels(self) -> LabelSet:
        """The label set of its images, as its manifest says."""
        return LabelSet.from_json(read_manifest(self.paths.manifest)["labels"])

    @property
    def estep_run(self) -> tuple[str, int] | None:
        """Experiment and seed of the run whose E-step is shown; None where there is none."""
        return shown_run(self.study, self.experiments)

    @property
    def estep_runs(self) -> list[tuple[str, int]]:
        """Experiment and seed of the runs of which there are E-step maps, one a method with an E-step."""
        return estep_runs(self.study, self.experiments)

    def weak_word(self, table: str) -> str:
        """What a table calls its weakly annotated images: `boxes` where all of them have boxes, else `weak`."""
        kinds = {row.weak_annotation for row in self.experiments if row.weak and row.line_in(table)}
        return "boxes" if kinds == {"box"} else "weak"

    @property
    def of_val(self) -> "StudyResults":
        """The same without the runs of stage `test`, whose label maps and scores are of other images than val's."""
        rows = [row for row in self.experiments if row.stage == "val"]
        return StudyResults(self.study, rows, self.paths, self.config_dir)

    def runs_in(self, table: str) -> list[tuple[str, int]]:
        """Experiment and seed of every run that a table prints."""
        return [(row.id, seed) for row, seed, _ in self.runs() if row.line_in(table)]

    def runs(self) -> list[tuple[Experiment, int, RunPaths]]:
        """Every run: experiment, seed, files."""
        return [
            (row, seed, self.paths.run(row.id, seed))
            for row in self.experiments
            for seed in self.study.seeds_of(row.id)
        ]


def open_results(
    study: str, results: str | Path = "results", config_dir: str | Path = "config", files: Sequence[str] | None = None
) -> StudyResults:
    """The results of a study by name or YAML file.

    Args:
        study: its name or YAML file.
        results: the folder of all results.
        config_dir: the folder of the sheets.
        files: files and folders that a page will read, so that all that lack are named before the first is read.

    Raises:
        WeaksegError: a parameter is not set, a configuration file cannot be used, or one of `files` is not there.
    """
    for name, value in (("study", study), ("results", results), ("config_dir", config_dir)):
        if value is None:
            raise WeaksegError(f"parameter {name} is not set; run the notebook with papermill -p {name} VALUE")
    loaded = load_study(study, config_dir)
    missing = [name for name in files or () if not Path(name).exists()]
    if missing:
        raise WeaksegError(
            f"no {', no '.join(missing)}; make what a page reads with `snakemake --config study={study}`"
        )
    return StudyResults(
        loaded, reported_experiments(loaded, config_dir), StudyPaths(loaded.name, Path(results)), Path(config_dir)
    )


def experiment_label(row: Experiment) -> str:
    """A short name for figures: method, the counts that the paper's table prints, the variant, and the test list.

    Of lines with another data set these are the images of that one, which is named.
    """
    counts = ""
    if row.kind != "weak":
        kinds = [[s.count for s in row.counted_streams if s.is_strong == strong] for strong in (True, False)]
        totals = [min(EVERY, sum(kind)) for kind in kinds if kind]
        counts = " " + "+".join("all" if total == EVERY else f"{total:,}" for total in totals)
    other = f" of {', '.join(row.datasets)}" if row.datasets else ""
    notes = [row.variant, "test list" if row.stage == "test" else None]
    return ", ".join([f"{row.title}{counts}{other}", *(note for note in notes if note)])


def read_metrics(results: StudyResults) -> pd.DataFrame:
    """One row a run: experiment, line, method, kind, seed, counts used, and IOU in percent by part and stage.

    `iou_crf_occurring` is the mean over the classes that occur in truth or prediction; NaN where a run did not note it.
    The columns `untuned_val` are NaN for runs of the test stage: no CRF was tuned on the list that they are scored on.

    Raises:
        WeaksegError: a run is missing; it names the target that makes it.
    """
    rows = [_metrics_row(results, row, seed, run) for row, seed, run in results.runs()]
    return pd.DataFrame(rows)


def _metrics_row(results: StudyResults, row: Experiment, seed: int, run: RunPaths) -> dict[str, Any]:
    again = f"delete it and make it again with `snakemake {run.metrics}`"
    try:
        metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
        found = (metrics["study"], metrics["experiment"], metrics["seed"])
        if found != (results.study.name, row.id, seed):
            raise WeaksegError(
                f"{run.metrics}: belongs to experiment {found[1]}, seed {found[2]}, of study {found[0]}; {again}"
            )
        return {
            "experiment": row.id,
            "table": row.table,
            "line": row.line,
            "label": experiment_label(row),
            "method": row.title,
            "kind": row.kind,
            "annotation": row.weak_annotation,
            "variant": row.variant,
            "fov": row.fov,
            "network": metrics["network"],
            "seed": seed,
            "strong": metrics["strong"],
            "weak": metrics["weak"],
            "paper_strong": row.strong,
            "train_seconds": metrics["train_seconds"],
            "iou_crf": _number(metrics["crf"]["val"]["iou"]),
            "iou_crf_occurring": _number(metrics["crf"]["val"].get("iou_occurring")),
            "iou_dcnn": _number(metrics["dcnn"]["val"]["iou"]),
            **{
                f"iou_{name}_untuned_val": _number(metrics[name]["untuned_val"]["iou"] if row.stage == "val" else None)
                for name in ("crf", "dcnn")
            },
        }
    except FileNotFoundError:
        raise WeaksegError(
            f"{run.metrics}: experiment {row.id}, seed {seed}, of study {results.study.name} is not finished; make it "
            f"with `snakemake {run.metrics}`"
        ) from None
    except json.JSONDecodeError as error:
        raise WeaksegError(f"{run.metrics}: not JSON ({error}); {again}") from error
    except (KeyError, TypeError) as error:
        raise WeaksegError(f"{run.metrics}: lacks {error}; it was written by another version: {again}") from error


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _stacked(results: StudyResults, name: str) -> pd.DataFrame:
    frames = []
    for row, seed, run in results.runs():
        path: Path = getattr(run, name)
        try:
            frame = pd.read_csv(path)
        except FileNotFoundError:
            raise WeaksegError(f"{path}: no such file; make the run with `snakemake {run.metrics}`") from None
        except (ValueError, pd.errors.EmptyDataError) as error:
            raise WeaksegError(f"{path}: not a CSV file ({error}); delete it and run snakemake again") from error
        frame.insert(0, "seed", seed)
        frame.insert(0, "annotation", row.weak_annotation)
        frame.insert(0, "kind", row.kind)
        frame.insert(0, "label", experiment_label(row))
        frame.insert(0, "experiment", row.id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def read_per_class(results: StudyResults) -> pd.DataFrame:
    """IOU by class of every run that is scored on val."""
    return _stacked(results.of_val, "per_class")


def read_grids(results: StudyResults) -> pd.DataFrame:
    """Every CRF parameter set that was tried; runs of stage `test` try none."""
    return _stacked(results.of_val, "crf_grid")


def read_logs(results: StudyResults, points: int = 200) -> pd.DataFrame:
    """Training logs, averaged over windows so that a run has about `points` rows."""
    frames = []
    keys = ["experiment", "label", "kind", "annotation", "seed"]
    for names, log in _stacked(results, "train_log").groupby(keys, sort=False):
        window = max(1, -(-len(log) // points))
        numbers = log.drop(columns=keys).groupby(np.arange(len(log)) // window).mean()
        for place, (key, name) in enumerate(zip(keys, names, strict=True)):
            numbers.insert(place, key, name)
        frames.append(numbers)
    return pd.concat(frames, ignore_index=True)


def read_confusion(results: StudyResults, experiment: str, seed: int, *, crf: bool = True) -> pd.DataFrame:
    """Pixels of val by true (rows) and predicted class (columns)."""
    path = results.paths.run(experiment, seed).confusion(crf=crf)
    try:
        frame = pd.read_csv(path, index_col=0)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; evaluate run {experiment}, seed {seed}, again") from None
    names = list(results.labels.names)
    if list(frame.columns) != names or len(frame) != len(names):
        raise WeaksegError(f"{path}: not a matrix of the {len(names)} classes; evaluate the run again")
    return frame


def kept_picture(results: StudyResults, page: str, number: int = 1) -> bytes | None:
    """The JPEG of a page's picture where the photos it shows are not there but the picture is; None where they are."""
    path = results.paths.picture(page, number)
    return path.read_bytes() if path.is_file() else None


def data_counts(results: StudyResults) -> dict[str, int]:
    """Images of each list of the study by its role, as its manifest counts them."""
    counts = read_manifest(results.paths.manifest)["counts"]
    return {role: int(counts[role]) for role in ROLES}
