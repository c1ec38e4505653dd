"""Evaluating a run: label maps of the evaluation images and mean IOU, with and without the CRF."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Experiment, Study
from weakseg.crf import CRFParams, label_map, unary_from_scores
from weakseg.data.contents import read_contents
from weakseg.data.dataset import open_data
from weakseg.data.images import write_index_png
from weakseg.errors import WeaksegError
from weakseg.evaluate.crf_place import crf_device, placed
from weakseg.evaluate.score_store import ScoreStore
from weakseg.files import atomic_write_csv, atomic_write_json, fresh_folder, sha256_json
from weakseg.labels import LabelSet
from weakseg.metrics import confusion_matrix, iou, mean_iou, mean_iou_of_occurring
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths


@dataclass(frozen=True)
class _Labeller:
    """Labels one image of a store with and without the CRF (picklable, for other processes)."""

    scores: Path
    manifest: Path
    params: CRFParams
    iterations: int
    device: str | None = None

    def __call__(self, image_id: str) -> tuple[str, np.ndarray, np.ndarray]:
        scores = ScoreStore(self.scores).full(image_id)
        # First maximum: ties go to the lower label.
        plain = scores.argmax(0).astype(np.uint8)
        image = open_data(self.manifest).image(image_id)
        unary, image = placed(unary_from_scores(scores), self.device), placed(image, self.device)
        smooth = label_map(unary, image, self.params, iterations=self.iterations)
        return image_id, plain, smooth


def evaluate_run(
    study: Study,
    experiment: Experiment,
    seed: int,
    paths: StudyPaths,
    *,
    crf_of: RunPaths | None = None,
    threads: int = 1,
) -> None:
    """Label a run's images with and without the CRF; write metrics, IOU by class, confusions, label PNGs.

    Everything is reported on all of them (`val`, the paper's protocol) and on those that are not held out, on which the
    CRF was not tuned (`untuned_val`). Where every image is held out, the latter has no IOU (null, an empty field).
    A run of stage `test` is reported on the test list, under the name `val` too, and has no IOU where that has no pixel
    labels; its label maps can be handed in (`weakseg submission`). The metrics hold the hashes of what decided them: of
    the run, and of the list, photos and pixel labels it was scored on.

    Args:
        study, experiment, seed, paths: the run.
        crf_of: the run whose search found the CRF's parameters; None: this one.
        threads: processes of the CRF.
    """
    run = paths.run(experiment.id, seed)
    data, contents = open_data(paths.manifest), read_contents(paths.contents)
    tuned = set(data.ids("held_out")) if experiment.stage == "val" else set()
    params, crf_facts = read_crf(crf_of or run)
    ids = data.ids(experiment.scored)
    with_truth = {image_id for image_id in ids if data.has_pixel_labels(image_id)}
    confusions = {
        (name, part): np.zeros((len(data.labels),) * 2, np.int64)
        for name in ("dcnn", "crf")
        for part in ("val", "untuned_val")
    }
    images_with = np.zeros(len(data.labels), dtype=int)
    device = crf_device(study)
    labeller = _Labeller(run.scores, paths.manifest, params, int(crf_facts["iterations"]), device)
    processes = threads if device is None else 1
    with fresh_folder(run.labels(crf=True)) as crf_folder, fresh_folder(run.labels(crf=False)) as dcnn_folder:
        for image_id, plain, smooth in parallel_map(labeller, ids, processes=processes, description="labels"):
            truth = data.pixel_labels(image_id) if image_id in with_truth else None
            images_with += 0 if truth is None else data.labels.present(truth)
            for name, labels, target in (("dcnn", plain, dcnn_folder), ("crf", smooth, crf_folder)):
                write_index_png(target / f"{image_id}.png", labels, data.labels)
                if truth is None:
                    continue
                matrix = confusion_matrix(truth, labels, len(data.labels))
                confusions[name, "val"] += matrix
                if image_id not in tuned:
                    confusions[name, "untuned_val"] += matrix
    scored_on = {
        "list_sha256": sha256_json([ids, sorted(tuned)]),
        "photos_sha256": contents.digest(ids, "photo"),
        "masks_sha256": contents.digest(ids, "mask"),
    }
    facts: dict[str, Any] = {"crf_params": crf_facts, "scored_on": scored_on}
    if experiment.stage != "val":
        facts["stage"] = experiment.stage
    scored = [image_id for image_id in ids if image_id in with_truth]
    _write_results(study, experiment, seed, run, data.labels, confusions, images_with, scored, tuned, facts)


def _write_results(
    study: Study,
    experiment: Experiment,
    seed: int,
    run: RunPaths,
    label_set: LabelSet,
    confusions: dict[tuple[str, str], np.ndarray],
    images_with: np.ndarray,
    ids: list[str],
    tuned: set[str],
    facts: dict[str, Any],
) -> None:
    counts = {"val": len(ids), "untuned_val": len(set(ids) - tuned)}
    ious = {
        f"iou_{name}" + ("" if part == "val" else "_untuned_val"): (
            (100 * iou(matrix)).round(3).tolist() if counts[part] else [None] * len(label_set)
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
            for label, name in enumerate(label_set.names)
        ],
    )
    for name in ("dcnn", "crf"):
        rows = zip(label_set.names, confusions[name, "val"].tolist(), strict=True)
        atomic_write_csv(
            run.confusion(crf=name == "crf"),
            [{"truth": truth, **label_set.by_name(pixels)} for truth, pixels in rows],
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
            **facts,
            "images": counts,
            **{
                name: {
                    part: {
                        "iou": round(mean_iou(confusions[name, part]), 4) if count else None,
                        "iou_occurring": _rounded(mean_iou_of_occurring(confusions[name, part])),
                    }
                    for part, count in counts.items()
                }
                for name in ("dcnn", "crf")
            },
        },
    )


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)


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
