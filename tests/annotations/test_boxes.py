"""Boxes from instance masks and XML files, and what is said of odd ones."""

import json
import shutil

import hypothesis.strategies as st
import numpy as np
import pytest
from fabricate import make_study, write_voc, write_xml
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from weakseg.annotations.boxes import (
    Box,
    box_iou,
    boxes_from_instances,
    boxes_from_xml,
    check_boxes,
    compare_sources,
    image_boxes,
    largest_first,
    read_agreement,
    read_boxes,
    write_boxes,
)
from weakseg.config import Scenes
from weakseg.data.prepare import prepare_data
from weakseg.data.scenes import write_scenes
from weakseg.data.voc import VocFolder, write_index_png
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths

SIZE = (30, 40)


@settings(max_examples=100, deadline=None)
@given(arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 0, 1, 2, 5, 255])))
def test_instance_boxes_are_tight(instances):
    labels = np.where(instances == 255, 255, np.where(instances > 0, instances + 10, 0)).astype(np.uint8)
    boxes = boxes_from_instances(instances, labels)
    assert [box.label for box in boxes] == sorted({int(n) + 10 for n in np.unique(instances) if n not in (0, 255)})
    for box in boxes:
        rows, columns = np.nonzero(instances == box.label - 10)
        assert (box.top, box.left, box.bottom, box.right) == (rows.min(), columns.min(), rows.max(), columns.max())


def test_an_instance_has_the_class_of_most_of_its_pixels():
    instances = np.zeros((5, 5), np.uint8)
    instances[1:4, 1:4] = 3
    labels = np.zeros((5, 5), np.uint8)  # six pixels of background do not outvote the object
    labels[1, 1], labels[1, 2:4] = 7, 8
    assert boxes_from_instances(instances, labels) == [Box(8, 1, 1, 3, 3)]


def test_an_instance_without_a_class_is_named():
    instances = np.zeros((5, 5), np.uint8)
    instances[2, 2] = 4
    for label in (0, 255):
        with pytest.raises(WeaksegError, match=r"a\.png: instance 4 has no class"):
            boxes_from_instances(instances, np.full((5, 5), label, np.uint8), where="a.png")
    with pytest.raises(WeaksegError, match="one size"):
        boxes_from_instances(instances, np.zeros((5, 6), np.uint8))


def test_xml_counts_from_one_and_parts_are_no_objects(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", 1, 1, 40, 30), ("cat", 3.4, 2, 3.4, 2))
    assert boxes_from_xml(path, SIZE) == [Box(12, 0, 0, 29, 39), Box(8, 1, 2, 1, 2)]


def test_an_image_without_objects_has_no_boxes(tmp_path):
    assert boxes_from_xml(write_xml(tmp_path / "a.xml"), SIZE) == []


def test_a_box_two_pixels_outside_is_clipped(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", 0, -1, 42, 31))
    assert boxes_from_xml(path, SIZE) == [Box(12, 0, 0, 29, 39)]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (("dog", 1, 1, 43, 10), "box 2, dog .*, reaches outside the image of 30 rows and 40 columns"),
        (("dog", 50, 50, 60, 60), "box 2, .*outside"),
        (("dog", -9, 1, 5, 5), "box 2, .*outside"),
        (("dog", 10, 10, 9, 20), "box 2, .*is empty"),
        (("dog", 10, 10, 5, 5), "box 2, .*is empty"),
        (("unicorn", 1, 1, 5, 5), "box 2 is of class 'unicorn'"),
        (("background", 1, 1, 5, 5), "box 2 is of class 'background'"),
        (("dog", "x", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "nan", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "inf", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "", 1, 5, 5), r"box 2 \(dog\) lacks"),
    ],
)
def test_odd_boxes_are_named_with_file_and_number(tmp_path, thing, message):
    path = write_xml(tmp_path / "odd.xml", ("cat", 1, 1, 5, 5), thing)
    with pytest.raises(WeaksegError, match=rf"odd\.xml: {message}"):
        boxes_from_xml(path, SIZE)


