"""The search for Bbox-Seg's parameters and the quality of training labels, against plain loops."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from fabricate import make_study, prepare, write_voc, write_voc_boxes

from weakseg.annotations import bbox_seg_search
from weakseg.annotations.bbox_rect_maps import bbox_rect, write_bbox_rect
from weakseg.annotations.bbox_seg_maps import BboxSegParams, bbox_seg, write_bbox_seg
from weakseg.annotations.bbox_seg_search import read_bbox_seg_params, tune_bbox_seg
from weakseg.annotations.label_quality import measure_labels
from weakseg.crf import CRFParams
from weakseg.data.box_files import read_boxes, write_boxes
from weakseg.data.dataset import open_data
from weakseg.data.images import write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.metrics import confusion_matrix, iou

BOXES = {
    "alphas": [0.2, 0.6],
    "search": {"coarse": {"w": [4, 8], "sigma_xy": [10], "sigma_rgb": [5]}, "refine_rounds": 1, "iterations": 2},
    "quality_images": 3,
}


@pytest.fixture
def study(tmp_path):
    return make_study(write_voc_boxes(write_voc(tmp_path / "voc", val=6)), boxes=BOXES)


@pytest.fixture
def paths(study, tmp_path):
    return prepare(study, tmp_path / "results")


def plain_iou(paths, alpha, params):
    """Foreground IOU of one parameter set, image by image."""
    data, boxes = open_data(paths.manifest), read_boxes(paths.boxes, VOC)
    total = np.zeros((21, 21), dtype=np.int64)
    for image_id in data.ids("held_out"):
        labels = bbox_seg(data.image(image_id), boxes[image_id].boxes, BboxSegParams(alpha, params, 2))
        total += confusion_matrix(data.pixel_labels(image_id), labels, len(VOC))
    shown = [label for label in range(1, 21) if total[label].sum()]
    return 100 * np.mean([iou(total)[label] for label in shown])


def test_every_point_scores_as_a_plain_loop_and_the_best_wins(study, paths):
    tune_bbox_seg(study, paths)
    grid = pd.read_csv(paths.bbox_seg_grid)
    coarse = grid[grid["stage"] == "coarse"]
    assert list(coarse["alpha"]) == [0.2, 0.2, 0.6, 0.6] and list(coarse["w"]) == [4, 8, 4, 8]
    for row in grid.itertuples():
        params = CRFParams(row.w, row.sigma_xy, row.sigma_rgb, row.w_pos, row.sigma_pos)
        assert row.iou_foreground == pytest.approx(plain_iou(paths, row.alpha, params), abs=1e-9)
    fine = grid[grid["stage"] == "fine"]
    best = coarse.loc[coarse["iou_foreground"].idxmax()]
    assert set(fine["alpha"]) <= {best["alpha"]}
    chosen = json.loads(paths.bbox_seg_params.read_text())
    assert chosen["iou_foreground"] == grid["iou_foreground"].max()
    read = read_bbox_seg_params(paths.bbox_seg_params)
    assert (read.alpha, read.crf.w, read.iterations) == (chosen["alpha"], chosen["w"], 2)
    assert not [path for path in paths.boxes.parent.iterdir() if "partial" in path.name]


def test_a_killed_search_keeps_a_finished_stage(study, paths, monkeypatch):
    whole, calls = bbox_seg_search.parallel_map, []

    def dies_in_the_second_stage(function, items, **options):
        calls.append(function.points)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return whole(function, items, **options)

    monkeypatch.setattr(bbox_seg_search, "parallel_map", dies_in_the_second_stage)
    with pytest.raises(RuntimeError):
        tune_bbox_seg(study, paths)
    assert not paths.bbox_seg_grid.exists() and not paths.bbox_seg_params.exists()
    tune_bbox_seg(study, paths)
    assert len(calls) == 3 and calls[2] == calls[1]


def test_a_study_without_boxes_is_told_so(paths, study):
    without = study.model_copy(update={"boxes": None})
    for function in (tune_bbox_seg, lambda study, paths: measure_labels(study, paths, None)):
        with pytest.raises(WeaksegError, match="boxes: null"):
            function(without, paths)


def test_unusable_parameters_are_named(tmp_path):
    path = tmp_path / "bbox_seg.json"
    with pytest.raises(WeaksegError, match="weakseg tune-boxes"):
        read_bbox_seg_params(path)
    for content in ("{", "{}", '{"alpha": "x"}'):
        path.write_text(content)
        with pytest.raises(WeaksegError, match="not Bbox-Seg's parameters"):
            read_bbox_seg_params(path)


def test_label_quality_is_the_iou_of_the_maps(study, paths):
    data, boxes = open_data(paths.manifest), read_boxes(paths.boxes, VOC)
    write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))
    params = BboxSegParams(0.6, CRFParams(4, 10, 5), 2)
    write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params)
    measure_labels(study, paths, None)
    quality = pd.read_csv(paths.label_quality)
    ids = [data.ids("training")[k] for k in (0, 4, 7)]
    made = {
        "Bbox-Rect": lambda i: bbox_rect(boxes[i].boxes, boxes[i].size),
        "Bbox-Seg": lambda i: bbox_seg(data.image(i), boxes[i].boxes, params),
    }
    for method, (at, step) in itertools.product(made, (("pixels", 1), ("cells", 8))):
        total = np.zeros((21, 21), dtype=np.int64)
        for image_id in ids:
            pair = (data.pixel_labels(image_id), made[method](image_id))
            total += confusion_matrix(*(labels[::step, ::step] for labels in pair), len(VOC))
        rows = quality[(quality["method"] == method) & (quality["at"] == at)]
        assert list(rows["class"]) == list(VOC.names) and set(rows["images"]) == {3}
        shown = (total.sum(0) + total.sum(1)) > 0
        np.testing.assert_allclose(rows["iou"].to_numpy()[shown], 100 * iou(total)[shown], atol=1e-3)
        assert rows["iou"].isna().to_numpy().tolist() == (~shown).tolist()


def test_without_boxes_on_held_out_images_the_released_values_are_taken(study, paths, capsys):
    held = set(open_data(paths.manifest).ids("held_out"))
    boxes = {i: entry for i, entry in read_boxes(paths.boxes, VOC).items() if i not in held}
    write_boxes(paths.boxes, boxes, VOC, None)
    tune_bbox_seg(study, paths)
    assert "no held-out image has boxes" in capsys.readouterr().out
    found = read_bbox_seg_params(paths.bbox_seg_params)
    # The released code: alpha, then w, sigma_xy, sigma_rgb, w_pos and sigma_pos; iterations are the study's.
    assert found == BboxSegParams(0.2, CRFParams(45, 37, 3, 15, 3), 2)
    (row,) = pd.read_csv(paths.bbox_seg_grid).to_dict("records")
    assert (row["alpha"], row["stage"], row["images"]) == (0.2, "released", 0) and np.isnan(row["iou_foreground"])


def test_held_out_images_without_an_object_leave_the_released_values(study, paths, capsys):
    data = open_data(paths.manifest)
    for image_id in data.ids("held_out"):
        write_index_png(data.mask_path(image_id), np.zeros(data.size(image_id), dtype=np.uint8), VOC)
    tune_bbox_seg(study, paths)
    assert "no held-out image shows an object" in capsys.readouterr().out
    assert read_bbox_seg_params(paths.bbox_seg_params) == BboxSegParams(0.2, CRFParams(45, 37, 3, 15, 3), 2, 0.0)
