"""Images of val chosen by a rule, with the label maps of a few experiments."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weakseg.config import Experiment
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND, IGNORE
from weakseg.metrics import image_iou
from weakseg.report import figures
from weakseg.report.results import StudyResults, kept_picture, read_metrics


def representatives(results: StudyResults, table: str) -> list[Experiment]:
    """One experiment a method, for pages that cannot show all: the one with most pixel labels, then most images.

    Variants of a line are left out. In the order of the table.
    """
    best: dict[str, Experiment] = {}
    for row in results.experiments:
        if row.line_in(table) and row.variant is None:
            known = best.get(row.title)
            if known is None or (row.strong, row.weak) > (known.strong, known.weak):
                best[row.title] = row
    return sorted(best.values(), key=lambda row: row.line_in(table) or 0)


def reference_run(results: StudyResults) -> pd.Series:
    """The row of `results.read_metrics` with the best mean IOU on val: the run whose image IOU chooses the pictures."""
    metrics = read_metrics(results.of_val)
    return metrics.loc[metrics["iou_crf"].idxmax()]


def drawn_runs(results: StudyResults, table: str) -> list[tuple[str, int]]:
    """Experiment and seed of the runs behind `draw_qualitative`: those shown, and the one that chooses the images."""
    best = reference_run(results)
    shown = [(row.id, results.study.seeds_of(row.id)[0]) for row in representatives(results, table)]
    return [*shown, (str(best["experiment"]), int(best["seed"]))]


def image_ious(results: StudyResults, experiment: str, seed: int, *, crf: bool) -> pd.DataFrame:
    """Image IOU (`image_iou`, percent) of a run over val without the images on which its CRF was tuned.

    Returns:
        Index: image id, sorted. Columns: iou; classes, the foreground labels of the truth as a tuple. Images without a
        foreground label are left out.
    """
    folder = open_data(results.paths.manifest)
    labels = results.paths.run(experiment, seed).labels(crf=crf)
    tuned = set(open_data(results.paths.manifest).ids("held_out"))
    rows = {}
    for image_id in sorted(set(folder.ids("evaluation")) - tuned):
        truth = folder.pixel_labels(image_id)
        classes = tuple(int(label) for label in np.unique(truth) if label not in (BACKGROUND, IGNORE))
        if classes:
            path = labels / f"{image_id}.png"
            if not path.is_file():
                raise WeaksegError(f"{path}: no such file; evaluate run {experiment}, seed {seed}, again")
            rows[image_id] = {"iou": image_iou(truth, read_index_png(path, results.labels)), "classes": classes}
    if not rows:
        raise WeaksegError(
            f"{results.paths.manifest}: no evaluation image with an object to show besides the held-out ones"
        )
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


def read_pictures(
    results: StudyResults, experiments: list[Experiment], image_ids: list[str], *, longest_px: int = 260
) -> list[list[np.ndarray]]:
    """For each image its photo, its truth, and each experiment's labels without and with the CRF (first seed).

    Pictures whose longer side exceeds `longest_px` are thinned out by a whole factor, so that pages stay small.
    """
    folder = open_data(results.paths.manifest)
    rows = []
    for image_id in image_ids:
        pictures = [folder.image(image_id), folder.pixel_labels(image_id)]
        for row in experiments:
            run = results.paths.run(row.id, results.study.seeds_of(row.id)[0])
            pictures += [
                read_index_png(run.labels(crf=crf) / f"{image_id}.png", results.labels) for crf in (False, True)
            ]
        step = -(-max(pictures[0].shape[:2]) // longest_px)
        rows.append([picture[::step, ::step] for picture in pictures])
    return rows


def draw_qualitative(results: StudyResults, table: str) -> tuple[Figure | bytes, Figure | bytes | None]:
    """Typical images and failures (see `choose_images`), each with photo, truth and label maps.

    The second figure is None where the study has too few images for failures. Where pictures were kept without the
    photos, they are JPEGs: both of the first table, which the page of pictures shows, the first one of others.
    """
    page = "qualitative" if table == results.tables[0] else table
    if kept := kept_picture(results, page):
        return kept, kept_picture(results, page, 2)
    best = reference_run(results)
    ious = image_ious(results, best["experiment"], int(best["seed"]), crf=True)
    typical, failures = choose_images(ious, results.study.report.qualitative_images)
    shown = representatives(results, table)
    return _draw(results, shown, typical), _draw(results, shown, failures) if failures else None


def _draw(results: StudyResults, shown: Sequence[Experiment], image_ids: Sequence[str]) -> Figure:
    """The first seed of each experiment, its image IOU under each label map."""
    rows = read_pictures(results, list(shown), list(image_ids))
    captions = [
        [image_id, "truth", *(f"IOU {image_iou(row[1], labels):.0f} %" for labels in row[2:])]
        for image_id, row in zip(image_ids, rows, strict=True)
    ]
    counts = read_metrics(results).groupby("experiment")["strong"].first()
    methods = []
    for row in shown:
        strong = counts[row.id]
        alone = "boxes only" if row.weak_annotation == "box" else "image-level labels only"
        methods.append(f"{row.title}\n" + (f"{strong:,} pixel-labelled" if strong else alone))
    return figures.qualitative_grid(rows, methods, captions, results.labels)
