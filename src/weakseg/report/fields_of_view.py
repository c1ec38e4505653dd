"""What the fields of view of DeepLab's head cost, what they see, and what is published of them."""

import math
from collections.abc import Sequence

import pandas as pd
import torch

from weakseg import costs
from weakseg.config import FieldOfView, Network
from weakseg.model.heads import GEOMETRY
from weakseg.model.receptive_field import fc6_rate, fc6_window, nominal_field, receptive_field
from weakseg.model.segmenter import build_model
from weakseg.report.paper import PaperSetting, PublishedField
from weakseg.report.results import StudyResults, read_metrics
from weakseg.report.tables import MISSING

MULTI_SCALE: tuple[FieldOfView, ...] = ("small", "large")
"""Fields of view whose variant with multi-scale branches is published."""

PUBLISHED_FOR = "vgg16"
"""The trunk that the published figures are of."""


def fields_of_view(network: Network, published: Sequence[PublishedField] = (), *, labels: int = 21) -> pd.DataFrame:
    """A row a head, then one a head with multi-scale branches (MSc), of a network; nothing is computed with it.

    Args:
        network: trunk, output stride, channels and scale of the head; its weights are not read.
        published: as `PaperSetting.fields_of_view` has them; passed over where the trunk is not VGG-16.
        labels: L + 1.

    Returns:
        Columns `fov`, `multi_scale`, `kernel` (side of fc6's), `rate` and `channels` of fc6, `window_px`
        (((k - 1) rate + 1) cells), `nominal_px` (Chen et al.'s figure), `receptive_field_px` of a score, `parameters_m`
        (10^6), `gmac` (10^9 multiply-adds of the forward pass for 321 x 321 pixels), `published_iou` and
        `published_iou_crf` (percent, NaN where there are none).
    """
    known = {(row.fov, row.multi_scale): row for row in published if network.trunk == PUBLISHED_FOR}
    rows = []
    for fov, multi_scale in [*((fov, False) for fov in GEOMETRY), *((fov, True) for fov in MULTI_SCALE)]:
        with torch.device("meta"):
            model = build_model(network, fov=fov, num_labels=labels, multi_scale=multi_scale)
        figure = known.get((fov, multi_scale)) or PublishedField(fov=fov)
        rows.append(
            {
                "fov": fov,
                "multi_scale": multi_scale,
                "kernel": GEOMETRY[fov].kernel,
                "rate": fc6_rate(model.head),
                "channels": model.head.fc7.out_channels,
                "window_px": fc6_window(model.head, model.output_stride),
                "nominal_px": nominal_field(model.head, model.output_stride),
                "receptive_field_px": receptive_field(model),
                "parameters_m": sum(parameter.numel() for parameter in model.parameters()) / 1e6,
                "gmac": costs.forward_gmac(network, fov, multi_scale=multi_scale, labels=labels),
                "published_iou": _or_nan(figure.iou),
                "published_iou_crf": _or_nan(figure.with_crf),
            }
        )
    return pd.DataFrame(rows)


TABLE = "fields_of_view"
"""The table, none of the paper's, whose lines are one a field of view."""


def compared(results: StudyResults) -> pd.DataFrame:
    """Each field of view as people read it: what it is, what it costs, and its figures here and as published.

    `images/s` are those of the training that was made, evaluation left out; a run with branches trains these alone.
    """
    network = results.study.network
    published = PaperSetting.read(results.config_dir).fields_of_view
    frame = fields_of_view(network, published, labels=len(results.study.dataset.label_set()))
    rows = [row for row in results.experiments if row.line_in(TABLE)]
    metrics = read_metrics(StudyResults(results.study, rows, results.paths, results.config_dir))
    shown = []
    for line in frame.to_dict("records"):
        row = next((r for r in rows if (r.fov, r.multi_scale) == (line["fov"], line["multi_scale"])), None)
        runs = metrics[metrics["experiment"] == row.id] if row else metrics.iloc[:0]
        images = results.study.solver_of(row).iterations * results.study.solver_of(row).batch if row else 0
        shown.append(
            {
                "field of view": line["fov"] + (", multi-scale" if line["multi_scale"] else ""),
                "fc6": f"{line['kernel']}x{line['kernel']}, rate {line['rate']}",
                "channels": line["channels"],
                "window (px)": line["window_px"],
                "receptive field (px)": line["receptive_field_px"],
                "parameters (M)": f"{line['parameters_m']:.1f}",
                "multiply-adds (G)": f"{line['gmac']:.1f}",
                "images/s": MISSING if runs.empty else f"{images / runs['train_seconds'].mean():.0f}",
                "DCNN": _figure(runs["iou_dcnn"].mean()),
                "DCNN + CRF": _figure(runs["iou_crf"].mean()),
                "paper, DCNN": _figure(line["published_iou"]),
                "paper, + CRF": _figure(line["published_iou_crf"]),
            }
        )
    return pd.DataFrame(shown)


def _figure(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.1f}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
