"""Bbox-Rect and Bbox-Seg against their plain twins, and their passes over a data set."""

import hypothesis.strategies as st
import numpy as np
import pytest
from fabricate import make_study, prepare, write_voc, write_xml
from hypothesis import given, settings
from PIL import Image

from annotations import slow
from weakseg.annotations import bbox_seg_maps
from weakseg.annotations.bbox_rect_maps import bbox_rect, write_bbox_rect
from weakseg.annotations.bbox_seg_maps import BboxSegParams, bbox_seg, box_core, box_probabilities, write_bbox_seg
from weakseg.annotations.chosen_images import candidates, shown_images, spread, telling_images
from weakseg.crf import CRFParams, mean_field, unary_from_probabilities
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import Box, ImageBoxes
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png
from weakseg.data.label_maps import map_reader, maps_digest
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC

RELEASED = BboxSegParams(0.2, CRFParams(45, 37, 3, 15, 3))


@st.composite
def placed(draw, largest=40, boxes=6, labels=4):
    """(boxes, size): boxes of any size and place within a small image."""
    size = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    found = []
    for _ in range(draw(st.integers(0, boxes))):
        rows = sorted(draw(st.tuples(*[st.integers(0, size[0] - 1)] * 2)))
        columns = sorted(draw(st.tuples(*[st.integers(0, size[1] - 1)] * 2)))
        found.append(Box(draw(st.integers(1, labels)), rows[0], columns[0], rows[1], columns[1]))
    return found, size


@settings(max_examples=150, deadline=None)
@given(placed(largest=14))
def test_bbox_rect_equals_its_plain_twin(problem):
    boxes, size = problem
    assert np.array_equal(bbox_rect(boxes, size), slow.bbox_rect(boxes, size))


@settings(max_examples=60, deadline=None)
@given(placed(largest=14), st.randoms())
def test_order_of_boxes_counts_for_equal_extents_alone(problem, random):
    boxes, size = problem
    extents = [box.extent for box in boxes]
    if len(set(extents)) == len(extents):
        shuffled = random.sample(boxes, len(boxes))
        assert np.array_equal(bbox_rect(boxes, size), bbox_rect(shuffled, size))


def test_small_boxes_win_and_a_pixel_is_enough():
    boxes = [Box(1, 4, 4, 4, 4), Box(2, 0, 0, 9, 9), Box(3, 3, 3, 6, 6)]
    labels = bbox_rect(boxes, (12, 12))
    assert labels[4, 4] == 1 and labels[3, 3] == 3 and labels[0, 0] == 2 and labels[11, 11] == 0


def test_fifty_boxes_on_each_other():
    boxes = [Box(1 + k % 20, k, k, 119 - k, 119 - k) for k in range(50)]
    labels = bbox_rect(boxes, (120, 120))
    assert [labels[k, 60] for k in range(50)] == [1 + k % 20 for k in range(50)]
    found, chances = box_probabilities(boxes, (120, 120), alpha=0.2)
    assert len(found) == 21 and np.allclose(chances.sum(0), 1, atol=1e-5) and (chances >= 0).all()
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    assert set(np.unique(bbox_seg(image, boxes, RELEASED))) <= set(range(21))


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(50, 50, (24, 24)), (100, 60, (62, 22)), (11, 11, (5, 5)), (10, 12, (10, 12))]
)
def test_core_of_the_released_code_at_a_fifth(height, width, expected):
    """50x50, 100x60 and 11x11 as the released erosion leaves them; 10x12 has less than 121 pixels."""
    core = box_core(Box(1, 20, 20, 19 + height, 19 + width), (200, 200), 0.2)
    assert (core.height, core.width) == expected


@settings(max_examples=200, deadline=None)
@given(placed(boxes=1), st.sampled_from([0.05, 0.2, 0.4, 0.6, 0.8, 0.99]))
def test_core_equals_erosion_of_the_image(problem, alpha):
    boxes, size = problem
    for box in boxes:
        drawn = np.zeros(size, dtype=bool)
        drawn[box_core(box, size, alpha).pixels] = True
        assert np.array_equal(drawn, slow.core(box, size, alpha))


