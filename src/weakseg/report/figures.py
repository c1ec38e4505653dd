"""Figures of the report: tidy frames and arrays in, matplotlib figures out.

They are made without pyplot, so that they do not depend on the backend that is set and nobody has to close them.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from weakseg.labels import BACKGROUND, IGNORE, LabelSet

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

PAINT = 0.78
"""Share of a class's colour where a label map lies over a photo."""

METHOD_COLOURS = {
    "EM-Fixed (Weak)": "#E69F00",
    "EM-Adapt (Weak)": "#D55E00",
    "EM-Fixed (Semi)": "#0072B2",
    "Bbox-Rect": "#56B4E9",
    "Bbox-EM-Fixed": "#CC79A7",
    "Bbox-Seg": "#5B3A8E",
    "Strong": "#009E73",
    "Cross-Pretrain": "#8C6D31",
    "Cross-Joint": "#B2182B",
}
"""Colour of a method on every page; black for others."""

PAPER_COLOUR = "#6b7280"
"""Colour of published figures."""

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.grid": True,
    "axes.axisbelow": True,
    "xtick.bottom": False,
    "ytick.left": False,
    "image.cmap": "cividis",
    "grid.color": "#e5e7eb",
    "svg.hashsalt": "weakseg",
}
"""Sizes fit a page of 1,016 pixels: a figure is at most 9.2 inches wide."""


