"""Figures of the report: tidy frames and arrays in, matplotlib figures out."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from weakseg.labels import CLASSES, IGNORE, palette

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def set_style() -> None:
    """One look for all figures."""
    sns.set_theme(context="notebook", style="whitegrid", palette=list(COLOURS))
    plt.rcParams.update({"figure.dpi": 90, "savefig.bbox": "tight", "font.size": 10, "axes.titleweight": "bold"})


def iou_against_strong(table: pd.DataFrame, train_images: int) -> Figure:
    """Mean IOU against the number of strong images: this study with its spread over seeds, and the paper's curve.

    Args:
        table: rows of `tables/table1.csv`; semi-supervised lines with all weak images make the curve, the best weakly
            supervised line stands at 0.
        train_images: images of the study's `train`, the right end of the curve.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    semi = table[table["method"].str.contains("Semi") & (table["line"] != 7)].sort_values("strong")
    weak = table[table["method"].str.contains("Weak")].sort_values("iou_crf_mean").tail(1)
    curve = pd.concat([weak, semi])
    axes.errorbar(
        curve["strong"],
        curve["iou_crf_mean"],
        yerr=curve["iou_crf_sd"].fillna(0),
        marker="o",
        capsize=4,
        color=COLOURS[0],
        label="this study, with weak images",
    )
    axes.plot(
        curve["strong"],
        curve["published_iou"],
        marker="s",
        ls="--",
        color=COLOURS[1],
        label="paper, same share of images",
    )
    strong = table[table["method"] == "Strong"]
    for row in strong.itertuples():
        everything = row.line == strong["line"].max()
        name = "all of train_aug" if everything else "train alone"
        axes.axhline(
            row.iou_crf_mean,
            color=COLOURS[2],
            lw=1.2,
            ls="-" if everything else ":",
            label=f"this study, strong only: {name}",
        )
    axes.set_xlim(-0.02 * train_images, 1.05 * train_images)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="images with pixel labels", ylabel="mean IOU after the CRF (%)")
    axes.legend(loc="lower right", frameon=True, fontsize=9)
    return figure


def table_bars(table: pd.DataFrame) -> Figure:
    """Each line of a table: this study without and with the CRF, beside the paper."""
    names = [
        f"{r.method}\n{r.strong:,} + {r.weak:,}" + ("" if r.fov == "small" else " (large FOV)")
        for r in table.itertuples()
    ]
    height = np.arange(len(table))[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(table) + 1))
    for offset, column, label, colour in (
        (0.27, "published_iou", "paper (full VOC, VGG-16)", "#bbbbbb"),
        (0.0, "iou_crf_mean", "this study, with CRF", COLOURS[0]),
        (-0.27, "iou_dcnn_mean", "this study, without CRF", COLOURS[5]),
    ):
        bars = axes.barh(height + offset, table[column], 0.25, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.set_yticks(height, names, fontsize=8)
    axes.set_xlabel("mean IOU (%)")
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.09), ncols=3, frameon=False)
    return figure