@settings(max_examples=60, deadline=None)
@given(placed(), st.sampled_from([0.2, 0.6]), st.sampled_from([0.0, 0.1]))
def test_probabilities_equal_their_plain_twin(problem, alpha, bias):
    boxes, size = problem
    labels, chances = box_probabilities(boxes, size, alpha=alpha, occluder_bias=bias)
    plain = slow.probabilities(boxes, size, alpha, bias)
    assert chances.dtype == np.float32 and labels[0] == 0 and len(labels) == len({b.label for b in boxes}) + 1
    np.testing.assert_allclose(chances, plain[labels], rtol=2e-5, atol=1e-13)
    absent = np.setdiff1d(np.arange(21), labels)
    assert (plain[absent] <= 2e-12).all()


def test_labels_without_a_box_could_not_have_won():
    """All 21 labels, with the absent ones at 1e-12, give the map of the present ones alone."""
    rng = np.random.default_rng(3)
    size = (40, 52)
    boxes = [Box(3, 2, 5, 30, 30), Box(7, 10, 20, 38, 50)]
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    image[10:30] //= 4
    unary = unary_from_probabilities(slow.probabilities(boxes, size, 0.2), epsilon=1e-12)
    whole = mean_field(unary, image, RELEASED.crf, backend="exact").argmax(0)
    labels = np.array([0, 3, 7])
    part = mean_field(np.ascontiguousarray(unary[labels]), image, RELEASED.crf, backend="exact").argmax(0)
    assert np.array_equal(whole, labels[part])
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is an optional extra")
    reference = mean_field(np.ascontiguousarray(unary), image, RELEASED.crf, backend="pydensecrf").argmax(0)
    assert (bbox_seg(image, boxes, RELEASED) == reference).mean() > 0.995


def test_the_crf_finds_an_object_of_one_colour_in_its_box():
    image = np.full((60, 80, 3), 60, np.uint8)
    truth = np.zeros((60, 80), np.uint8)
    truth[20:40, 30:55] = truth[25:50, 38:46] = 9
    image[truth > 0] = (220, 40, 40)
    box = Box(9, 20, 30, 49, 54)
    found = bbox_seg(image, [box], RELEASED)
    assert (found != truth).mean() < 0.01 < (bbox_rect([box], (60, 80)) != truth).mean()


def test_an_image_without_boxes_is_background():
    assert not bbox_rect([], (4, 5)).any() and not bbox_seg(np.zeros((4, 5, 3), np.uint8), [], RELEASED).any()


def test_a_box_of_one_pixel_is_kept_or_lost_by_colour_but_never_fails():
    image = np.full((20, 20, 3), 90, np.uint8)
    image[10, 10] = (250, 0, 0)
    found = bbox_seg(image, [Box(5, 10, 10, 10, 10)], RELEASED)
    assert set(np.unique(found)) <= {0, 5} and (np.delete(found.reshape(-1), 210) == 0).all()


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        ([Box(1, 0, 0, 5, 60)], {}, "box 1"),
        ([Box(255, 0, 0, 5, 6)], {}, "label 255"),
        ([Box(0, 0, 0, 5, 6)], {}, "label 0"),
        ([Box(1, 0, 0, 19, 19)], {"alpha": 1.5}, "alpha"),
        ([], {"occluder_bias": -1}, "occluder_bias"),
        ([], {"occluder_bias": float("nan")}, "occluder_bias"),
    ],
)
def test_bad_input_is_named(boxes, options, message):
    with pytest.raises(WeaksegError, match=message):
        box_probabilities(boxes, (20, 20), **{"alpha": 0.2, **options})


