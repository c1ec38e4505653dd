"""Boxes of XML files, and what is said of odd ones."""

import pytest
from fabricate import write_xml

from weakseg.data.boxes import Box
from weakseg.data.voc_xml import boxes_from_xml
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet

SIZE = (30, 40)


def test_xml_counts_from_one_and_parts_are_no_objects(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", 1, 1, 40, 30), ("cat", 3.4, 2, 3.4, 2))
    assert boxes_from_xml(path, SIZE, VOC) == [Box(12, 0, 0, 29, 39), Box(8, 1, 2, 1, 2)]


def test_an_image_without_objects_has_no_boxes(tmp_path):
    assert boxes_from_xml(write_xml(tmp_path / "a.xml"), SIZE, VOC) == []


def test_a_box_two_pixels_outside_is_clipped(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", 0, -1, 42, 31))
    assert boxes_from_xml(path, SIZE, VOC) == [Box(12, 0, 0, 29, 39)]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (("dog", 1, 1, 43, 10), "box 2, dog .*, reaches outside the image of 30 rows and 40 columns"),
        (("dog", 50, 50, 60, 60), "box 2, .*outside"),
        (("dog", -9, 1, 5, 5), "box 2, .*outside"),
        (("dog", 10, 10, 9, 20), "box 2, .*is empty"),
        (("dog", 10, 10, 5, 5), "box 2, .*is empty"),
        (("unicorn", 1, 1, 5, 5), "box 2: 'unicorn' is no class of the labels voc"),
        (("background", 1, 1, 5, 5), "box 2 is of background, which is no class"),
        (("dog", "x", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "nan", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "inf", 1, 5, 5), r"box 2 \(dog\) lacks"),
        (("dog", "", 1, 5, 5), r"box 2 \(dog\) lacks"),
    ],
)
def test_odd_boxes_are_named_with_file_and_number(tmp_path, thing, message):
    path = write_xml(tmp_path / "odd.xml", ("cat", 1, 1, 5, 5), thing)
    with pytest.raises(WeaksegError, match=rf"odd\.xml: {message}"):
        boxes_from_xml(path, SIZE, VOC)


def test_a_file_that_is_missing_or_no_xml_is_named(tmp_path):
    with pytest.raises(WeaksegError, match=r"none\.xml: no such file"):
        boxes_from_xml(tmp_path / "none.xml", SIZE, VOC)
    (tmp_path / "torn.xml").write_text("<annotation><object>", encoding="utf-8")
    with pytest.raises(WeaksegError, match=r"torn\.xml: not readable as XML"):
        boxes_from_xml(tmp_path / "torn.xml", SIZE, VOC)
    (tmp_path / "odd.xml").write_text('<?xml version="1.0" encoding="martian"?><annotation/>', encoding="utf-8")
    (tmp_path / "folder.xml").mkdir()
    for name in ("odd", "folder"):
        with pytest.raises(WeaksegError, match=rf"{name}\.xml: not readable as XML"):
            boxes_from_xml(tmp_path / f"{name}.xml", SIZE, VOC)


def test_xml_of_another_image_size_is_refused(tmp_path):
    path = tmp_path / "a.xml"
    for height, fits in ((30, True), (60, False)):
        path.write_text(f"<annotation><size><width>40</width><height>{height}</height></size></annotation>")
        if fits:
            assert boxes_from_xml(path, SIZE, VOC) == []
        else:
            with pytest.raises(WeaksegError, match=r"a\.xml: written for an image of 60 rows and 40 columns"):
                boxes_from_xml(path, SIZE, VOC)


def test_classes_of_ones_own_in_any_capitals(tmp_path):
    own = LabelSet.of_classes("own", ["Dog", "lawn mower"])
    path = write_xml(tmp_path / "a.xml", ("DOG", 1, 1, 5, 5), (" Lawn Mower ", 2, 2, 6, 6))
    assert [box.label for box in boxes_from_xml(path, SIZE, own)] == [1, 2]
    path = write_xml(tmp_path / "a.xml", ("DOG", 1, 1, 5, 5), ("Dgo", 1, 1, 5, 5))
    with pytest.raises(WeaksegError, match=r"a\.xml: box 2: 'Dgo' is no class .*did you mean 'Dog'"):
        boxes_from_xml(path, SIZE, own)