def set_style() -> None:
    """One look for all figures, whatever a user's own settings are."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


def _figure(width: float, height: float, layout: Any = "constrained") -> tuple[Figure, Axes]:
    """An empty figure of so many inches, with one pair of axes."""
    figure = Figure(figsize=(width, height), layout=layout)
    return figure, figure.subplots()


def method_colour(method: str) -> str:
    """The colour of a method, or of a label that begins with its name, the same on every page."""
    return next((colour for name, colour in METHOD_COLOURS.items() if method.startswith(name)), "#000000")


def iou_against_strong(table: pd.DataFrame, train_images: int) -> Figure:
    """Mean IOU against the number of images with pixel labels, with its spread over seeds, beside the published one.

    Lines with both annotations and all images make the curve; lines with image-level labels alone stand at 0; strong
    training on a part is a point, on all images a level. Published figures stand in grey at the same share of `train`;
    what sees fewer images than its fellow, and what varies a line, is hollow. What was never published has no grey.
    Lines that the study does not run are left out.

    Args:
        table: rows of `tables/table1.csv`.
        train_images: images of the study's `train`, the right end of the curve.
    """
    figure, axes = _figure(9.2, 4.4)
    train_images = max(train_images, 1)  # a study without pixel labels has an axis too
    table = table[table["seeds"] > 0]
    table = table.assign(variant=table["line"].duplicated())
    lines = table[~table["variant"]]
    semi = lines[(lines["strong"] > 0) & (lines["weak"] > 0)]
    curve = semi.loc[semi.groupby("strong")["weak"].idxmax()]
    handles: list[Line2D] = []

    for method, rows in curve.groupby("method", sort=False):
        colour, spread = method_colour(str(method)), rows["iou_crf_sd"].fillna(0)
        axes.errorbar(rows["strong"], rows["iou_crf_mean"], spread, fmt="o-", color=colour, ms=5, capsize=3, zorder=3)
        known = rows[rows["published_iou"].notna()]
        if len(known):
            axes.plot(known["strong"], known["published_iou"], "o--", color=PAPER_COLOUR, mfc="white", ms=5, lw=1)
        handles.append(Line2D([], [], color=colour, marker="o", ms=5, label=f"{method}, all images"))

    # Points at one place stand beside each other, a step of the axis apart.
    step = 0.014 * train_images
    points = [*semi.drop(curve.index).itertuples(), *table[table["strong"] == 0].itertuples()]
    points += list(lines[(lines["weak"] == 0) & (lines["strong"] <= train_images)].itertuples())
    for row in points:
        hollow, colour = row.variant or row.strong * row.weak > 0, method_colour(row.method)
        marker = "s" if row.strong == 0 else "D" if row.weak else "P"
        place = row.strong + step * (row.variant if row.strong == 0 else 1.5 if row.weak == 0 else -1.5)
        style: dict[str, Any] = {"marker": marker, "color": colour, "mfc": "white" if hollow else colour, "ls": ""}
        spread = 0 if pd.isna(row.iou_crf_sd) else row.iou_crf_sd
        axes.errorbar([place], [row.iou_crf_mean], [spread], ms=6, capsize=3, zorder=4, **style)
        if not row.variant and pd.notna(row.published_iou):
            axes.plot([place], [row.published_iou], marker, color=PAPER_COLOUR, mfc="white", ms=5, zorder=2)
        what = f"{row.weak:,} weak images" if row.weak else f"{row.strong:,} alone"
        what = what if row.strong else f"{row.fov} FOV"
        handles.append(Line2D([], [], ms=6, label=f"{row.method}, {what}", **style))

    for row in lines[(lines["weak"] == 0) & (lines["strong"] > train_images)].itertuples():
        colour = method_colour(row.method)
        axes.axhline(row.iou_crf_mean, color=colour, ls="-.", lw=1.5)
        if pd.notna(row.published_iou):
            axes.axhline(row.published_iou, color=PAPER_COLOUR, ls="-.", lw=1)
        handles.append(Line2D([], [], color=colour, ls="-.", lw=1.5, label=f"{row.method}, all {row.strong:,}"))
    if table["published_iou"].notna().any():
        handles.append(Line2D([], [], color=PAPER_COLOUR, ls="--", marker="o", mfc="white", ms=5, label="published"))

    ticks = sorted({0, train_images, *curve["strong"]})
    axes.set_xticks(ticks, [f"{n:,}\n{100 * n / train_images:.0f} %" for n in ticks])
    axes.set_xlim(-0.04 * train_images, 1.05 * train_images)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="images with pixel labels, and their share of train", ylabel="mean IOU after the CRF (%)")
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def table_bars(table: pd.DataFrame, weak: str = "weak") -> Figure:
    """Each line of a table: this study without and with the CRF, beside the paper; `weak` names weak images.

    Lines that the study does not run show the published figure alone.
    """
    names = []
    for row in table.itertuples():
        counts = [f"{count:,} {kind}" for count, kind in ((row.strong, "strong"), (row.weak, weak)) if count]
        names.append(
            f"{row.method}, {row.fov} FOV\n{', '.join(counts)}" if row.seeds else f"{row.method}\nnot run here"
        )
    height = np.arange(len(table))[::-1]
    figure, axes = _figure(9.0, 0.52 * len(table) + 1)
    for offset, column, label, colour in (
        (0.27, "published_iou", "published (full VOC, VGG-16)", "#c5c8cd"),
        (0.0, "iou_crf_mean", "this study, with CRF", COLOURS[0]),
        (-0.27, "iou_dcnn_mean", "this study, without CRF", COLOURS[5]),
    ):
        known = table[column].notna().to_numpy()
        if not known.any():
            continue
        bars = axes.barh(height[known] + offset, table[column][known], 0.26, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=7.5, padding=2)
    axes.set_yticks(height, names)
    axes.set_xlabel("mean IOU (%)")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def heatmap(
    axes: Axes,
    cells: pd.DataFrame,
    text: str | None,
    *,
    columns: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    scale: tuple[float, float] | None = None,
) -> ScalarMappable:
    """Cells as coloured squares, the first row on top; an empty cell is white.

    Args:
        axes: where to draw.
        cells: the values.
        text: the format of the value that is written into each cell; None writes none.
        columns, rows: names in place of those of `cells`.
        scale: the values at the ends of the colours; the smallest and the largest where it is None.

    Returns:
        What a colour bar is made of.
    """
    values = np.ma.masked_invalid(cells.to_numpy(dtype=float))
    low, high = scale or (values.min(), values.max())
    mesh = axes.pcolormesh(values, vmin=low, vmax=high)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(values.shape[1]) + 0.5, list(columns or map(str, cells.columns)))
    axes.set_yticks(np.arange(values.shape[0]) + 0.5, list(rows or map(str, cells.index)))
    if text is not None:
        for (row, column), value in np.ma.ndenumerate(values):
            dark = value < (low + high) / 2  # cividis goes from dark to light
            axes.text(
                column + 0.5, row + 0.5, format(value, text), ha="center", va="center", fontsize=7,
                color="white" if dark else "black",
            )  # fmt: skip
    return mesh


def crf_heatmaps(grid: pd.DataFrame, *, columns: int = 4) -> Figure:
    """A panel a run: IOU on the held-out images over sigma_xy and sigma_rgb, at the best w; the winner is framed.

    Every panel has its own scale of colours, since runs differ more than parameters.
    """
    groups = list(grid.groupby(["label", "seed"], sort=False))
    columns = min(columns, len(groups))
    rows = -(-len(groups) // columns)
    axes_of = {"index": "sigma_xy", "columns": "sigma_rgb"}
    cells = [tried.pivot_table(**axes_of, values="iou", aggfunc="max") for _, tried in groups]
    height = 0.95 + 0.24 * max(len(cell) for cell in cells)
    figure = Figure(figsize=(9.2 * columns / 4, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, ((label, seed), tried), cell in zip(axes.flat, groups, cells, strict=False):
        best = tried.loc[tried["iou"].idxmax()]
        heatmap(
            axis, cell, ".1f" if cell.size <= 30 else None, columns=[f"{x:g}" for x in cell.columns],
            rows=[f"{y:g}" for y in cell.index],
        )  # fmt: skip
        corner = (list(cell.columns).index(best.sigma_rgb), list(cell.index).index(best.sigma_xy))
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, ec=COLOURS[1], lw=2, clip_on=False))
        name = str(label).replace(") ", ")\n", 1).replace(", ", "\n", 1) if len(str(label)) > 22 else f"{label}\n"
        axis.set_title(f"{name}  seed {seed:g}, w {best.w:g}".lstrip(), fontsize=7.5)
    figure.supxlabel("sigma_rgb (of 0..255)", fontsize=9)
    figure.supylabel("sigma_xy (pixels)", fontsize=9)
    return figure


def training_curves(logs: pd.DataFrame) -> Figure:
    """Loss, background in the weak images' label maps and learning rate, a column a kind of supervision, a line a run.

    Args:
        logs: as `results.read_logs` gives them; further seeds of an experiment are thin lines of its colour.
    """
    panels = (
        ("loss", "loss"),
        ("background_share", "background in weak\nimages' maps (%)"),
        ("lr", "learning rate"),
    )
    names = {"weak": "Weak annotation alone", "semi": "With pixel labels of train", "strong": "Pixel labels alone"}
    kinds = [kind for kind in names if (logs["kind"] == kind).any()]
    figure = Figure(figsize=(9.2 * len(kinds) / 3, 7.6), layout="constrained")
    axes = figure.subplots(len(panels), len(kinds), squeeze=False, sharex="col", sharey="row")
    for column, kind in enumerate(kinds):
        of_kind = logs[logs["kind"] == kind]
        colours = dict(zip(dict.fromkeys(of_kind["label"]), COLOURS, strict=False))
        for axis, (name, title) in zip(axes[:, column], panels, strict=True):
            known: set[str] = set()
            for (label, _), log in of_kind.groupby(["label", "seed"], sort=False):
                values = log[name] * (100 if name == "background_share" else 1)
                first = label not in known
                known.add(label)
                axis.plot(
                    log["iteration"], values, lw=1.3 if first else 0.7, color=colours.get(label, "#9ca3af"),
                    label=label if first else None,
                )  # fmt: skip
            if name == "background_share":
                axis.set_ylim(0, 100)
                if not of_kind[name].notna().any():
                    axis.text(0.5, 0.5, "no weak images", transform=axis.transAxes, ha="center", color=PAPER_COLOUR)
            else:
                axis.set_ylim(bottom=0)
            if column == 0:
                axis.set_ylabel(title)
        axes[0, column].set_title(names[kind])
        axes[-1, column].set_xlabel("iteration")
        axes[-1, column].legend(loc="upper left", bbox_to_anchor=(0, -0.28))
    return figure


def per_class_heatmap(per_class: pd.DataFrame, labels: LabelSet, column: str = "iou_crf") -> Figure:
    """IOU by class (columns) and experiment (rows), mean over seeds; the number of val images under each class."""
    cells = per_class.pivot_table(index="label", columns="class", values=column, sort=False)
    images = per_class.groupby("class")["images"].first()
    return _class_heatmap(cells, labels, {name: f"{name} ({images[name]})" for name in images.index})


def _class_heatmap(cells: pd.DataFrame, labels: LabelSet, names: dict[str, str]) -> Figure:
    """IOU in percent, a column a class in the order of the labels, other columns first; `names` are what it prints."""
    order = [name for name in cells.columns if name not in labels.names]
    cells = cells[order + [name for name in labels.names if name in cells.columns]]
    figure, axes = _figure(9.2, 0.38 * len(cells) + 1.6)
    mesh = heatmap(axes, cells, ".0f", columns=[names.get(name, name) for name in cells.columns], scale=(0, 100))
    figure.colorbar(mesh, ax=axes, label="IOU (%)", pad=0.01, fraction=0.03)
    for text in axes.get_xticklabels():
        text.set(rotation=60, ha="right", rotation_mode="anchor")
    return figure


def per_class_bars(per_class: pd.DataFrame, labels: LabelSet, experiments: Sequence[str]) -> Figure:
    """IOU by class with the CRF, a bar for each of a few experiments; its spread over seeds where there are several.

    Args:
        per_class: as `results.read_per_class` gives it.
        labels: the label set.
        experiments: labels of experiments (`results.experiment_label`), in the order of the bars.
    """
    figure, axes = _figure(9.2, 3.9)
    place, width = np.arange(len(labels)), 0.8 / max(len(experiments), 1)
    for number, name in enumerate(experiments):
        ious = per_class[per_class["label"] == name].groupby("class")["iou_crf"]
        mean, spread = (values.reindex(labels.names) for values in (ious.mean(), ious.std()))
        axes.bar(
            place + (number - (len(experiments) - 1) / 2) * width, mean, width, label=name, color=method_colour(name),
            yerr=spread if spread.notna().any() else None, error_kw={"linewidth": 0.9},
        )  # fmt: skip
    axes.set_xticks(place, labels.names, rotation=60, ha="right", rotation_mode="anchor")
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="IOU (%)", xlim=(-0.6, len(labels) - 0.4))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def confusion_figure(confusion: np.ndarray, labels: LabelSet) -> Figure:
    """Share of each true class (rows) that is given each label (columns)."""
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure, axes = _figure(7.5, 6.2)
    mesh = heatmap(axes, pd.DataFrame(share, labels.names, labels.names), None, scale=(0, 100))
    figure.colorbar(mesh, ax=axes, label="share of the true class (%)")
    axes.set(xlabel="labelled as", ylabel="truth")
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(labelsize=7)
    return figure


def colour_labels(label_map: np.ndarray, labels: LabelSet, photo: np.ndarray | None = None) -> np.ndarray:
    """A label map in its set's colours, void in white, (H, W, 3) uint8; over a pale grey photo where one is given.

    Over a photo the background shows it, so that one sees what a label covers.
    """
    colours = labels.palette()
    colours[IGNORE] = 255
    picture = colours[label_map]
    if photo is None:
        return picture
    grey = photo.mean(axis=2, keepdims=True)
    pale = np.broadcast_to(110 + grey * (145 / 255), picture.shape)
    mixed = np.where((label_map == BACKGROUND)[..., None], pale, PAINT * picture + (1 - PAINT) * grey)
    mixed[label_map == IGNORE] = 255
    return mixed.round().astype(np.uint8)


def qualitative_grid(
    rows: Sequence[Sequence[np.ndarray]],
    methods: Sequence[str],
    captions: Sequence[Sequence[str]],
    labels: LabelSet,
) -> Figure:
    """Two lines an image: the photo and the label maps without the CRF, below them the truth and the maps with it.

    Label maps have the colours of their label set over the photo in grey; a legend names the classes shown.

    Args:
        rows: for each image the photo (H, W, 3) uint8, its truth (H, W), then for each method the label maps (H, W)
            without and with the CRF.
        methods: titles of the columns.
        captions: for each image the text under each picture, in the order of `rows`.
        labels: the label set.
    """
    columns = 1 + len(methods)
    cell = min(1.95, 8.9 / columns)
    narrow = cell < 1.4
    heights = [cell * row[0].shape[0] / row[0].shape[1] + 0.2 for row in rows for _ in range(2)]
    total = sum(heights) + 1.2
    figure = Figure(figsize=(cell * columns + 0.3, total))
    axes = figure.subplots(
        len(heights),
        columns,
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights,
            "wspace": 0.04,
            "hspace": 0.14,
            "left": 0.04,
            "right": 0.995,
            "top": 1 - 0.65 / total,
            "bottom": 0.55 / total,
        },
    )
    shown: set[int] = set()
    for line, (pictures, texts) in enumerate(zip(rows, captions, strict=True)):
        photo = pictures[0]
        for number, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            axis = axes[2 * line + number % 2, number // 2]
            if picture.ndim == 2:
                shown |= set(np.unique(picture).tolist())
                picture = colour_labels(picture, labels, photo)
            axis.imshow(picture)
            axis.set_xlabel(text, fontsize=7.5, labelpad=1.5)
        for axis, text in zip(axes[2 * line : 2 * line + 2, 0], ("without CRF", "with CRF"), strict=True):
            axis.set_ylabel(text, fontsize=7.5, color=PAPER_COLOUR)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, method in zip(axes[0][1:], methods, strict=True):
        axis.set_title(method.replace(" (", "\n(") if narrow else method, fontsize=6.5 if narrow else 8.5)
    figure.legend(handles=_class_patches(shown, labels), loc="lower center", ncols=8, columnspacing=1.2)
    return figure


def _class_patches(shown: set[int], labels: LabelSet) -> list[Patch]:
    """A patch a class in the colours of `colour_labels`; void comes last, background, which shows the photo, not."""
    colours = PAINT * labels.palette() / 255 + (1 - PAINT) / 2
    patches = [
        Patch(facecolor=colours[label], edgecolor=PAPER_COLOUR, label=labels.text(label))
        for label in sorted(shown - {BACKGROUND, IGNORE})
    ]
    return patches + ([Patch(facecolor="white", edgecolor=PAPER_COLOUR, label="void")] if IGNORE in shown else [])


def alpha_curve(grid: pd.DataFrame, published: dict[float, float]) -> Figure:
    """IOU of the recovered foreground against alpha: the best CRF parameters of each, all others, and the paper.

    Args:
        grid: rows of bbox_seg_grid.csv.
        published: IOU in percent by alpha.
    """
    figure, axes = _figure(6.6, 3.6)
    best = grid.groupby("alpha")["iou_foreground"].max()
    axes.plot(
        100 * grid["alpha"], grid["iou_foreground"], "o", ms=3, color=COLOURS[5], alpha=0.6,
        label="every CRF parameter set tried",
    )  # fmt: skip
    axes.plot(100 * best.index, best, "o-", ms=6, color=METHOD_COLOURS["Bbox-Seg"], label="the best of each alpha")
    if published:
        axes.plot(
            [100 * alpha for alpha in published], list(published.values()), "o--", ms=5, lw=1, mfc="white",
            color=PAPER_COLOUR, label="published (100 images of VOC 2012)",
        )  # fmt: skip
    axes.set_xticks(sorted({round(100 * alpha) for alpha in (*published, *grid["alpha"])}))
    axes.set(xlabel="alpha: core of a box (%)", ylabel="IOU of the foreground (%)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def quality_heatmap(quality: pd.DataFrame, labels: LabelSet) -> Figure:
    """IOU of training labels against the truth at the score cells, by class (columns) and method (rows).

    Without rows, for which no training image had pixel labels, it says so.

    Args:
        quality: rows of label_quality.csv.
        labels: the label set.
    """
    cells = quality[quality["at"] == "cells"]
    if cells.empty:
        figure, axes = _figure(9.2, 0.8)
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no training image has pixel labels to compare with", ha="center", color=PAPER_COLOUR)
        return figure
    names = cells["method"] + np.where(cells["moment"] == "fixed", "", ", " + cells["moment"])
    table = cells.assign(name=names).pivot_table(index="name", columns="class", values="iou", sort=False)
    return _class_heatmap(table.assign(**{"mean of all": table.mean(axis=1)}), labels, {})


BoxCorners = Sequence[tuple[int, int, int, int, int]]
"""Boxes of an image: label, first row, first column, last row, last column."""


def picture_grid(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    captions: Sequence[Sequence[str]],
    boxes: Sequence[BoxCorners],
    labels: LabelSet,
) -> Figure:
    """A line an image: its photo with boxes, then label maps in colour over the photo in grey; a legend below.

    Args:
        rows: for each image the photo (H, W, 3) uint8 and label maps (H, W).
        titles: of the columns.
        captions: for each image the text under each picture.
        boxes: for each image its boxes, in pixels of the photo.
        labels: the label set.
    """
    columns = len(titles)
    cell = min(2.9, 9.0 / columns)
    heights = [cell * row[0].shape[0] / row[0].shape[1] + 0.2 for row in rows]
    total = sum(heights) + 1.1
    figure = Figure(figsize=(cell * columns + 0.2, total))
    axes = figure.subplots(
        len(rows),
        columns,
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights, "wspace": 0.04, "hspace": 0.14, "left": 0.01, "right": 0.99,
            "top": 1 - 0.45 / total, "bottom": 0.65 / total,
        },
    )  # fmt: skip
    shown = {box[0] for corners in boxes for box in corners}
    for line, (pictures, texts, corners) in enumerate(zip(rows, captions, boxes, strict=True)):
        photo = pictures[0]
        for axis, picture, text in zip(axes[line], pictures, texts, strict=True):
            if picture.ndim == 2:
                shown |= set(np.unique(picture).tolist())
                picture = colour_labels(picture, labels, photo)
            axis.imshow(picture)
            axis.set_xlabel(text, fontsize=7, labelpad=1.5)
        draw_boxes(axes[line, 0], corners, labels)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    figure.legend(handles=_class_patches(shown, labels), loc="lower center", ncols=8, columnspacing=1.2)
    return figure


def draw_boxes(axis: Axes, boxes: BoxCorners, labels: LabelSet) -> None:
    """Draw boxes in the colours of their classes, with a pale line within so that they show on any photo."""
    colours = labels.palette() / 255
    for label, top, left, bottom, right in boxes:
        place, width, height = (left - 0.5, top - 0.5), right - left + 1, bottom - top + 1
        axis.add_patch(Rectangle(place, width, height, fill=False, ec="white", lw=2.2))
        axis.add_patch(Rectangle(place, width, height, fill=False, ec=colours[label], lw=1.3))