def crf_heatmaps(grid: pd.DataFrame, *, columns: int = 4) -> Figure:
    """A panel a run: IOU on the held-out images over sigma_xy and sigma_rgb, the best w of each cell."""
    groups = list(grid.groupby(["label", "seed"], sort=False))
    columns = min(columns, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, ((label, seed), tried) in zip(axes.flat, groups, strict=False):
        best = tried.loc[tried["iou"].idxmax()]
        cells = tried.pivot_table(index="sigma_xy", columns="sigma_rgb", values="iou", aggfunc="max")
        sns.heatmap(
            cells, ax=axis, cmap="cividis", annot=cells.size <= 30, fmt=".1f", cbar=False, annot_kws={"size": 8}
        )
        axis.set_title(f"{label}\nseed {seed}: best w {best.w:g}, {best.sigma_xy:g}, {best.sigma_rgb:g}", fontsize=8)
        axis.set_xlabel("sigma_rgb", fontsize=8)
        axis.set_ylabel("sigma_xy", fontsize=8)
        axis.tick_params(labelsize=8)
    return figure


def training_curves(logs: pd.DataFrame) -> Figure:
    """Loss, its weak half, the rate, and the share of background in the E-step's maps, a line a run."""
    panels = (
        ("loss", "loss"),
        ("loss_weak", "loss of the weak half"),
        ("background_share", "background in the E-step's maps"),
        ("lr", "base learning rate"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
    labels = list(dict.fromkeys(logs["label"]))
    colours = dict(zip(labels, sns.color_palette("husl", len(labels)), strict=True))
    for axis, (column, title) in zip(axes.flat, panels, strict=True):
        for (label, _), log in logs.groupby(["label", "seed"], sort=False):
            values = log.dropna(subset=[column])
            smooth = values[column].rolling(5, min_periods=1).mean()
            axis.plot(values["iteration"], smooth, lw=1.1, color=colours[label], label=label)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("iteration", fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def per_class_heatmap(per_class: pd.DataFrame, column: str = "iou_crf") -> Figure:
    """IOU by class (columns) and experiment (rows), mean over seeds; the number of val images under each class."""
    cells = per_class.pivot_table(index="label", columns="class", values=column, sort=False)
    present = [name for name in CLASSES if name in cells.columns]
    images = per_class.groupby("class")["images"].first()
    figure, axes = plt.subplots(figsize=(11, 0.42 * len(cells) + 1.8))
    sns.heatmap(
        cells[present], ax=axes, cmap="viridis", vmin=0, vmax=100, annot=True, fmt=".0f", annot_kws={"size": 7},
        cbar_kws={"label": "IOU (%)"},
    )  # fmt: skip
    axes.set_xticklabels([f"{name} ({images[name]})" for name in present], rotation=60, ha="right", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="", ylabel="")
    return figure


def per_class_bars(per_class: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """IOU by class with the CRF, a bar for each of a few experiments."""
    chosen = per_class[per_class["label"].isin(labels)]
    figure, axes = plt.subplots(figsize=(11, 3.8))
    sns.barplot(
        chosen,
        x="class",
        y="iou_crf",
        hue="label",
        hue_order=list(labels),
        order=list(CLASSES),
        ax=axes,
        errorbar="sd",
        palette=list(COLOURS[: len(labels)]),
    )
    axes.set(xlabel="", ylabel="IOU (%)")
    axes.tick_params(axis="x", rotation=60, labelsize=8)
    axes.legend(title="", fontsize=8, ncols=2)
    return figure


def confusion_figure(confusion: np.ndarray) -> Figure:
    """Share of each true class (rows) that is given each label (columns)."""
    share = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(7.5, 6.2))
    sns.heatmap(share, ax=axes, cmap="viridis", vmin=0, vmax=100, xticklabels=list(CLASSES), yticklabels=list(CLASSES))
    axes.set(xlabel="labelled as", ylabel="truth")
    axes.tick_params(labelsize=7)
    return figure


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """A label map in VOC colours, void in white; (H, W, 3) uint8."""
    colours = palette()
    colours[IGNORE] = 255
    return colours[labels]


def qualitative_grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], captions: Sequence[str]) -> Figure:
    """Images in rows: the photo first, then label maps in VOC colours; a caption a row, a legend of the classes shown.

    Args:
        rows: for each image the photo (H, W, 3) uint8, then label maps (H, W) uint8.
        titles: of the columns.
        captions: of the rows.
    """
    width = 1.75
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(width * len(titles), 1.42 * len(rows) + 0.8),
        squeeze=False,
        layout="constrained",
    )
    shown: set[int] = set()
    for line, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        for column, picture in enumerate(pictures):
            axis = axes[line, column]
            if picture.ndim == 2:
                shown |= set(np.unique(picture).tolist())
                picture = colour_labels(picture)
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if line == 0:
                axis.set_title(titles[column], fontsize=8)
        axes[line, 0].set_ylabel(caption, fontsize=7)
    names = [label for label in sorted(shown) if label < len(CLASSES)]
    patches = [Patch(facecolor=palette()[label] / 255, edgecolor="grey", label=CLASSES[label]) for label in names]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(8, len(patches)), fontsize=8, frameon=False)
    return figure