@pytest.fixture
def paths(tmp_path):
    """Boxes of all images but one, which has nothing that says where its boxes are."""
    root = write_voc(tmp_path / "voc")
    folder = VocFolder(root)
    for n, image_id in enumerate([*folder.read_list("train_aug")[:-1], *folder.read_list("val")]):
        things = [] if n == 1 else [("cat", 2, 3, 20, 30), ("dog", 15, 10, 40, 35)]
        write_xml(folder.annotation_path(image_id), *things)
    return prepare(make_study(root), tmp_path / "results")


@pytest.fixture
def ids(paths):
    return open_data(paths.manifest).ids("training")[:-1]


ANNOTATION = {"boxes.json", "image_labels.csv", "crop_labels.safetensors"}
PARAMS = BboxSegParams(0.4, CRFParams(5, 10, 5, 3, 3), iterations=2)


@pytest.mark.parametrize("method", ["bbox_rect", "bbox_seg"])
def test_a_pass_writes_a_map_an_image(paths, ids, method):
    target = paths.box_maps(method)
    if method == "bbox_rect":
        write_bbox_rect(paths.manifest, paths.boxes, target)
    else:
        write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    read, boxes = map_reader(target, ids, VOC), read_boxes(paths.boxes, VOC)
    assert sorted(path.stem for path in target.glob("*.png")) == sorted(ids)
    for image_id in ids:
        entry = boxes[image_id]
        image = open_data(paths.manifest).image(image_id)
        expected = bbox_rect(entry.boxes, entry.size) if method == "bbox_rect" else bbox_seg(image, entry.boxes, PARAMS)
        assert np.array_equal(read(image_id), expected)
    assert {path.name for path in target.parent.iterdir()} == {*ANNOTATION, method}


def test_a_stopped_pass_goes_on_and_keeps_what_was_there(paths, monkeypatch):
    target = paths.box_maps("bbox_seg")
    made = []
    whole = bbox_seg_maps.bbox_seg

    def breaks_at_the_fourth(*arguments):
        made.append(1)
        if len(made) == 4:
            raise RuntimeError("killed")
        return whole(*arguments)

    monkeypatch.setattr(bbox_seg_maps, "bbox_seg", breaks_at_the_fourth)
    with pytest.raises(RuntimeError):
        write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    assert not target.exists()
    write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    assert len(made) == 4 + 4  # three maps were there; the fourth was tried twice
    assert len(list(target.glob("*.png"))) == 7


def test_other_parameters_take_nothing_of_a_stopped_pass(paths, ids):
    target = paths.box_maps("bbox_seg")
    left = target.with_name(".bbox_seg-0123456789abcdef.partial")
    left.mkdir()
    (target.parent / "mine.txt").write_text("kept")
    (left / f"{ids[0]}.png").write_bytes(b"of another pass")
    write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    assert all(read_index_png(path, VOC).shape == (40, 52) for path in target.glob("*.png"))
    assert {path.name for path in target.parent.iterdir()} == {*ANNOTATION, "bbox_seg", "mine.txt"}


def test_a_replaced_photo_is_labelled_anew_and_one_of_another_size_is_named(paths, ids, monkeypatch):
    target = paths.box_maps("bbox_seg")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(bbox_seg_maps, "replace_folder", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    torn = next(target.parent.glob(".bbox_seg-*.partial")) / f".{ids[0]}.77.partial.png"
    torn.write_bytes(b"torn")
    photo = open_data(paths.manifest).image_path(ids[0])
    Image.fromarray(np.zeros((40, 52, 3), np.uint8)).save(photo)
    write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)
    entry = read_boxes(paths.boxes, VOC)[ids[0]]
    black = bbox_seg(open_data(paths.manifest).image(ids[0]), entry.boxes, PARAMS)
    assert np.array_equal(read_index_png(target / f"{ids[0]}.png", VOC), black)
    assert sorted(path.stem for path in target.glob("*.png")) == sorted(ids)
    Image.fromarray(np.zeros((41, 52, 3), np.uint8)).save(photo)
    with pytest.raises(WeaksegError, match=f"image {ids[0]}: the photo has 41 rows"):
        write_bbox_seg(paths.manifest, paths.boxes, target, PARAMS)


