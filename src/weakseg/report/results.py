"""Readers of a study's result files, as tidy data frames."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Experiment, Study, load_study, study_experiments
from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import read_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
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

    def runs(self) -> list[tuple[Experiment, int, RunPaths]]:
        """Every run: experiment, seed, files."""
        return [
            (row, seed, self.paths.run(row.id, seed))
            for row in self.experiments
            for seed in self.study.seeds_of(row.id)
        ]


def open_results(study: str, results: str | Path = "results", config_dir: str | Path = "config") -> StudyResults:
    """The results of a study by name."""
    loaded = load_study(study, config_dir)
    return StudyResults(
        loaded, study_experiments(loaded, config_dir), StudyPaths(loaded.name, Path(results)), Path(config_dir)
    )


def experiment_label(row: Experiment) -> str:
    """A short name for figures: method, the paper's counts, and the variant."""
    counts = {"weak": "", "semi": f" {row.strong:,}+{row.weak:,}", "strong": f" {row.strong:,}"}[row.kind]
    return f"{row.method}{counts}" + (f", {row.variant}" if row.variant else "")


def read_metrics(results: StudyResults) -> pd.DataFrame:
    """One row a run: experiment, line, method, kind, seed, counts used, and IOU in percent by part and stage.

    Raises:
        WeaksegError: a run is missing; it names the target that makes it.
    """
    rows: list[dict[str, Any]] = []
    for row, seed, run in results.runs():
        try:
            metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WeaksegError(f"{run.metrics}: this run is missing; make it with `snakemake {run.metrics}`") from None
        rows.append(
            {
                "experiment": row.id,
                "table": row.table,
                "line": row.line,
                "label": experiment_label(row),
                "method": row.method,
                "kind": row.kind,
                "variant": row.variant,
                "fov": row.fov,
                "network": metrics["network"],
                "seed": seed,
                "strong": metrics["strong"],
                "weak": metrics["weak"],
                "paper_strong": row.strong,
                "train_seconds": metrics["train_seconds"],
                "iou_crf": metrics["crf"]["val"]["iou"],
                "iou_dcnn": metrics["dcnn"]["val"]["iou"],
                "iou_crf_untuned_val": metrics["crf"]["untuned_val"]["iou"],
                "iou_dcnn_untuned_val": metrics["dcnn"]["untuned_val"]["iou"],
            }
        )
    return pd.DataFrame(rows)


def _stacked(results: StudyResults, name: str) -> pd.DataFrame:
    frames = []
    for row, seed, run in results.runs():
        frame = pd.read_csv(getattr(run, name))
        frame.insert(0, "seed", seed)
        frame.insert(0, "label", experiment_label(row))
        frame.insert(0, "experiment", row.id)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def read_per_class(results: StudyResults) -> pd.DataFrame:
    """IOU by class of every run."""
    return _stacked(results, "per_class")


def read_grids(results: StudyResults) -> pd.DataFrame:
    """Every CRF parameter set that was tried, of every run."""
    return _stacked(results, "crf_grid")


def read_logs(results: StudyResults, points: int = 200) -> pd.DataFrame:
    """Training logs, averaged over windows so that a run has about `points` rows."""
    frames = []
    for (_, _, label), log in _stacked(results, "train_log").groupby(["experiment", "seed", "label"], sort=False):
        window = max(1, len(log) // points)
        numbers = log.drop(columns=["experiment", "label"]).groupby(np.arange(len(log)) // window).mean()
        numbers.insert(0, "label", label)
        frames.append(numbers)
    return pd.concat(frames, ignore_index=True)


def image_ious(results: StudyResults, experiment: str, seed: int, *, crf: bool) -> pd.Series:
    """Mean IOU in percent of each image of val over the labels that occur in its truth or prediction."""
    folder = open_data(results.paths.manifest)
    labels = results.paths.run(experiment, seed).labels(crf=crf)
    values = {}
    for image_id in folder.ids("val"):
        truth, prediction = folder.labels(image_id), read_index_png(labels / f"{image_id}.png")
        valid = truth != IGNORE
        truth, prediction = truth[valid], prediction[valid]
        occurring = np.union1d(np.unique(truth), np.unique(prediction))
        shares = [
            np.sum((truth == c) & (prediction == c)) / np.sum((truth == c) | (prediction == c)) for c in occurring
        ]
        values[image_id] = 100 * float(np.mean(shares))
    return pd.Series(values, name="iou")


def choose_images(ious: pd.Series, count: int) -> tuple[list[str], list[str]]:
    """Images for the qualitative page, by a fixed rule: half typical, half failures.

    Typical ones lie evenly spread between the median and the best IOU of the reference run; failures are its worst.
    Equal values are ordered by image id.

    Returns:
        Typical ids, failure ids.
    """
    ordered = list(ious.sort_index().sort_values(ascending=False, kind="stable").index)
    typical = max(1, count - count // 2)
    upper = ordered[: max(1, len(ordered) // 2)]
    positions = np.linspace(0.1, 0.9, typical) * (len(upper) - 1)
    chosen = list(dict.fromkeys(upper[round(float(p))] for p in positions))
    failures = [image_id for image_id in reversed(ordered) if image_id not in chosen][: count // 2]
    return chosen, failures


def data_counts(results: StudyResults) -> dict[str, int]:
    """Images by list, held-out ones included."""
    folder = open_data(results.paths.manifest)
    counts = {name: len(folder.ids(name)) for name in ("train", "train_aug", "val")}
    return {**counts, "crf_val": len(held_out(results.paths.manifest))}


def read_pictures(
    results: StudyResults, experiments: list[Experiment], image_ids: list[str], *, longest_px: int = 260
) -> list[list[np.ndarray]]:
    """For each image its photo, its truth, and each experiment's labels without and with the CRF (first seed).

    Pictures whose longer side exceeds `longest_px` are thinned out by a whole factor, so that pages stay small.
    """
    folder = open_data(results.paths.manifest)
    rows = []
    for image_id in image_ids:
        pictures = [folder.image(image_id), folder.labels(image_id)]
        for row in experiments:
            run = results.paths.run(row.id, results.study.seeds_of(row.id)[0])
            pictures += [read_index_png(run.labels(crf=crf) / f"{image_id}.png") for crf in (False, True)]
        step = -(-max(pictures[0].shape[:2]) // longest_px)
        rows.append([picture[::step, ::step] for picture in pictures])
    return rows
