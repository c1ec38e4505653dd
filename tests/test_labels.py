"""Label sets: known ones, one's own, and what is said of names that do not fit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.errors import WeaksegError
from weakseg.labels import COCO, KNOWN, SCENES28, VOC, VOC_AS_IN_COCO, LabelSet

OWN = LabelSet.of_classes("garden", ["Cat", " lawn mower ", "dog"], {"lawn mower": "#0aFf03"})

VOC_IN_COCO = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
"""Raw ids of COCO for VOC's classes 1..20, as the released code maps them."""

OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def test_colours_are_those_of_voc():
    known = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "cat": (64, 0, 0), "person": (192, 128, 128)}
    known |= {"tvmonitor": (0, 64, 128), "sheep": (128, 64, 0)}
    for name, colour in known.items():
        assert tuple(VOC.palette()[VOC.index(name)]) == colour
    assert tuple(VOC.palette()[255]) == (224, 224, 192)
    assert len(VOC) == 21 and VOC.classes == VOC.names[1:] and VOC.names[0] == "background"


def test_cocos_labels_are_its_raw_ids():
    assert len(COCO) == 91 and sum(not name.startswith("unused") for name in COCO.classes) == 80
    for name, number in zip(VOC.classes, VOC_IN_COCO, strict=True):
        assert COCO.names[number] == OTHER_NAMES.get(name, name)
    assert KNOWN == {"voc": VOC, "coco": COCO, "scenes28": SCENES28}


def test_the_labels_of_all_scenes_are_vocs_and_eight_of_cocos_in_cocos_order():
    ids = [COCO.index(VOC_AS_IN_COCO.get(name, name)) for name in SCENES28.classes]
    assert ids == sorted(ids) and len(set(ids)) == 28
    assert set(VOC.classes) < set(SCENES28.classes)


def test_ones_own_labels():
    assert OWN.names == ("background", "Cat", "lawn mower", "dog") and len(OWN) == 4
    assert OWN.index("LAWN Mower") == 2 and OWN.index(" cat") == 1 and OWN.index("Background") == 0
    palette = OWN.palette()
    assert tuple(palette[2]) == (10, 255, 3)
    assert np.array_equal(np.delete(palette, 2, 0), np.delete(VOC.palette(), 2, 0))
    assert OWN.by_name("abcd") == {"background": "a", "Cat": "b", "lawn mower": "c", "dog": "d"}
    assert OWN.text(2) == "lawn mower" and OWN.text(4) == "label 4" and OWN.text(-1) == "label -1"


@pytest.mark.parametrize(
    ("classes", "colours", "message"),
    [
        (["cat", "Dog", " dOG"], {}, "'Dog' and 'dOG' are one name"),
        (["Background"], {}, "'background' and 'Background' are one name.*`background` is there already"),
        (["cat", "  "], {}, "a class has no name"),
        ([], {}, "1 to 254 classes are possible, not 0"),
        ([f"c{n}" for n in range(255)], {}, "1 to 254 classes are possible, not 255"),
        (["cat"], {"ct": "#000000"}, "'ct' is no class of the labels own; did you mean 'cat'"),
        (["cat"], {"cat": "red"}, "colour 'red' of cat is not of the form #rrggbb"),
        (["cat"], {"cat": "#12345"}, "colour '#12345' of cat is not"),
        (["cat"], {"cat": "#12345g"}, "colour '#12345g' of cat is not"),
    ],
)
def test_label_sets_that_cannot_be(classes, colours, message):
    with pytest.raises(WeaksegError, match=message):
        LabelSet.of_classes("own", classes, colours)


def test_as_many_colours_as_labels():
    with pytest.raises(WeaksegError, match="2 labels, but 1 colours"):
        LabelSet("own", ("background", "cat"), ((0, 0, 0),))


def test_the_largest_label_set_leaves_void_alone():
    most = LabelSet.of_classes("own", [f"c{n}" for n in range(254)])
    assert most.first_wrong(np.arange(256, dtype=np.uint8)) is None
    assert most.present(np.arange(256, dtype=np.uint8)).shape == (255,)


def test_a_near_name_is_suggested_and_all_are_listed_where_none_is_near():
    with pytest.raises(WeaksegError, match="'Dgo' is no class of the labels garden; did you mean 'dog'"):
        OWN.index("Dgo")
    with pytest.raises(WeaksegError, match=r"there are Cat, lawn mower, dog$"):
        OWN.index("zebra")


@pytest.mark.parametrize("labels", [VOC, COCO, OWN])
def test_json_gives_the_same_set_back(labels):
    assert LabelSet.from_json(json.loads(json.dumps(labels.to_json()))) == labels


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "a", "names": ["background", "cat"]},
        {"name": "a", "names": ["background", "cat", "Cat"], "colours": []},
        {"name": "a", "names": ["background", "cat"], "colours": [[0, 0], [0, 0]]},
        {"name": "a", "names": ["background", "cat"], "colours": [1, 2]},
        [],
    ],
)
def test_json_that_is_no_label_set(facts):
    with pytest.raises((KeyError, TypeError, ValueError)):
        LabelSet.from_json(facts)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=8), st.sampled_from([VOC, COCO, OWN]))
def test_labels_of_a_map(values, labels):
    found = np.array(values, dtype=np.uint8).reshape(-1, 1)
    assert np.flatnonzero(labels.present(found)).tolist() == sorted({v for v in values if v < len(labels)})
    assert labels.first_wrong(found) == min((v for v in values if len(labels) <= v < 255), default=None)