def test_a_missing_map_names_the_command(tmp_path):
    with pytest.raises(WeaksegError, match=r"bbox_seg: 1 of 1 label maps are missing, a\.png .*`weakseg bbox-seg`"):
        map_reader(tmp_path / "bbox_seg", ["a"], VOC)


def test_the_digest_of_some_maps(paths, ids):
    target = paths.box_maps("bbox_rect")
    write_bbox_rect(paths.manifest, paths.boxes, target)
    before = maps_digest(target, ids[:3])
    (target / f"{ids[3]}.png").write_bytes(b"another")
    assert maps_digest(target, ids[:3]) == before != maps_digest(target, [ids[1], ids[0], ids[2]])
    (target / f"{ids[1]}.png").write_bytes(b"another")
    assert maps_digest(target, ids[:3]) != before


def test_images_to_choose_from_have_pixel_labels_where_any_have(tmp_path):
    folder = VocFolder(write_voc(tmp_path / "voc"), lists={"pixel_labelled": ["a"], "training": ["a", "b", "c"]})
    boxes = dict.fromkeys("abc", ImageBoxes((4, 4), (Box(1, 0, 0, 2, 2),), "xml"))
    assert candidates(folder, boxes) == ["a"]
    # Those that have no boxes, or are not asked for, cannot show what boxes become.
    assert candidates(folder, {"b": boxes["b"], "c": boxes["c"]}) == ["b", "c"]
    assert candidates(folder, boxes, ["c"]) == ["c"]
    folder.lists["pixel_labelled"] = []
    assert candidates(folder, boxes) == ["a", "b", "c"]


def test_spread_takes_ids_at_even_distances():
    ids = [str(n) for n in range(11)]
    assert spread(ids, 3) == ["0", "5", "10"] and spread(ids, None) == ids and spread(ids, 20) == ids
    assert len(set(spread(ids, 7))) == 7


def test_methods_are_shown_on_telling_images_or_where_there_are_no_boxes_on_some(tmp_path):
    folder = VocFolder(
        write_voc(tmp_path / "voc"), lists={"pixel_labelled": ["a", "b"], "training": ["a", "b", "c", "d"]}
    )
    entry = ImageBoxes((40, 40), (Box(1, 0, 0, 20, 20), Box(2, 10, 10, 30, 30)), "xml")
    empty = ImageBoxes((40, 40), (), "xml")
    assert shown_images(folder, {"a": empty, "b": entry, "c": entry}, 1) == ["b"]
    assert shown_images(folder, {}, 2) == ["a", "b"]
    assert shown_images(folder, {}, 2, ["b", "c", "d"]) == ["b"]
    assert shown_images(folder, {}, 1, ["c", "d"]) == ["c"]  # those of the strong images that teach by the method: none


def test_telling_images_show_several_classes_and_overlaps():
    plain = {f"p{n}": ImageBoxes((20, 20), (Box(n, 0, 0, 9, 9), Box(n, 12, 12, 18, 18)), "xml") for n in (1, 1, 2, 3)}
    crossed = {"c": ImageBoxes((20, 20), (Box(5, 0, 0, 9, 9), Box(6, 5, 5, 14, 14)), "xml")}
    dull = {"d": ImageBoxes((20, 20), (Box(7, 0, 0, 1, 1),), "xml"), "e": ImageBoxes((20, 20), (), "xml")}
    boxes = {**dull, **plain, **crossed}
    assert telling_images(boxes, list(boxes), 2) == ["c", "p1"]
    assert telling_images(boxes, list(boxes), 4) == ["c", "p1", "p2", "p3"]
    assert telling_images(boxes, list(boxes), 9) == ["c", "p1", "p2", "p3", "d"]
