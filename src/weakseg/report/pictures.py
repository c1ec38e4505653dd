"""The qualitative page: images of val chosen by a rule, with the label maps of a few experiments."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from weakseg.config import Experiment
from weakseg.report import figures
from weakseg.report.results import StudyResults, choose_images, image_iou, image_ious, read_metrics, read_pictures


def representatives(results: StudyResults, table: str = "table1") -> list[Experiment]:
    """One experiment a method, for pages that cannot show all: the one with most pixel labels, then most images.

    Variants of a line are left out. In the order of the table.
    """
    best: dict[str, Experiment] = {}
    for row in results.experiments:
        if row.line_in(table) and row.variant is None:
            known = best.get(row.method)
            if known is None or (row.strong, row.weak) > (known.strong, known.weak):
                best[row.method] = row
    return sorted(best.values(), key=lambda row: row.line_in(table) or 0)


def reference_run(results: StudyResults) -> pd.Series:
    """The row of `results.read_metrics` with the best mean IOU: the run whose image IOU chooses the pictures."""
    metrics = read_metrics(results)
    return metrics.loc[metrics["iou_crf"].idxmax()]


def draw_qualitative(results: StudyResults, table: str = "table1") -> tuple[Figure, Figure | None]:
    """Typical images and failures (see `results.choose_images`), each with photo, truth and label maps.

    The second figure is None where the study has too few images for failures.
    """
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
        methods.append(f"{row.method}\n" + (f"{strong:,} pixel-labelled" if strong else alone))
    figure = figures.qualitative_grid(rows, methods, captions)
    # Taken out of pyplot's hands, or a notebook would draw it where it was made and again where it is shown.
    plt.close(figure)
    return figure
