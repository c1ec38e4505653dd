"""Readers of a study's result files, as tidy data frames."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Experiment, Study, load_study, study_experiments, study_tables
from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import read_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND, CLASSES, IGNORE
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
        """The tables of the paper that it fills."""
        return study_tables(self.experiments)

    def runs(self) -> list[tuple[Experiment, int, RunPaths]]:
        """Every run: experiment, seed, files."""
        return [
            (row, seed, self.paths.run(row.id, seed))
            for row in self.experiments
            for seed in self.study.seeds_of(row.id)
        ]


def open_results(study: str, results: str | Path = "results", config_dir: str | Path = "config") -> StudyResults:
    """The results of a study by name or YAML file.

    Raises:
        WeaksegError: a parameter is not set, or a configuration file cannot be used.
    """
    for name, value in (("study", study), ("results", results), ("config_dir", config_dir)):
        if value is None:
            raise WeaksegError(f"parameter {name} is not set; run the notebook with papermill -p {name} VALUE")
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
            "method": row.method,
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
            "iou_crf": metrics["crf"]["val"]["iou"],
            "iou_dcnn": metrics["dcnn"]["val"]["iou"],
            "iou_crf_untuned_val": metrics["crf"]["untuned_val"]["iou"],
            "iou_dcnn_untuned_val": metrics["dcnn"]["untuned_val"]["iou"],
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
    """IOU by class of every run."""
    return _stacked(results, "per_class")


def read_grids(results: StudyResults) -> pd.DataFrame:
    """Every CRF parameter set that was tried, of every run."""
    return _stacked(results, "crf_grid")


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
    if list(frame.columns) != list(CLASSES) or len(frame) != len(CLASSES):
        raise WeaksegError(f"{path}: not a matrix of the {len(CLASSES)} classes; evaluate the run again")
    return frame


def image_iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Mean IOU of one image in percent, over the labels that occur in its truth or prediction; void is dropped.

    Unlike the study's mean IOU it leaves out labels that occur nowhere: a single image has few of the 21. NaN where all
    is void.
    """
    valid = truth != IGNORE
    true, given = truth[valid].astype(np.intp), prediction[valid].astype(np.intp)
    hits = np.bincount(true[true == given], minlength=256)
    union = np.bincount(true, minlength=256) + np.bincount(given, minlength=256) - hits
    occurs = union > 0
    return float(100 * (hits[occurs] / union[occurs]).mean()) if occurs.any() else float("nan")


def image_ious(results: StudyResults, experiment: str, seed: int, *, crf: bool) -> pd.DataFrame:
    """Image IOU (`image_iou`, percent) of a run over val without the images on which its CRF was tuned.

    Returns:
        Index: image id, sorted. Columns: iou; classes, the foreground labels of the truth as a tuple. Images without a
        foreground label are left out.
    """
    folder = open_data(results.paths.manifest)
    labels = results.paths.run(experiment, seed).labels(crf=crf)
    tuned = set(held_out(results.paths.manifest))
    rows = {}
    for image_id in sorted(set(folder.ids("val")) - tuned):
        truth = folder.labels(image_id)
        classes = tuple(int(label) for label in np.unique(truth) if label not in (BACKGROUND, IGNORE))
        if classes:
            path = labels / f"{image_id}.png"
            if not path.is_file():
                raise WeaksegError(f"{path}: no such file; evaluate run {experiment}, seed {seed}, again")
            rows[image_id] = {"iou": image_iou(truth, read_index_png(path)), "classes": classes}
    if not rows:
        raise WeaksegError(f"{folder.list_path('val')}: no image with an object to show besides the held-out ones")
    return pd.DataFrame.from_dict(rows, orient="index")


def choose_images(ious: pd.DataFrame, count: int) -> tuple[list[str], list[str]]:
    """Images for the qualitative page, by a fixed rule: half typical, half failures.

    Images are ranked by image IOU, equal ones by id. Typical are the half (rounded up) nearest to the median rank,
    failures the lowest. In both, an image whose classes were taken before waits until no other is left.

    Args:
        ious: as `image_ious` gives them.
        count: images in all; fewer where there are fewer.

    Returns:
        Typical ids, failure ids; no image in both, each from better to worse.
    """
    ranked = sorted(ious.index, key=lambda i: (ious.at[i, "iou"], i))
    middle = (len(ranked) - 1) / 2
    nearest = sorted(range(len(ranked)), key=lambda rank: (abs(rank - middle), rank))
    count = min(count, len(ranked))
    typical = _varied([ranked[rank] for rank in nearest], ious["classes"], count - count // 2)
    failures = _varied([image_id for image_id in ranked if image_id not in typical], ious["classes"], count // 2)
    return tuple(sorted(ids, key=ranked.index, reverse=True) for ids in (typical, failures))  # type: ignore[return-value]


def _varied(order: list[str], classes: pd.Series, count: int) -> list[str]:
    """The first `count` ids of `order`, those with new classes before those with classes taken already."""
    seen: set[tuple[int, ...]] = set()
    new: list[str] = []
    old: list[str] = []
    for image_id in order:
        (old if classes[image_id] in seen else new).append(image_id)
        seen.add(classes[image_id])
    return (new + old)[:count]


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
