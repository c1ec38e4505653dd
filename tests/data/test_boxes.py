"""Boxes: what one is, and the file that holds them."""

import json

import numpy as np
import pytest

from weakseg.data.box_files import boxes_of, read_agreement, read_boxes, write_boxes
from weakseg.data.boxes import Box, ImageBoxes, box_iou, check_boxes, largest_first
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet

SIZE = (30, 40)


@pytest.mark.parametrize("box", [Box(0, 0, 0, 1, 1), Box(21, 0, 0, 1, 1), Box(1, 3, 0, 2, 1), Box(1, 0, 0, 30, 1)])
def test_boxes_that_are_none_are_refused(box):
    with pytest.raises(WeaksegError, match="here: box 2"):
        check_boxes([Box(1, 0, 0, 0, 0), box], SIZE, "here", VOC)


def test_box_iou_is_that_of_the_pixels():
    rng = np.random.default_rng(0)
    for _ in range(200):
        masks, boxes = [], []
        for _ in range(2):
            top, left = rng.integers(0, 12, 2)
            box = Box(1, int(top), int(left), int(rng.integers(top, 12)), int(rng.integers(left, 12)))
            mask = np.zeros((12, 12), bool)
            mask[box.pixels] = True
            masks.append(mask)
            boxes.append(box)
            assert mask.sum() == box.area
        assert box_iou(*boxes) == pytest.approx((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())


def test_order_is_by_extent_and_stable():
    wide, tall, line = Box(1, 0, 0, 1, 4), Box(2, 0, 0, 4, 1), Box(3, 0, 0, 0, 9)
    assert largest_first([line, wide, tall]) == [wide, tall, line]
    assert largest_first([line, tall, wide]) == [tall, wide, line]


def test_boxes_come_back_from_their_file(tmp_path):
    path, own = tmp_path / "boxes.json", LabelSet.of_classes("own", ["cat", "lawn mower"])
    entries = {
        "a": ImageBoxes(SIZE, (Box(2, 1, 2, 3, 4), Box(1, 0, 0, 29, 39)), "xml"),
        "b": ImageBoxes((5, 6), (), "instances"),
    }
    write_boxes(path, entries, own, {"images": 1})
    assert read_boxes(path, own) == entries and list(read_boxes(path, own)) == ["a", "b"]
    assert read_agreement(path) == {"images": 1} and len(path.read_text().splitlines()) == 2 + 3
    with pytest.raises(WeaksegError, match=r"boxes\.json: no entry of image c; run `weakseg annotate` again"):
        boxes_of(entries, "c", path)
    with pytest.raises(WeaksegError, match=r"image a: not boxes .*'lawn mower' is no class of the labels voc"):
        read_boxes(path, VOC)
    write_boxes(path, {}, own, None)
    assert read_boxes(path, own) == {} and read_agreement(path) is None


def test_a_file_that_holds_no_boxes_is_named(tmp_path):
    path = tmp_path / "boxes.json"
    with pytest.raises(WeaksegError, match="run `weakseg annotate`"):
        read_boxes(path, VOC)
    for content in ("{", "[]", '{"facts": {}, "images": []}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(WeaksegError, match="not a file of boxes"):
            read_boxes(path, VOC)
    for boxes, message in (
        ([["cat", 1, 2, 3]], "not boxes"),
        ([["unicorn", 1, 2, 3, 4]], "not boxes"),
        ([["cat", 0, 0, 30, 4]], "box 1, cat .* outside"),
    ):
        images = {"a": {"size": [30, 40], "source": "xml", "boxes": boxes}}
        path.write_text(json.dumps({"facts": {}, "images": images}), encoding="utf-8")
        with pytest.raises(WeaksegError, match=f"image a.*{message}"):
            read_boxes(path, VOC)
