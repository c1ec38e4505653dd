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
from weakseg.report.paper import PublishedField

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


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
