"""The search for Bbox-Seg's parameters and the quality of training labels, against plain loops."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from fabricate import make_study, prepare, write_voc, write_voc_boxes

from weakseg.annotations.bbox_rect import bbox_rect, write_bbox_rect
from weakseg.annotations.bbox_seg import BboxSegParams, bbox_seg, write_bbox_seg
from weakseg.annotations.boxes import read_boxes, write_boxes
from weakseg.crf import CRFParams
from weakseg.data.prepare import held_out, open_data
from weakseg.errors import WeaksegError
from weakseg.evaluate import box_search, confusion_matrix, iou
from weakseg.evaluate.box_search import foreground_iou, object_iou, read_bbox_seg_params, tune_bbox_seg
from weakseg.evaluate.label_quality import measure_labels
from weakseg.labels import CLASSES

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
    paths = prepare(study, tmp_path / "results")
    write_boxes(paths.manifest, paths.boxes)
    return paths


def plain_iou(paths, alpha, params):
    """Foreground IOU of one parameter set, image by image."""
    folder, boxes = open_data(paths.manifest), read_boxes(paths.boxes)
    total = np.zeros((21, 21), dtype=np.int64)
    for image_id in held_out(paths.manifest):
        labels = bbox_seg(folder.image(image_id), boxes[image_id].boxes, BboxSegParams(alpha, params, 2))
        total += confusion_matrix(folder.labels(image_id), labels)
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
    whole, calls = box_search.parallel_map, []

    def dies_in_the_second_stage(function, items, **options):
        calls.append(function.points)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return whole(function, items, **options)

    monkeypatch.setattr(box_search, "parallel_map", dies_in_the_second_stage)
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


def test_foreground_iou_leaves_out_background_and_absent_classes():
    confusion = np.zeros((21, 21), dtype=np.int64)
    confusion[0, 0], confusion[0, 3], confusion[3, 3], confusion[5, 0], confusion[0, 9] = 100, 10, 30, 8, 4
    assert foreground_iou(confusion) == pytest.approx((100 * 30 / 40 + 0) / 2)
    assert object_iou(confusion) == pytest.approx(100 * 30 / (30 + 10 + 8 + 4))
    assert np.isnan(foreground_iou(np.diag([5] + [0] * 20)))


def test_label_quality_is_the_iou_of_the_maps(study, paths):
    folder, boxes = open_data(paths.manifest), read_boxes(paths.boxes)
    write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))
    params = BboxSegParams(0.6, CRFParams(4, 10, 5), 2)
    write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params)
    measure_labels(study, paths, None)
    quality = pd.read_csv(paths.label_quality)
    ids = [folder.ids("train_aug")[k] for k in (0, 4, 7)]
    made = {
        "Bbox-Rect": lambda i: bbox_rect(boxes[i].boxes, boxes[i].size),
        "Bbox-Seg": lambda i: bbox_seg(folder.image(i), boxes[i].boxes, params),
    }
    for method, (at, step) in itertools.product(made, (("pixels", 1), ("cells", 8))):
        total = np.zeros((21, 21), dtype=np.int64)
        for image_id in ids:
            total += confusion_matrix(folder.labels(image_id)[::step, ::step], made[method](image_id)[::step, ::step])
        rows = quality[(quality["method"] == method) & (quality["at"] == at)]
        assert list(rows["class"]) == list(CLASSES) and set(rows["images"]) == {3}
        shown = (total.sum(0) + total.sum(1)) > 0
        np.testing.assert_allclose(rows["iou"].to_numpy()[shown], 100 * iou(total)[shown], atol=1e-3)
        assert rows["iou"].isna().to_numpy().tolist() == (~shown).tolist()