def test_a_file_that_is_missing_or_no_xml_is_named(tmp_path):
    with pytest.raises(WeaksegError, match=r"none\.xml: no such file"):
        boxes_from_xml(tmp_path / "none.xml", SIZE)
    (tmp_path / "torn.xml").write_text("<annotation><object>", encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"torn\.xml: not readable as XML"):
        boxes_from_xml(tmp_path / "torn.xml", SIZE)
    (tmp_path / "odd.xml").write_text('<?xml version="1.0" encoding="martian"?><annotation/>', encoding="utf-8")
    (tmp_path / "folder.xml").mkdir()
    for name in ("odd", "folder"):
        with pytest.raises(WeaksegError, match=rf"{name}\.xml: not readable as XML"):
            boxes_from_xml(tmp_path / f"{name}.xml", SIZE)


def test_xml_of_another_image_size_is_refused(tmp_path):
    path = tmp_path / "a.xml"
    for height, fits in ((30, True), (60, False)):
        path.write_text(f"<annotation><size><width>40</width><height>{height}</height></size></annotation>")
        if fits:
            assert boxes_from_xml(path, SIZE) == []
        else:
            with pytest.raises(WeaksegError, match=r"a\.xml: written for an image of 60 rows and 40 columns"):
                boxes_from_xml(path, SIZE)


