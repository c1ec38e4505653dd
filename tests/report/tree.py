"""A small result tree with known figures: what a finished study leaves on disk, without any training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from fabricate import prepare, write_voc, write_voc_boxes
from safetensors.numpy import save_file

from weakseg.annotations.bbox_rect_maps import write_bbox_rect
from weakseg.annotations.label_quality import measure_labels
from weakseg.config import load_sheet, load_study, study_experiments
from weakseg.data.dataset import ROLES, open_data
from weakseg.data.images import read_index_png, write_index_png
from weakseg.data.splits import images_of_streams
from weakseg.labels import IGNORE, VOC, LabelSet
from weakseg.paths import StudyPaths
from weakseg.report.results import StudyResults

STUDY = {
    "name": "fabricated",
    "description": "Coloured rectangles, for the tests of the report.",
    "dataset": {"name": "rectangles", "source": "path"},
    "network": {"trunk": "tiny", "crop_px": 33},
    "crf": {"coarse": {"w": [5, 10], "sigma_xy": [50, 70], "sigma_rgb": [3, 5, 9]}, "refine_rounds": 0},
    "seeds": [0],
    "seeds_for": {"em_adapt_weak": [0, 1, 2]},
    "boxes": {"quality_images": 10},
    "report": {"qualitative_images": 4, "box_images": 2},
}

SHARE_WRONG = {"em_fixed_weak": 0.6, "em_adapt_weak": 0.4}
"""Share of a label map's columns that are background by mistake, by experiment; 0.1 for the others."""

IOU = {
    "em_fixed_weak": 20.0, "em_fixed_weak_largefov": 18.0, "em_adapt_weak": 30.0, "em_adapt_weak_largefov": 28.0,
    "em_fixed_semi_200": 40.0, "em_fixed_semi_500": 45.0, "em_fixed_semi_750": 47.2, "em_fixed_semi_1000": 48.0,
    "em_fixed_semi_1464_5000": 49.0, "em_fixed_semi_1464_9118": 50.0, "strong_1464": 47.0, "strong_10582": 55.0,
    "bbox_rect_weak": 33.0, "bbox_em_fixed_weak": 34.0, "bbox_seg_weak": 39.0,
    "bbox_rect_semi": 46.0, "bbox_em_fixed_semi": 51.0, "bbox_seg_semi": 52.0,
}  # fmt: skip
"""Mean IOU after the CRF of seed 0, in percent; each further seed has one point more, no CRF three points less."""


