"""The page's table of fields of view, against the published one."""

import math

import pytest

from weakseg.config import Network, load_paper
from weakseg.report.fields_of_view import fields_of_view
from weakseg.report.paper import PaperSetting, PublishedField


def test_vgg16_has_the_rows_of_the_published_table() -> None:
    table = fields_of_view(Network(trunk="vgg16"), PaperSetting.read("config").fields_of_view)
    shown = table[["fov", "multi_scale", "kernel", "rate", "channels", "nominal_px", "published_iou_crf"]]
    assert [tuple(row) for row in shown.itertuples(index=False)] == [
        ("small", False, 4, 4, 4096, 128, 63.74),
        ("rate8", False, 4, 8, 4096, 224, 67.14),
        ("seven", False, 7, 4, 4096, 224, 67.64),
        ("large", False, 3, 12, 1024, 224, 67.64),
        ("small", True, 4, 4, 4096, 128, 65.21),
        ("large", True, 3, 12, 1024, 224, 68.70),
    ]
    assert list(table.published_iou.dropna()) == [59.80, 64.38, 62.25, 61.30, 64.21]
    assert math.isnan(table.published_iou[1])
    assert list(table.parameters_m.round(1)) == [65.1, 65.1, 134.3, 20.5, 66.3, 21.7]
    assert list(table.window_px) == [104, 200, 200, 200, 104, 200]
    assert list(table.receptive_field_px) == [323, 419, 419, 435, 323, 435]
    # 41.2 of the trunk, and 1681 cells of fc6, fc7 and fc8.
    fc6 = [16 * 512 * 4096, 16 * 512 * 4096, 49 * 512 * 4096, 9 * 512 * 1024]
    heads = [fc6[i] + width**2 + 21 * width for i, width in enumerate((4096, 4096, 4096, 1024))]
    assert list(table.gmac[:4]) == pytest.approx([41.2 + 1681 * mac / 1e9 for mac in heads])
    assert list(table.gmac[4:]) == pytest.approx([table.gmac[i] + 1681 * 1.2053 / 1e3 for i in (0, 3)], rel=1e-4)


def test_another_network_has_its_own_figures_and_nothing_published() -> None:
    network = Network(trunk="tiny", output_stride=16, head_channels=32, crop_px=321, fov_scale=0.5)
    table = fields_of_view(network, [PublishedField(fov="small", iou=50, with_crf=60)], labels=5)
    assert table.published_iou.isna().all() and table.published_iou_crf.isna().all()
    assert list(table.rate) == [2, 2, 1, 3, 2, 3] and (table.channels == 32).all()
    assert table.parameters_m[4] - table.parameters_m[0] == pytest.approx(0.2938, abs=0.01)
    assert (table.gmac > 0.7).all() and table.gmac[0] < table.gmac[4] < table.gmac[0] + 0.2


def test_published_fields_of_view_are_no_table() -> None:
    assert {figure.table for figure in load_paper("config")} == {f"table{n}" for n in range(1, 7)}
    fields = PaperSetting.read("config").fields_of_view
    assert len(fields) == 6 and len({(row.fov, row.multi_scale) for row in fields}) == 6
