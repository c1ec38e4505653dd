"""IOU against the cost of annotation: prices, the scale that studies and the paper share, and what is drawn."""

import dataclasses
import math
import re

import pytest

from weakseg.config import AnnotationPrices
from weakseg.report.annotation_cost import (
    HEIGHT,
    WIDTH,
    across,
    assumptions,
    costs,
    down,
    draw_costs,
    frontier,
    price,
)

PRICES = AnnotationPrices()


def test_each_image_costs_by_its_annotation():
    assert price(2, 10, "image", PRICES) == 2 * 15 + 10 * 0.2
    assert price(0, 10, "box", PRICES) == 10
    assert price(3, 0, "none", AnnotationPrices(pixel_labels=7)) == 21


def test_lines_stand_on_the_scale_of_pixel_labels_for_all(finished):
    frame = costs(finished, PRICES).set_index("experiment")
    assert len(frame) == 16 and frame["share"].is_monotonic_increasing  # two of 18 are variants
    assert frame.loc["strong_10582", "share"] == frame.loc["strong_10582", "paper_share"] == 100
    # 20 of 50 images with pixel labels, 30 with image-level labels; in the paper 1,464 and 9,118 of 10,582.
    semi = frame.loc["em_fixed_semi_1464_9118"]
    assert (semi["cost"], semi["share"]) == (306, pytest.approx(100 * 306 / 750))
    assert semi["paper_share"] == pytest.approx(100 * (1464 * 15 + 9118 * 0.2) / (10582 * 15))
    assert frame.loc["bbox_seg_weak", "share"] == pytest.approx(100 / 15)
    assert (frame.loc["em_adapt_weak", "iou"], frame.loc["em_adapt_weak", "sd"]) == (31, 1)
    assert math.isnan(frame.loc["bbox_seg_weak", "sd"]) and frame.loc["bbox_seg_weak", "published"] == 60.6
    dear = costs(finished, AnnotationPrices(image_level=15)).set_index("experiment")
    assert dear.loc["em_adapt_weak", "share"] == 100


def test_lines_on_another_list_or_another_data_set_have_no_place_there(finished, second):
    assert list(costs(second, PRICES)["experiment"]) == list(costs(finished, PRICES)["experiment"])


@pytest.mark.parametrize(("experiment", "share"), [("strong_10582", 100), ("bbox_seg_weak", 100 / 15)])
def test_a_line_of_all_images_costs_those_of_the_paper_s_list(finished, experiment, share):
    row = next(row for row in finished.experiments if row.id == experiment)
    streams = tuple(stream.model_copy(update={"images": "all"}) for stream in row.streams)
    rows = [row.model_copy(update={"streams": streams})]
    frame = costs(dataclasses.replace(finished, experiments=rows), PRICES)
    assert frame.loc[0, "paper_share"] == pytest.approx(share)


def test_lines_that_were_never_published_have_no_mark_of_the_paper(with_own):
    frame = costs(with_own, PRICES).set_index("experiment")
    assert math.isnan(frame.loc["mine", "published"])
    assert draw_costs(with_own).count('data-whose="paper"') == 16


def test_the_front_joins_what_no_cheaper_line_reaches():
    points = [(5, 50), (1, 20), (1, 30), (5, 40), (10, 50), (20, 60)]
    assert frontier(points) == [(1, 30), (5, 50), (20, 60)]
    assert frontier([]) == []


def test_the_axes():
    assert (across(0.1), across(100), across(0.01), across(1)) == (0, WIDTH, 0, round(WIDTH / 3, 1))
    assert (down(0, 60), down(60, 60), down(30, 60)) == (HEIGHT, 0, HEIGHT / 2)


def test_every_point_stands_at_its_price_and_links_to_its_runs(finished):
    html = draw_costs(finished, "")
    found = re.search(r'href="runs.html#bbox_seg_weak".*?translate\(([\d.]+) ([\d.]+)\)', html)
    assert [float(value) for value in found.groups()] == [across(100 / 15), down(39, 70)]
    assert html.count('data-whose="ours"') == 16
    assert html.count('class="spread"') == 1 and f'y2="{round(HEIGHT / 70, 1)}"' in html  # one line has several seeds
    assert '<td id="em_fixed_semi_1464_9118-cost">306</td>' in html
    legend = re.search('<p class="legend">(.*?)</p>', html)[1]
    assert legend.count("Bbox-Rect") == 1 and "EM-Fixed (Weak)" in legend and "EM-Fixed (Semi)" in legend


def test_prices_of_the_study_are_the_page_s(finished):
    report = finished.study.report.model_copy(update={"prices": AnnotationPrices(pixel_labels=80, image_level=0.5)})
    changed = dataclasses.replace(finished, study=finished.study.model_copy(update={"report": report}))
    html = draw_costs(changed, "")
    assert 'max="80' in html and 'value="0.5"' in html and ">1,615</td>" in html  # 20 x 80 + 30 x 0.5
    assert "cost 80, boxes 1, image-level labels 0.5" in assumptions(changed)
    assert "quotes of Lin et al. (2014)" in assumptions(changed) and "assumption of this project" in assumptions(
        changed
    )