@pytest.mark.parametrize("box", [Box(0, 0, 0, 1, 1), Box(21, 0, 0, 1, 1), Box(1, 3, 0, 2, 1), Box(1, 0, 0, 30, 1)])
def test_boxes_that_are_none_are_refused(box):
    with pytest.raises(WeaksegError, match="here: box 2"):
        check_boxes([Box(1, 0, 0, 0, 0), box], SIZE, "here")


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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Generated scenes, which have instance masks and XML files."""
    sizes = Scenes(height_px=60, width_px=80, train=3, train_aug=6, val=3, crf_val=2, classes=5, pretrain_per_class=1)
    return VocFolder(write_scenes(tmp_path_factory.mktemp("scenes"), sizes))


def test_instances_and_xml_agree_where_masks_have_no_void(scenes):
    ids = scenes.ids("train_aug")
    for image_id in ids[3:]:  # as SBD's masks
        assert set(image_boxes(scenes, image_id).boxes) == set(
            boxes_from_xml(scenes.annotation_path(image_id), scenes.size(image_id))
        )
        assert all(pair == (1.0, 0) for pair in compare_sources(scenes, image_id, image_boxes(scenes, image_id)))


def test_the_void_border_makes_instance_boxes_smaller(scenes):
    """Documented: void is no part of an instance, so that thin parts and the outline are left out of its box."""
    for image_id in scenes.ids("train"):
        drawn = boxes_from_xml(scenes.annotation_path(image_id), scenes.size(image_id))
        for box in image_boxes(scenes, image_id).boxes:
            assert any(
                b.label == box.label and b.top <= box.top and b.left <= box.left
                and box.bottom <= b.bottom and box.right <= b.right
                for b in drawn
            )  # fmt: skip


def prepared(tmp_path, root):
    study = make_study(root)
    paths = StudyPaths(study.name, tmp_path / "results")
    prepare_data(study, paths)
    return paths


def test_boxes_are_written_and_read_back(scenes, tmp_path):
    paths = prepared(tmp_path, scenes.root)
    write_boxes(paths.manifest, paths.boxes)
    boxes = read_boxes(paths.boxes)
    assert list(boxes) == [*scenes.ids("train_aug"), *scenes.ids("crf_val")]
    for image_id, entry in boxes.items():
        assert entry == image_boxes(scenes, image_id)
        assert entry.source == "instances"
    agreement = read_agreement(paths.boxes)
    assert agreement["images"] == len(boxes) and 0 < agreement["iou_min"] <= agreement["iou_median"] <= 1
    assert len(paths.boxes.read_text().splitlines()) == len(boxes) + 3


def test_boxes_of_a_folder_without_instance_masks_come_from_xml(tmp_path):
    root = write_voc(tmp_path / "voc")
    paths = prepared(tmp_path, root)
    folder = VocFolder(root)
    for image_id in [*folder.ids("train_aug"), *folder.ids("val")]:
        write_xml(root / "Annotations" / f"{image_id}.xml", ("cat", 2, 3, 20, 30))
    write_boxes(paths.manifest, paths.boxes)
    entries = read_boxes(paths.boxes)
    assert all(entry.source == "xml" and entry.boxes == (Box(8, 2, 1, 29, 19),) for entry in entries.values())
    assert read_agreement(paths.boxes) is None


def test_xml_that_is_not_used_may_be_faulty(scenes, tmp_path):
    root = tmp_path / "voc"
    shutil.copytree(scenes.root, root)
    write_xml(root / "Annotations" / "train_000001.xml", ("robot", 1, 1, 5, 5))
    paths = prepared(tmp_path, root)
    write_boxes(paths.manifest, paths.boxes)
    assert read_agreement(paths.boxes)["images"] == len(read_boxes(paths.boxes)) - 1


def test_a_folder_without_boxes_says_what_to_do(tmp_path):
    paths = prepared(tmp_path, write_voc(tmp_path / "voc"))
    with pytest.raises(WeaksegError, match="`boxes: null`"):
        write_boxes(paths.manifest, paths.boxes)


def test_faulty_boxes_are_gathered(tmp_path):
    root = write_voc(tmp_path / "voc")
    paths = prepared(tmp_path, root)
    ids = VocFolder(root).ids("train_aug")
    for image_id in ids[:5]:
        write_xml(root / "Annotations" / f"{image_id}.xml", ("cat", 1, 1, 99, 9))
    write_index_png(root / "SegmentationObject" / f"{ids[5]}.png", np.full((3, 3), 1))
    with pytest.raises(WeaksegError, match="9 image") as error:
        write_boxes(paths.manifest, paths.boxes)
    assert str(error.value).count("box 1, cat") == 5
    assert not paths.boxes.exists()


def test_a_file_that_holds_no_boxes_is_named(tmp_path):
    path = tmp_path / "boxes.json"
    with pytest.raises(WeaksegError, match="run `weakseg boxes`"):
        read_boxes(path)
    for content in ("{", "[]", '{"facts": {}, "images": []}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(WeaksegError, match="not a file of boxes"):
            read_boxes(path)
    for boxes, message in (
        ([["cat", 1, 2, 3]], "not boxes"),
        ([["unicorn", 1, 2, 3, 4]], "not boxes"),
        ([["cat", 0, 0, 30, 4]], "box 1, cat .* outside"),
    ):
        images = {"a": {"size": [30, 40], "source": "xml", "boxes": boxes}}
        path.write_text(json.dumps({"facts": {}, "images": images}), encoding="utf-8")
        with pytest.raises(WeaksegError, match=f"image a.*{message}"):
            read_boxes(path)


def test_real_boxes_cover_their_objects(shared_root):
    """VOC's XML boxes and masks were drawn apart; where they are of one object they agree to a few pixels."""
    folder = VocFolder(shared_root / "data/voc2012-subset/VOCdevkit/VOC2012")
    covered = total = 0
    for image_id in folder.ids("train")[::20]:
        labels = folder.labels(image_id)
        for label in {box.label for box in image_boxes(folder, image_id).boxes}:
            mask = np.zeros(labels.shape, bool)
            for box in image_boxes(folder, image_id).boxes:
                if box.label == label:
                    mask[box.pixels] = True
            covered += int((mask & (labels == label)).sum())
            total += int((labels == label).sum())
    assert covered / total > 0.97
