"""A study whose training images have boxes from XML alone: what is not known is said, and no page breaks."""

import matplotlib
import pandas as pd
import pytest
from fabricate import write_voc, write_voc_boxes

from report.tree import make_tree
from weakseg.annotations.bbox_seg_search import tune_bbox_seg
from weakseg.labels import VOC
from weakseg.report import box_pages, figures, html
from weakseg.report.findings import write_findings
from weakseg.report.notes import about, differences
from weakseg.report.reference import _draw_figures
from weakseg.report.tables import write_table

RUN = ["bbox_em_fixed_weak", "bbox_seg_weak"]


@pytest.fixture(scope="module")
def unmasked(tmp_path_factory, project_root):
    """Masks for evaluation images only, and boxes for training images only."""
    root = tmp_path_factory.mktemp("unmasked")
    voc = write_voc_boxes(write_voc(root / "voc", train_aug=6, val=4))
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "train.txt").unlink()
    for image_id in (lists / "train_aug.txt").read_text().split():
        (voc / "SegmentationClassAug" / f"{image_id}.png").unlink()
    for image_id in (lists / "val.txt").read_text().split():
        (voc / "Annotations" / f"{image_id}.xml").unlink()
    results = make_tree(root, project_root, voc, experiments=RUN, seeds_for={})
    tune_bbox_seg(results.study, results.paths)
    for table in results.tables:
        write_table(results.study, results.paths, results.config_dir, table)
    write_findings(results.study, results.paths, results.config_dir)
    return results


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        figures.set_style()
        yield


def test_pictures_say_that_the_truth_is_not_known(unmasked):
    boxes, figure4 = box_pages.draw_boxes_page(unmasked), box_pages.draw_figure4(unmasked)
    for figure, columns in ((boxes, 4), (figure4, 7)):
        captions = [[axes.get_xlabel() for axes in figure.axes[k : k + columns]] for k in (0, columns)]
        assert all(texts[1:] == ["truth not known", *[""] * (columns - 2)] for texts in captions)
        # Void everywhere, and the legend names it.
        assert (figure.axes[1].images[0].get_array() == 255).all()
        assert "void" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_quality_without_rows_is_a_figure_that_says_so(unmasked):
    quality = box_pages.read_quality(unmasked)
    assert quality.empty and "iou" in quality
    figure = figures.quality_heatmap(quality, VOC)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no training image has pixel labels to compare with"]
    assert html.image_tag(figure, "quality").startswith("<img")
    means = box_pages.quality_means(unmasked)
    assert means.empty and list(means) == ["labels of", "at score cells", "at pixels"]
    assert html.html_rows(means, text=("labels of",)).count("<tr") == 1


def test_alpha_was_not_searched(unmasked):
    assert pd.read_csv(unmasked.paths.bbox_seg_grid)["stage"].tolist() == ["released"]
    (row,) = box_pages.alpha_table(unmasked).to_dict("records")
    assert row == {
        "alpha": "20 %", "w": "45", "sigma_xy": "37", "sigma_rgb": "3",
        "IOU of classes": "–", "IOU of all objects": "–", "paper": "72.6",
    }  # fmt: skip
    ours, *_ = [line for line in box_pages.draw_alpha(unmasked).axes[0].get_lines() if line.get_label() != "_"]
    assert pd.isna(ours.get_ydata()).all()


def test_what_is_said_and_kept_of_it(unmasked):
    assert "6 for training (0 of them in `train`)" in about(unmasked)
    text = " ".join(differences(unmasked))
    assert "All boxes come from XML annotations" in text
    assert "0 of them listed with pixel labels" in text
    assert {"alpha.png", "figure4.jpg", "qualitative.jpg"} <= _draw_figures(unmasked).keys()