def make_config(folder: Path, project: Path, **changes) -> Path:
    """A configuration folder with the project's sheets and the fabricated study."""
    (folder / "studies").mkdir(parents=True)
    for name in ("experiments.yaml", "paper.yaml"):
        (folder / name).write_text((project / "config" / name).read_text())
    (folder / "studies" / "fabricated.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
    return folder


def make_tree(root: Path, project: Path, voc: Path | None = None, **changes) -> StudyResults:
    """A finished study below `root`: data, manifest, annotation, and every file that a run writes."""
    voc = voc or write_voc_boxes(write_voc(root / "voc", train=20, train_aug=50, val=12))
    dataset = {**STUDY["dataset"], "path": str(voc)}
    config = make_config(root / "config", project, **{"dataset": dataset, "experiments": list(IOU), **changes})
    study = load_study("fabricated", config)
    experiments = study_experiments(study, config)
    paths = prepare(study, root / "results", experiments)
    results = StudyResults(study, experiments, paths, config)
    data = open_data(paths.manifest)
    truth = {image_id: data.pixel_labels(image_id) for image_id in data.ids("evaluation")}
    for row, seed, _ in results.runs():
        write_run(results, row, seed, truth)
    if any(row.weak_annotation == "box" for row in results.experiments):
        write_boxes_tree(results)
    return results


SECOND = {
    "coco_em_fixed_semi": 55.5, "coco_cross_joint_semi": 58.0, "coco_cross_joint_5000": 56.5, "coco_alone": 31.0,
    "coco_cross_pretrain": 59.0, "coco_cross_joint": 60.0,
    "em_adapt_weak_test": 31.5, "em_fixed_semi_1464_10567_test": 51.0, "em_fixed_semi_2913_9118_test": 53.0,
    "strong_12031_test": 56.0, "bbox_rect_weak_test": 34.5, "bbox_seg_weak_test": 40.5,
    "bbox_seg_semi_1464_10567_test": 53.5, "bbox_em_fixed_semi_1464_10567_test": 52.5,
    "bbox_seg_semi_2913_9118_test": 54.0, "bbox_em_fixed_semi_2913_9118_test": 54.5, "strong_12031_msc_test": 57.0,
    "coco_cross_pretrain_test": 61.0, "coco_cross_joint_test": 62.0, "coco_cross_pretrain_msc_test": 63.0,
    "coco_cross_joint_msc_test": 64.0,
}  # fmt: skip
"""Mean IOU after the CRF of the runs that need another data set or a test list, in percent."""


def add_second(results: StudyResults, root: Path, project: Path, **changes) -> StudyResults:
    """The finished study below `root` with a test list and MS-COCO, of which only runs are there.

    Their files are those of `strong_1464` but for the metrics; runs of the test stage have no `untuned_val`.
    """
    dataset = results.study.dataset.model_dump(mode="json")
    coco = {"name": "MS-COCO", "source": "path", "path": "coco", "labels": "coco"}
    dataset["lists"]["test"] = "test"
    known = [*IOU, *SECOND]
    changes = {"dataset": dataset, "other_datasets": {"coco": coco}, "experiments": known, **changes}
    config = make_config(root / "config", project, **changes)
    study = load_study("fabricated", config)
    paths = StudyPaths(study.name, root / "results")
    (paths.root / "runs").mkdir(parents=True)
    shutil.copytree(results.paths.root / "data", paths.root / "data")
    manifest = json.loads(paths.manifest.read_text())
    manifest["counts"]["test"] = 7
    paths.manifest.write_text(json.dumps(manifest))
    (paths.root / "annotations").symlink_to(results.paths.root / "annotations")
    experiments = study_experiments(study, config)
    for row in experiments:
        run = paths.run(row.id, 0)
        if row.id in IOU:
            run.root.parent.symlink_to(results.paths.run(row.id, 0).root.parent)
            continue
        shutil.copytree(results.paths.run("strong_1464", 0).root, run.root)
        metrics = json.loads(run.metrics.read_text())
        for stage, iou in (("crf", SECOND[row.id]), ("dcnn", SECOND[row.id] - 3)):
            metrics[stage] = {"val": {"iou": iou}, "untuned_val": {"iou": iou - 0.5}}
            if row.stage == "test":
                del metrics[stage]["untuned_val"]
        run.metrics.write_text(json.dumps({**metrics, "experiment": row.id, "strong": row.strong, "weak": row.weak}))
    return StudyResults(study, experiments, paths, config)


def write_manifest(paths: StudyPaths, labels=VOC, **counts: int) -> None:
    """A manifest of no folder, with the label set (or what stands for one) and counts given."""
    facts = labels.to_json() if isinstance(labels, LabelSet) else labels
    lists = {role: ["x"] for role in ROLES}
    manifest = {
        "reader": "voc", "root": "x", "tag_file": None, "labels": facts, "lists": lists,
        "counts": {**dict.fromkeys(ROLES, 1), **counts}, "pixel_labelled_training": counts.get("training", 1),
    }  # fmt: skip
    paths.manifest.parent.mkdir(parents=True, exist_ok=True)
    paths.manifest.write_text(json.dumps(manifest))


def write_boxes_tree(results: StudyResults) -> None:
    """Boxes, the maps of both methods (Bbox-Seg's those of the truth), the search, and the E-step's maps."""
    paths, data = results.paths, open_data(results.paths.manifest)
    write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))
    for image_id in data.ids("training"):
        known = data.has_pixel_labels(image_id)
        labels = data.pixel_labels(image_id) if known else np.zeros(data.size(image_id), dtype=np.uint8)
        seg = np.where(labels == IGNORE, 0, labels)
        write_index_png(paths.box_maps("bbox_seg") / f"{image_id}.png", seg, data.labels)
    grid = [
        {"alpha": alpha, "w": w, "sigma_xy": 33.0, "sigma_rgb": 4.0, "w_pos": 15.0, "sigma_pos": 3.0, "stage": "coarse",
         "iou_foreground": 70 - 20 * alpha + w / 45, "iou_objects": 80 - 20 * alpha, "images": 1}
        for alpha in (0.2, 0.4, 0.6, 0.8) for w in (41.0, 45.0)
    ]  # fmt: skip
    pd.DataFrame(grid).to_csv(paths.bbox_seg_grid, index=False)
    assert results.estep_run is not None
    run = paths.run(*results.estep_run)
    shown = data.ids("training")[:2]
    moments = ("start", "middle", "end")
    cells = {}
    for number, moment in enumerate(moments):
        for i in shown:
            cells[f"{moment}/{i}"] = np.ascontiguousarray((_rect(paths, i)[::8, ::8] + 2 - number) % 4)
    for drawn in results.estep_runs:
        save_file(cells, paths.run(*drawn).estep_maps)
    confusion = pd.DataFrame(np.eye(len(VOC), dtype=int) * 50 + 1, columns=list(VOC.names))
    frames = [confusion.assign(moment=m, iteration=n, images=10, truth=list(VOC.names)) for n, m in enumerate(moments)]
    pd.concat(frames).to_csv(run.estep_confusion, index=False)
    measure_labels(results.study, paths, run)


