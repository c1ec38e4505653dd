"""Mean IOU against what the annotation of the training images costs, at prices that a study and a reader can change."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from weakseg.config import AnnotationPrices, Experiment
from weakseg.report.figures import method_colour
from weakseg.report.html import cost_chart
from weakseg.report.paper import paper_lists, published_ious
from weakseg.report.results import StudyResults, data_counts, experiment_label, read_metrics

WIDTH, HEIGHT = 860, 400
"""Size of the drawing, in its own units; it has the axes on its left and lower edge."""

LOWEST, HIGHEST = 0.1, 100.0
"""Ends of the price axis, in percent of pixel labels for all training images."""

PRICE_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def prices_of(results: StudyResults) -> AnnotationPrices:
    """The study's prices (`report.prices`)."""
    return results.study.report.prices


def price(strong: int, weak: int, annotation: str, prices: AnnotationPrices) -> float:
    """What annotation costs, in boxes on one image.

    Args:
        strong: images with pixel labels.
        weak: images with weak annotation.
        annotation: of which kind, `image` or `box`.
        prices: of one image.
    """
    return strong * prices.pixel_labels + weak * (prices.boxes if annotation == "box" else prices.image_level)


def costs(results: StudyResults, prices: AnnotationPrices) -> pd.DataFrame:
    """What each line costs and reaches, cheapest first.

    Left out are variants of a line, and lines that have no place on one scale with the others: those scored on another
    list than val, and those that saw images of another data set, be it in the run that they start from.

    Columns: experiment, label, method, annotation, strong, weak (images really used), cost (in boxes on one image),
    share (percent of pixel labels for all training images), iou, sd (percent, over seeds; NaN for one), paper_strong,
    paper_weak (images of the paper), paper_share (likewise), published (NaN where it has no such line).
    """
    metrics, published = read_metrics(results), published_ious(results)
    images, listed = data_counts(results)["training"], paper_lists(results)["training"]
    rows = []
    elsewhere: set[str | None] = set()
    for row in results.experiments:
        if row.datasets or row.init_from in elsewhere:
            elsewhere.add(row.id)
        if row.variant is not None or row.stage != "val" or row.id in elsewhere:
            continue
        runs = metrics[metrics["experiment"] == row.id]
        strong, weak = int(runs["strong"].iloc[0]), int(runs["weak"].iloc[0])
        theirs = _paper_counts(row, listed)
        cost, paper_cost = (price(*counts, row.weak_annotation, prices) for counts in ((strong, weak), theirs))
        rows.append(
            {
                "experiment": row.id,
                "label": experiment_label(row),
                "method": row.title,
                "annotation": row.weak_annotation,
                "strong": strong,
                "weak": weak,
                "cost": cost,
                "share": 100 * cost / (images * prices.pixel_labels),
                "iou": runs["iou_crf"].mean(),
                "sd": runs["iou_crf"].std(),
                "paper_strong": theirs[0],
                "paper_weak": theirs[1],
                "paper_share": 100 * paper_cost / (listed * prices.pixel_labels),
                "published": published.get((row.table, row.line), math.nan),
            }
        )
    return pd.DataFrame(rows).sort_values("share", kind="stable", ignore_index=True)


def _paper_counts(row: Experiment, listed: int) -> tuple[int, int]:
    """Strong and weak images of the paper; a stream of all images has those of the list that no other has."""
    strong = min(row.strong, listed)
    return strong, min(row.weak, listed - strong)


def frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (price, IOU) those that no point of the same or a lower price reaches, cheapest first."""
    best: list[tuple[float, float]] = []
    for share, iou in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or iou > best[-1][1]:
            best.append((share, iou))
    return best


def draw_costs(results: StudyResults, made: Markup | str = "") -> Markup:
    """The plot with its sliders, and the table of its numbers; `made` stands under it (`html.made_of`)."""
    prices = prices_of(results)
    frame = costs(results, prices)
    known = frame[frame["published"].notna()]
    ours = list(zip(frame["share"], frame["iou"], strict=True))
    theirs = list(zip(known["paper_share"], known["published"], strict=True))
    top = 10 * math.ceil(max([*frame["iou"], *known["published"]]) / 10)
    return cost_chart(
        width=WIDTH,
        height=HEIGHT,
        lowest=LOWEST,
        highest=HIGHEST,
        top=top,
        prices=prices.model_dump(),
        images={"ours": data_counts(results)["training"], "paper": paper_lists(results)["training"]},
        price_ticks=[(f"{tick:g} %", across(tick)) for tick in PRICE_TICKS],
        iou_ticks=[(tick, down(tick, top)) for tick in range(0, top + 1, 10)],
        points=[_point(row, top) for row in frame.itertuples()],
        fronts={"ours": _polyline(frontier(ours), top), "paper": _polyline(frontier(theirs), top)},
        colours=_legend(frame["method"]),
        made=made,
    )


def _point(row: Any, top: float) -> dict[str, Any]:
    spread = "" if pd.isna(row.sd) else f" ± {row.sd:.1f}"
    published = None if pd.isna(row.published) else (across(row.paper_share), down(row.published, top))
    return {
        "experiment": row.experiment,
        "label": row.label,
        "annotation": row.annotation,
        "counts": {"ours": (row.strong, row.weak), "paper": (row.paper_strong, row.paper_weak)},
        "shape": "square" if row.strong == 0 else "circle" if row.weak else "diamond",
        "colour": method_colour(row.method),
        "at": (across(row.share), down(row.iou, top)),
        "published_at": published,
        "spread": None if pd.isna(row.sd) else round(HEIGHT * row.sd / top, 1),
        "share": f"{row.share:.1f}",
        "cost": f"{row.cost:,.0f}",
        "iou": f"{row.iou:.1f}{spread}",
        "published": "–" if published is None else f"{row.published:.1f}",
    }


def _legend(methods: Iterable[str]) -> dict[str, str]:
    """Name -> colour; methods of one colour (with and without pixel labels) stand under the name that they share."""
    names: dict[str, list[str]] = {}
    for method in dict.fromkeys(methods):
        names.setdefault(method_colour(method), []).append(method)
    return {of[0] if len(of) == 1 else of[0].partition(" (")[0]: colour for colour, of in names.items()}


def across(share: float) -> float:
    """Where a price stands on the logarithmic axis; one beyond its ends stands at the end."""
    place = math.log10(min(max(share, LOWEST), HIGHEST) / LOWEST) / math.log10(HIGHEST / LOWEST)
    return round(place * WIDTH, 1)


def down(iou: float, top: float) -> float:
    """Where a mean IOU stands, from the upper edge."""
    return round(HEIGHT * (1 - iou / top), 1)


def _polyline(points: Sequence[tuple[float, float]], top: float) -> str:
    return " ".join(f"{across(share)},{down(iou, top)}" for share, iou in points)


def assumptions(results: StudyResults) -> str:
    """What the prices rest on, in Markdown."""
    prices = prices_of(results)
    sentences = [
        f"Pixel labels for an image cost {prices.pixel_labels:g}, boxes {prices.boxes:g}, image-level labels "
        f"{prices.image_level:g}. The unit is the boxes of one image.",
        "That pixel labels cost 15 times as much as boxes is what the paper quotes of Lin et al. (2014), who annotated "
        "MS-COCO. No such figure is quoted for image-level labels: their price is an assumption of this project. The "
        "sliders change both prices here, and `report.prices` changes them for the study.",
        "An image costs the same whatever it shows. The pixel labels of the held-out images on which the CRF is tuned "
        "are left out; all lines use the same ones.",
        "The axis is in percent of what pixel labels for all training images would cost, so that a study with shorter "
        "lists and the paper stand on one scale.",
    ]
    return "\n".join(f"- {sentence}" for sentence in sentences)
