"""The search for Bbox-Seg's parameters where some held-out images, or all, have no boxes."""

import json

import numpy as np
import pandas as pd
import pytest
from fabricate import make_study, prepare, write_voc, write_voc_boxes

from weakseg.annotations import bbox_seg_search
from weakseg.annotations.bbox_seg_maps import BboxSegParams, bbox_seg
from weakseg.annotations.bbox_seg_search import read_bbox_seg_params, tune_bbox_seg
from weakseg.crf import CRFParams
from weakseg.data.box_files import read_boxes
from weakseg.data.dataset import open_data
from weakseg.data.voc import VocFolder
from weakseg.labels import VOC
from weakseg.metrics import confusion_matrix, foreground_iou

BOXES = {
    "alphas": [0.4, 0.6],
    "search": {"coarse": {"w": [4], "sigma_xy": [10], "sigma_rgb": [5]}, "refine_rounds": 0, "iterations": 2},
    "occluder_bias": 0.1,
}


@pytest.fixture
def root(tmp_path):
    """A folder with two held-out images."""
    root = write_voc_boxes(write_voc(tmp_path / "voc"))
    folder = VocFolder(root)
    folder.list_path("crf_val").write_text("\n".join(folder.read_list("val")[:2]))
    return root


def test_the_released_values_where_no_held_out_image_has_boxes(root, tmp_path, monkeypatch, capsys):
    folder = VocFolder(root)
    for image_id in folder.read_list("crf_val"):
        folder.annotation_path(image_id).unlink()
    study = make_study(root, boxes=BOXES)
    paths = prepare(study, tmp_path / "results")
    monkeypatch.setattr(bbox_seg_search, "parallel_map", None)  # nothing is tried
    tune_bbox_seg(study, paths)
    released = CRFParams(45, 37, 3, 15, 3)
    assert read_bbox_seg_params(paths.bbox_seg_params) == BboxSegParams(0.2, released, 2, 0.1)
    (row,) = pd.read_csv(paths.bbox_seg_grid).to_dict("records")
    assert (row["alpha"], row["w"], row["sigma_xy"], row["sigma_rgb"]) == (0.2, 45, 37, 3)
    assert (row["w_pos"], row["sigma_pos"], row["stage"], row["images"]) == (15, 3, "released", 0)
    assert np.isnan(row["iou_foreground"]) and np.isnan(row["iou_objects"])
    assert "released values" in capsys.readouterr().out


def test_the_held_out_images_with_boxes_are_searched_on(root, tmp_path):
    folder = VocFolder(root)
    kept, left = folder.read_list("crf_val")
    folder.annotation_path(left).unlink()
    study = make_study(root, boxes=BOXES)
    paths = prepare(study, tmp_path / "results")
    tune_bbox_seg(study, paths)
    grid = pd.read_csv(paths.bbox_seg_grid)
    assert list(grid["alpha"]) == [0.4, 0.6] and set(grid["images"]) == {1} and set(grid["stage"]) == {"coarse"}
    data, entry = open_data(paths.manifest), read_boxes(paths.boxes, VOC)[kept]
    for row in grid.itertuples():
        params = BboxSegParams(row.alpha, CRFParams(4, 10, 5), 2, 0.1)
        found = bbox_seg(data.image(kept), entry.boxes, params)
        expected = foreground_iou(confusion_matrix(data.pixel_labels(kept), found, 21))
        assert row.iou_foreground == pytest.approx(expected, abs=1e-9)
    assert json.loads(paths.bbox_seg_params.read_text())["images"] == 1