def _rect(paths: StudyPaths, image_id: str) -> np.ndarray:
    return read_index_png(paths.box_maps("bbox_rect") / f"{image_id}.png", VOC)


def write_run(results: StudyResults, row, seed: int, truth: dict[str, np.ndarray]) -> None:
    """The files of one run."""
    study, paths, config_dir = results.study, results.paths, results.config_dir
    run = paths.run(row.id, seed)
    iou = IOU[row.id] + seed
    run.root.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    data, paper = open_data(paths.manifest), load_sheet(config_dir).lists
    used = images_of_streams(row, data.ids("pixel_labelled"), data.ids("training"), counts=study.counts, paper=paper)
    counts = {"strong": 0, "weak": 0}
    for stream, ids in zip(row.streams, used, strict=True):
        counts["strong" if stream.annotation == "strong" else "weak"] += len(ids)
    run.metrics.write_text(
        json.dumps(
            {
                "study": study.name,
                "experiment": row.id,
                "seed": seed,
                "network": "tiny stride 8",
                "fov": row.fov,
                **counts,
                "train_seconds": 60.0,
                "images": {"val": 12, "untuned_val": 11},
                "crf": {"val": {"iou": iou}, "untuned_val": {"iou": iou - 0.5}},
                "dcnn": {"val": {"iou": iou - 3}, "untuned_val": {"iou": iou - 3.5}},
            }
        )
    )
    run.config.write_text(
        json.dumps(
            {"hash": f"{row.id}-{seed}", **counts, "train_seconds": 60.0, "device": "CPU", "threads": 1, "versions": {}}
        )
    )
    weak = np.full(450, np.nan) if row.kind == "strong" else np.linspace(2, 0.3, 450) + rng.normal(0, 0.05, 450)
    log = pd.DataFrame({"iteration": np.arange(450)})
    log["loss"] = np.linspace(3, 0.5, 450) + rng.normal(0, 0.1, 450)
    log["loss_strong"] = log["loss"] if row.kind != "weak" else np.nan
    log["loss_weak"] = weak
    log["lr"] = 0.01 * (1 - log["iteration"] / 450) ** 0.9
    log["images_per_s"], log["seconds"] = 80.0, np.arange(450) / 8
    log["background_share"] = np.nan if row.kind == "strong" else np.clip(0.5 + rng.normal(0, 0.05, 450), 0, 1)
    log["loader_wait"] = 0.02
    log.to_csv(run.train_log, index=False)
    grid = [
        {"w": w, "sigma_xy": xy, "sigma_rgb": rgb, "w_pos": 3.0, "sigma_pos": 3.0, "stage": "coarse", "images": 1,
         "iou": iou - abs(rgb - 5) / 2 - (70 - xy) / 40 - (w == 5) / 5}
        for w in (5.0, 10.0) for xy in (50.0, 70.0) for rgb in (3.0, 5.0, 9.0)
    ]  # fmt: skip
    pd.DataFrame(grid).to_csv(run.crf_grid, index=False)
    best = max(grid, key=lambda point: point["iou"])
    run.crf.write_text(json.dumps({**best, "iou_dcnn": iou - 3, "iterations": 10}))
    classes = np.clip(iou + np.arange(21) - 10, 0, 100)
    pd.DataFrame(
        {
            "class": list(VOC.names),
            "iou_dcnn": classes - 3,
            "iou_dcnn_untuned_val": classes - 3,
            "iou_crf": classes,
            "iou_crf_untuned_val": classes,
            "images": np.arange(21) + 1,
        }
    ).to_csv(run.per_class, index=False)
    matrix = pd.DataFrame(np.eye(21, dtype=int) * 90 + 1, index=list(VOC.names), columns=list(VOC.names))
    for crf in (True, False):
        matrix.to_csv(run.confusion(crf=crf), index_label="truth")
        for image_id, labels in truth.items():
            guess = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
            share = SHARE_WRONG.get(row.id, 0.1) + (0 if crf else 0.05)
            guess[:, : round(share * guess.shape[1])] = 0
            write_index_png(run.labels(crf=crf) / f"{image_id}.png", guess, data.labels)
