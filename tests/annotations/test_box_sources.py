"""Where boxes come from: instance masks, or XML files."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from weakseg.annotations.box_sources import agreement_of, boxes_from_instances, compare_sources, image_boxes
from weakseg.config import Scenes
from weakseg.data.boxes import Box, ImageBoxes
from weakseg.data.voc import VocFolder
from weakseg.data.voc_xml import boxes_from_xml
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.scenes.write import write_scenes


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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Generated scenes, which have instance masks and XML files."""
    sizes = Scenes(height_px=60, width_px=80, train=3, train_aug=6, val=3, crf_val=2, classes=5, pretrain_per_class=1)
    return VocFolder(write_scenes(tmp_path_factory.mktemp("scenes"), sizes))


def test_instances_and_xml_agree_where_masks_have_no_void(scenes):
    ids = scenes.read_list("train_aug")
    for image_id in ids[3:]:  # as SBD's masks
        assert set(image_boxes(scenes, image_id).boxes) == set(
            boxes_from_xml(scenes.annotation_path(image_id), scenes.size(image_id), VOC)
        )
        assert all(pair == (1.0, 0) for pair in compare_sources(scenes, image_id, image_boxes(scenes, image_id)))


def test_the_void_border_makes_instance_boxes_smaller(scenes):
    """Documented: void is no part of an instance, so that thin parts and the outline are left out of its box."""
    for image_id in scenes.read_list("train"):
        drawn = boxes_from_xml(scenes.annotation_path(image_id), scenes.size(image_id), VOC)
        for box in image_boxes(scenes, image_id).boxes:
            assert any(
                b.label == box.label and b.top <= box.top and b.left <= box.left
                and box.bottom <= b.bottom and box.right <= b.right
                for b in drawn
            )  # fmt: skip


class Folder:
    """A data set of one image, whose XML file holds `drawn`."""

    def __init__(self, drawn):
        self.drawn = drawn

    def boxes(self, image_id):
        if isinstance(self.drawn, WeaksegError):
            raise self.drawn
        return self.drawn


def test_how_two_sources_differ():
    found = ImageBoxes((20, 30), (Box(1, 0, 0, 9, 9), Box(2, 5, 5, 9, 9)), "instances")
    drawn = [Box(1, 0, 0, 9, 11), Box(1, 0, 0, 3, 3), Box(3, 5, 5, 9, 9)]
    assert compare_sources(Folder(drawn), "a", found) == [(100 / 120, 2), (0.0, 30)]
    assert compare_sources(Folder(None), "a", found) is None
    assert compare_sources(Folder(WeaksegError("faulty")), "a", found) is None
    assert compare_sources(Folder(drawn), "a", ImageBoxes((20, 30), (), "xml")) is None
    assert agreement_of([[(1.0, 0), (0.5, 4)], [(0.75, 1)]]) == {
        "images": 2,
        "boxes": 3,
        "iou_median": 0.75,
        "iou_min": 0.5,
        "gap_median_px": 1.0,
        "gap_max_px": 4,
    }
    assert agreement_of([]) is None and agreement_of([[]]) is None


def test_real_boxes_cover_their_objects(shared_root):
    """VOC's XML boxes and masks were drawn apart; where they are of one object they agree to a few pixels."""
    folder = VocFolder(shared_root / "data/voc2012-subset/VOCdevkit/VOC2012")
    covered = total = 0
    for image_id in folder.read_list("train")[::20]:
        labels = folder.pixel_labels(image_id)
        for label in {box.label for box in image_boxes(folder, image_id).boxes}:
            mask = np.zeros(labels.shape, bool)
            for box in image_boxes(folder, image_id).boxes:
                if box.label == label:
                    mask[box.pixels] = True
            covered += int((mask & (labels == label)).sum())
            total += int((labels == label).sum())
    assert covered / total > 0.97
