"""What the pages on boxes show: boxes on images, the search for alpha, the quality of labels, Figure 4."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weakseg.annotations.chosen_images import candidates, telling_images
from weakseg.data.box_files import boxes_of, count_boxes, read_agreement, read_boxes
from weakseg.data.boxes import ImageBoxes
from weakseg.data.dataset import open_data
from weakseg.data.label_maps import map_reader
from weakseg.errors import WeaksegError
from weakseg.labels import IGNORE
from weakseg.metrics import image_iou
from weakseg.report import figures
from weakseg.report.estep_maps import MOMENTS, at_pixels, images_shown, read_estep_maps
from weakseg.report.paper import PaperSetting
from weakseg.report.results import StudyResults, kept_picture

LONGEST_PX = 300
"""Longer side of a picture on a page; larger photos are thinned out by a whole factor."""


def read_grid(results: StudyResults) -> pd.DataFrame:
    """Every alpha and CRF parameter set tried for Bbox-Seg, with its IOU in percent on the held-out images."""
    return _read_csv(results.paths.bbox_seg_grid)


def read_quality(results: StudyResults) -> pd.DataFrame:
    """IOU of training labels against the truth, by method, moment, place and class."""
    return _read_csv(results.paths.label_quality)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; make it with `snakemake {path}`") from None
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise WeaksegError(f"{path}: not a CSV file ({error}); delete it and run snakemake again") from error


def alpha_table(results: StudyResults) -> pd.DataFrame:
    """The best CRF parameters of each alpha as text cells, beside the published IOU."""
    published_of = PaperSetting.read(results.config_dir).alpha
    rows = []
    for alpha, tried in read_grid(results).groupby("alpha"):
        best = tried.loc[tried["iou_foreground"].fillna(0).idxmax()]
        published = published_of.get(round(float(alpha), 4))
        rows.append(
            {
                "alpha": f"{100 * best.alpha:g} %",
                "w": f"{best.w:g}",
                "sigma_xy": f"{best.sigma_xy:g}",
                "sigma_rgb": f"{best.sigma_rgb:g}",
                "IOU of classes": _text(best.iou_foreground),
                "IOU of all objects": _text(best.iou_objects),
                "paper": "–" if published is None else f"{published:.1f}",
            }
        )
    return pd.DataFrame(rows)


def _text(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"


def quality_means(results: StudyResults) -> pd.DataFrame:
    """Mean IOU of each method's training labels over the labels that occur, as text cells."""
    quality = read_quality(results)
    means = quality.groupby(["method", "moment", "at"], sort=False)["iou"].mean().unstack("at")
    rows = []
    for (method, moment), row in means.iterrows():
        pixels = row.get("pixels", float("nan"))
        rows.append(
            {
                "labels of": method + ("" if moment == "fixed" else f", {MOMENTS[moment]}"),
                "at score cells": f"{row['cells']:.1f}",
                "at pixels": "–" if pd.isna(pixels) else f"{pixels:.1f}",
            }
        )
    return pd.DataFrame(rows, columns=["labels of", "at score cells", "at pixels"])


def box_facts(results: StudyResults) -> str:
    """Where the boxes come from and how their two sources agree, in Markdown."""
    counts = count_boxes(results.paths.boxes)
    parts = [f"{counts.boxes:,} boxes on {counts.images:,} images, the held-out ones of val included."]
    if counts.from_masks == counts.images:
        parts.append("All are tight around instance masks.")
    elif not counts.from_masks:
        parts.append("All are read from XML annotations: there are no instance masks.")
    else:
        parts.append(
            f"Those of {counts.from_masks:,} images are tight around instance masks, the others are read from XML "
            "annotations."
        )
    if counts.without:
        parts.append(f"{counts.without:,} images have no box; their label maps are background everywhere.")
    if agreement := read_agreement(results.paths.boxes):
        parts.append(
            f"{agreement['images']:,} images have both masks and XML. There the boxes' median IOU is "
            f"{agreement['iou_median']:.2f} (lowest {agreement['iou_min']:.2f}) and their edges lie "
            f"{agreement['gap_median_px']:g} pixels apart in the median, {agreement['gap_max_px']} at most: void "
            "borders, and thin parts lost in them, are no part of an instance mask."
        )
    return " ".join(parts)


def draw_boxes_page(results: StudyResults) -> Figure | bytes:
    """Training images with their boxes, their truth, and the maps of both methods; those of Figure 4 are left out.

    The JPEG where the picture was kept without the photos, here and in `draw_figure4`.
    """
    if kept := kept_picture(results, "boxes"):
        return kept
    boxes = read_boxes(results.paths.boxes, results.labels)
    ids = candidates(open_data(results.paths.manifest), boxes)
    count = results.study.report.box_images
    first = telling_images(boxes, ids, count)
    return _draw(results, boxes, telling_images(boxes, [i for i in ids if i not in first], count) or first, {})


def draw_figure4(results: StudyResults) -> Figure | bytes:
    """Figure 4 of the paper, with the E-step's maps of Bbox-EM-Fixed at the start, middle and end of its training."""
    if kept := kept_picture(results, "figure4"):
        return kept
    if results.estep_run is None:
        raise WeaksegError(
            f"study {results.study.name}: it runs no Bbox-EM-Fixed on boxes alone, so there is no E-step"
        )
    maps = read_estep_maps(results.paths.run(*results.estep_run).estep_maps)
    return _draw(results, read_boxes(results.paths.boxes, results.labels), images_shown(maps), maps)


def _draw(
    results: StudyResults, boxes: dict[str, ImageBoxes], image_ids: list[str], maps: dict[str, np.ndarray]
) -> Figure:
    """A line an image; `maps` holds E-step maps at score cells as `moment/image`."""
    if not image_ids:
        raise WeaksegError(f"{results.paths.boxes}: no training image has a box, so there is nothing to show")
    folder, network = open_data(results.paths.manifest), results.study.network
    folders = (results.paths.box_maps(name) for name in ("bbox_rect", "bbox_seg"))
    readers = [map_reader(maps_folder, image_ids, results.labels) for maps_folder in folders]
    moments = [moment for moment in MOMENTS if any(name.startswith(f"{moment}/") for name in maps)]
    pixels_a_cell = network.output_stride / network.image_scale
    rows, captions, corners = [], [], []
    for image_id in image_ids:
        entry = boxes_of(boxes, image_id, results.paths.boxes)
        known = folder.has_pixel_labels(image_id)
        truth = folder.pixel_labels(image_id) if known else np.full(entry.size, IGNORE, dtype=np.uint8)
        labels = [read(image_id) for read in readers]
        labels += [at_pixels(maps[f"{moment}/{image_id}"], truth.shape, pixels_a_cell) for moment in moments]
        step = -(-max(truth.shape) // LONGEST_PX)
        rows.append([picture[::step, ::step] for picture in (folder.image(image_id), truth, *labels)])
        ious = [f"IOU {image_iou(truth, found):.0f} %" if known else "" for found in labels]
        captions.append([image_id, "truth" if known else "truth not known", *ious])
        corners.append(
            [(b.label, b.top // step, b.left // step, b.bottom // step, b.right // step) for b in entry.boxes]
        )
    titles = ["boxes", "truth", "Bbox-Rect", "Bbox-Seg", *(f"E-step, {MOMENTS[moment]}" for moment in moments)]
    return figures.picture_grid(rows, titles, captions, corners, results.labels)


def draw_alpha(results: StudyResults) -> Figure:
    """The search for alpha beside the published one."""
    return figures.alpha_curve(read_grid(results), PaperSetting.read(results.config_dir).alpha)
