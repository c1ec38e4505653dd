"""Mean IOU from one confusion matrix, with and without the CRF."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Experiment, Study
from weakseg.crf import CRFParams, label_map, unary_from_scores
from weakseg.data.prepare import held_out, open_data
from weakseg.data.voc import VocFolder, write_index_png
from weakseg.errors import WeaksegError
from weakseg.evaluate.scores import ScoreStore
from weakseg.files import atomic_write_csv, atomic_write_json, fresh_folder
from weakseg.labels import CLASSES, IGNORE, NUM_LABELS, by_class
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, num_labels: int = NUM_LABELS) -> np.ndarray:
    """Pixels by true (rows) and predicted label (columns); void pixels (255) are dropped.

    Args:
        truth: (H, W) integer labels, 0..num_labels-1 and 255.
        prediction: (H, W) integer labels, 0..num_labels-1, void nowhere.
        num_labels: L + 1.

    Returns:
        (L+1, L+1) int64.

    Raises:
        WeaksegError: shapes differ, or a label is out of range.
    """
    if truth.shape != prediction.shape:
        raise WeaksegError(f"confusion: truth is {truth.shape}, prediction {prediction.shape}")
    if prediction.size and (prediction.max() >= num_labels or prediction.min() < 0):
        raise WeaksegError(f"confusion: predicted label {prediction.max()} is out of range 0..{num_labels - 1}")
    valid = truth != IGNORE
    true = truth[valid].astype(np.int64)
    if true.size and (true.max() >= num_labels or true.min() < 0):
        raise WeaksegError(f"confusion: true label {true.max()} is out of range 0..{num_labels - 1}")
    pairs = true * num_labels + prediction[valid]
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def iou(confusion: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN) by label, in 0..1; (L+1,) float64.

    An empty denominator is replaced by 1, so a label that occurs nowhere has IOU 0 and counts in the mean (VOC
    development kit).
    """
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return hits / np.maximum(union, 1)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IOU over all labels, background included, in percent."""
    return float(100 * iou(confusion).mean())


@dataclass(frozen=True)
class _Labeller:
    """Labels one image of a store with and without the CRF (picklable, for other processes)."""

    scores: Path
    root: Path
    params: CRFParams
    iterations: int

    def __call__(self, image_id: str) -> tuple[str, np.ndarray, np.ndarray]:
        scores = ScoreStore(self.scores).full(image_id)
        # First maximum: ties go to the lower label.
        plain = scores.argmax(0).astype(np.uint8)
        image = VocFolder(self.root).image(image_id)
        smooth = label_map(unary_from_scores(scores), image, self.params, iterations=self.iterations)
        return image_id, plain, smooth


def evaluate_run(study: Study, experiment: Experiment, seed: int, paths: StudyPaths, *, threads: int = 1) -> None:
    """Label val with and without the CRF and write metrics, per-class IOU, confusion matrices and label PNGs.

    Everything is reported on the whole of val (the paper's protocol) and on val without the held-out images on which
    the CRF was tuned. Where every image is held out, the latter has no IOU (null, an empty field).
    """
    run = paths.run(experiment.id, seed)
    folder = open_data(paths.manifest)
    tuned = set(held_out(paths.manifest))
    params, crf_facts = read_crf(run)
    ids = folder.ids("val")
    confusions = {
        (name, part): np.zeros((NUM_LABELS,) * 2, np.int64)
        for name in ("dcnn", "crf")
        for part in ("val", "untuned_val")
    }
    images_with = np.zeros(NUM_LABELS, dtype=int)
    labeller = _Labeller(run.scores, folder.root, params, int(crf_facts["iterations"]))
    with fresh_folder(run.labels(crf=True)) as crf_folder, fresh_folder(run.labels(crf=False)) as dcnn_folder:
        for image_id, plain, smooth in parallel_map(labeller, ids, processes=threads, description="CRF of val"):
            truth = folder.labels(image_id)
            images_with += np.bincount(truth.reshape(-1), minlength=256)[:NUM_LABELS] > 0
            for name, labels, target in (("dcnn", plain, dcnn_folder), ("crf", smooth, crf_folder)):
                matrix = confusion_matrix(truth, labels)
                confusions[name, "val"] += matrix
                if image_id not in tuned:
                    confusions[name, "untuned_val"] += matrix
                write_index_png(target / f"{image_id}.png", labels)
    _write_results(study, experiment, seed, run, confusions, images_with, ids, tuned, crf_facts)


def _write_results(
    study: Study,
    experiment: Experiment,
    seed: int,
    run: RunPaths,
    confusions: dict[tuple[str, str], np.ndarray],
    images_with: np.ndarray,
    ids: list[str],
    tuned: set[str],
    crf_facts: dict[str, Any],
) -> None:
    counts = {"val": len(ids), "untuned_val": len(set(ids) - tuned)}
    ious = {
        f"iou_{name}" + ("" if part == "val" else "_untuned_val"): (
            (100 * iou(matrix)).round(3).tolist() if counts[part] else [None] * NUM_LABELS
        )
        for (name, part), matrix in confusions.items()
    }
    atomic_write_csv(
        run.per_class,
        [
            {
                "class": name,
                **{column: values[label] for column, values in ious.items()},
                "images": images_with[label],
            }
            for label, name in enumerate(CLASSES)
        ],
    )
    for name in ("dcnn", "crf"):
        rows = zip(CLASSES, confusions[name, "val"].tolist(), strict=True)
        atomic_write_csv(
            run.confusion(crf=name == "crf"),
            [{"truth": truth, **by_class(pixels)} for truth, pixels in rows],
        )
    config = json.loads(run.config.read_text(encoding="utf-8"))
    atomic_write_json(
        run.metrics,
        {
            "study": study.name,
            "experiment": experiment.id,
            "seed": seed,
            "network": f"{study.network.trunk} stride {study.network.output_stride}",
            "fov": experiment.fov,
            "strong": config["strong"],
            "weak": config["weak"],
            "train_seconds": config["train_seconds"],
            "config_hash": config["hash"],
            "crf_params": crf_facts,
            "images": counts,
            **{
                name: {
                    part: {"iou": round(mean_iou(confusions[name, part]), 4) if count else None}
                    for part, count in counts.items()
                }
                for name in ("dcnn", "crf")
            },
        },
    )


def read_crf(run: RunPaths) -> tuple[CRFParams, dict[str, Any]]:
    """The tuned parameters of a run, and all of its crf.json.

    Raises:
        WeaksegError: not tuned yet.
    """
    try:
        facts = json.loads(run.crf.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeaksegError(f"{run.crf}: no such file; run `weakseg tune-crf` first") from None
    return CRFParams.of(facts), facts
