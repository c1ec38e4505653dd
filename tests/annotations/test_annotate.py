"""Weak annotation: where it comes from, and what is said where an experiment lacks it."""

import shutil

import numpy as np
import pytest
from fabricate import make_experiment, make_study, prepare, write_voc, write_voc_boxes, write_xml

from weakseg.annotations.annotate import annotate
from weakseg.config import Experiment, Scenes
from weakseg.data.box_files import read_agreement, read_boxes
from weakseg.data.boxes import Box
from weakseg.data.crop_labels import CropGeometry, CropLabels
from weakseg.data.dataset import open_data
from weakseg.data.images import write_index_png
from weakseg.data.tag_files import read_tags
from weakseg.data.transforms import CropWindow, crop_places, pad_crop
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet
from weakseg.paths import StudyPaths
from weakseg.scenes.write import write_scenes

SIZE = (40, 52)
STRONG = make_experiment("strong", strong=10582)
TAGS = make_experiment("tags", weak=10582, method="em_fixed")
BOXES = make_experiment("boxed", weak=10582, method="bbox_em_fixed")
SEMI = make_experiment("semi", strong=732, weak=9850, method="em_adapt")


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def folder(root):
    return VocFolder(root)


def annotated(root, tmp_path, *experiments, **changes):
    return prepare(make_study(root, **changes), tmp_path / "results", experiments)


def failed(root, tmp_path, *experiments, **changes):
    """The error that the annotation ends with; no file is left."""
    with pytest.raises(WeaksegError) as caught:
        annotated(root, tmp_path, *experiments, **changes)
    paths = StudyPaths("fabricated", tmp_path / "results")
    assert not paths.boxes.exists() and not paths.image_labels.exists() and not paths.crop_labels.exists()
    return str(caught.value)


def tagged(paths, labels=VOC):
    return {i: np.flatnonzero(flags).tolist() for i, flags in read_tags(paths.image_labels, labels).items()}


def test_labels_are_those_of_the_pixel_labels(root, folder, tmp_path):
    values = np.zeros(SIZE, np.uint8)
    values[5, 7] = 20  # a single pixel counts
    values[10:20, 10:20] = 15
    values[30:] = 255  # void does not
    write_index_png(folder.mask_path("2007_000002"), values, VOC)
    write_index_png(folder.mask_path("2007_000003"), np.full(SIZE, 4), VOC)  # no background
    paths = annotated(root, tmp_path, STRONG, TAGS, SEMI)
    data = open_data(paths.manifest)
    tags = tagged(paths)
    assert list(tags) == data.ids("training")
    for image_id, labels in tags.items():
        assert set(labels) == set(np.unique(data.pixel_labels(image_id)).tolist()) - {255}
    assert tags["2007_000002"] == [0, 15, 20] and tags["2007_000003"] == [4]


def test_labels_by_hand_come_first_then_pixel_labels_then_boxes(root, folder, tmp_path):
    by_hand, pixels, boxes, nothing = folder.read_list("train_aug")[:4]
    (root / "image_labels.csv").write_text(f"image,labels\n{by_hand},cat; dog\n")
    write_index_png(folder.mask_path(pixels), np.full(SIZE, 4), VOC)
    for image_id in (by_hand, pixels, boxes):
        write_xml(folder.annotation_path(image_id), ("bus", 1, 1, 9, 9), ("Bus", 5, 5, 9, 9), ("sofa", 2, 2, 30, 30))
    for image_id in (boxes, nothing):
        folder.mask_path(image_id).unlink()
    tags = tagged(annotated(root, tmp_path))
    assert tags[by_hand] == [0, 8, 12] and tags[pixels] == [4] and tags[boxes] == [0, 6, 18]
    assert nothing not in tags and len(tags) == 7


def test_crops_of_images_with_pixel_labels(root, folder, tmp_path):
    no_mask, *others = folder.read_list("train_aug")[3:]
    for image_id in others:
        values = folder.pixel_labels(image_id)
        values[0, 0] = 20  # which only the first crop shows
        write_index_png(folder.mask_path(image_id), values, VOC)
    (root / "image_labels.csv").write_text(f"image,labels\n{no_mask},cat\n")
    folder.mask_path(no_mask).unlink()
    paths = annotated(root, tmp_path, TAGS)
    data = open_data(paths.manifest)
    geometry = CropGeometry.of(make_study(root).network)
    known = CropLabels(read_tags(paths.image_labels, VOC), paths.crop_labels, geometry)
    tops, lefts = crop_places(SIZE, 33, 1.0, 8, 1)
    differ = 0
    for image_id in data.ids("training"):
        for top, left in ((tops[0], lefts[0]), (tops[-1], lefts[3]), (tops[2], lefts[-1])):
            window = CropWindow(int(top), int(left), 33, False)
            found = np.flatnonzero(known.present(image_id, window)).tolist()
            if image_id == no_mask:
                assert found == [0, 8]
                continue
            crop = pad_crop(data.pixel_labels(image_id), window, 255)
            assert found == [label for label in np.unique(crop).tolist() if label != 255]
            differ += found != np.flatnonzero(known.tags[image_id]).tolist()
    assert differ >= 2 * len(others)


def test_labels_of_ones_own(tmp_path):
    own = LabelSet.of_classes("own", ["cat", "lawn mower", "dog"])
    root = write_voc(tmp_path / "voc", labels=own)
    folder = VocFolder(root, own)
    image_id = folder.read_list("train_aug")[0]
    folder.mask_path(image_id).unlink()
    write_xml(folder.annotation_path(image_id), ("Lawn Mower", 1, 1, 9, 9))
    dataset = {"name": "garden", "source": "path", "path": str(root), "labels": list(own.classes)}
    paths = annotated(root, tmp_path, dataset=dataset)
    assert tagged(paths, own)[image_id] == [0, 2] and "lawn mower" in paths.image_labels.read_text().splitlines()[0]
    assert read_boxes(paths.boxes, own)[image_id].boxes == (Box(2, 0, 0, 8, 8),)


def test_boxes_of_scenes_are_those_of_their_instances(tmp_path):
    sizes = Scenes(height_px=60, width_px=80, train=3, train_aug=6, val=3, crf_val=2, classes=5, pretrain_per_class=1)
    scenes = write_scenes(tmp_path / "scenes", sizes)
    paths = annotated(scenes, tmp_path, BOXES)
    data, boxes = open_data(paths.manifest), read_boxes(paths.boxes, VOC)
    assert list(boxes) == [*data.ids("training"), *data.ids("held_out")]
    for image_id, entry in boxes.items():
        instances = data.instances(image_id)
        assert entry.source == "instances" and entry.size == data.size(image_id)
        assert len(entry.boxes) == len(set(np.unique(instances)) - {0, 255})
    agreement = read_agreement(paths.boxes)
    assert agreement["images"] == len(boxes) and 0 < agreement["iou_min"] <= agreement["iou_median"] <= 1
    # XML that is not used may be faulty
    edited = tmp_path / "edited"
    shutil.copytree(scenes, edited)
    write_xml(edited / "Annotations" / "train_000001.xml", ("robot", 1, 1, 5, 5))
    paths = annotated(edited, tmp_path, BOXES)
    assert read_boxes(paths.boxes, VOC) == boxes
    assert read_agreement(paths.boxes)["images"] == len(boxes) - 1


def test_boxes_of_a_folder_without_instance_masks_come_from_xml(root, folder, tmp_path):
    for image_id in [*folder.read_list("train_aug"), *folder.read_list("val")]:
        write_xml(folder.annotation_path(image_id), ("cat", 2, 3, 20, 30))
    paths = annotated(root, tmp_path, BOXES)
    entries = read_boxes(paths.boxes, VOC)
    assert all(entry.source == "xml" and entry.boxes == (Box(8, 2, 1, 29, 19),) for entry in entries.values())
    assert list(entries) == [*folder.read_list("train_aug"), *open_data(paths.manifest).ids("held_out")]
    assert read_agreement(paths.boxes) is None


def test_pixel_labels_that_an_experiment_lacks(root, folder, tmp_path):
    (root / "image_labels.csv").write_text(
        "image,labels\n" + "".join(f"{i},cat\n" for i in folder.read_list("train_aug"))
    )
    ids = sorted(folder.read_list("train_aug"))
    for image_id in (ids[1], *ids[3:]):
        folder.mask_path(image_id).unlink()
    write_xml(folder.annotation_path(ids[3]), ("unicorn", 1, 1, 9, 9))  # has nothing to do with its pixel labels
    message = failed(root, tmp_path, STRONG, SEMI, TAGS)
    assert f"6 image(s) whose pixel labels are read by strong, semi:\n  image {ids[1]} has no pixel labels" in message
    assert message.count("has no pixel labels") == 5 and "image-level labels are read" not in message
    assert "unicorn" not in message and "`experiments`" in message
    message = failed(root, tmp_path, SEMI, TAGS)  # reads two of train
    assert f"1 image(s) whose pixel labels are read by semi:\n  image {ids[1]} has no pixel labels" in message
    assert len(tagged(annotated(root, tmp_path, TAGS))) == 8


def test_image_level_labels_that_an_experiment_lacks(root, folder, tmp_path):
    ids = sorted(folder.read_list("train_aug"))
    for image_id in ids[2:]:
        folder.mask_path(image_id).unlink()
    message = failed(root, tmp_path, TAGS, SEMI)
    assert "6 image(s) whose image-level labels are read by tags, semi:\n" in message
    assert f"image {ids[2]} has no image-level labels" in message and "pixel labels are read" not in message
    first = Experiment(
        id="first", table="mine", line=1, title="first", fov="large",
        streams=[{"annotation": "image", "method": "em_fixed", "images": 2}],
    )  # fmt: skip
    assert list(tagged(annotated(root, tmp_path, first, counts="images"))) == ids[:2]
    with pytest.raises(WeaksegError, match=r"1 image.s. whose image-level labels are read by third:\n"):
        third = first.model_copy(
            update={"id": "third", "streams": (first.streams[0].model_copy(update={"images": 3}),)}
        )
        annotated(root, tmp_path, first, third, counts="images")


def test_boxes_that_an_experiment_lacks(root, folder, tmp_path):
    message = failed(root, tmp_path, BOXES, TAGS)
    assert "8 image(s) whose boxes are read by boxed:\n" in message and "`boxes: null`" in message
    assert message.count("has no boxes") == 5


def test_faulty_boxes_are_gathered(root, folder, tmp_path):
    write_voc_boxes(root)
    ids = folder.read_list("train_aug")
    for image_id in ids[:5]:
        write_xml(folder.annotation_path(image_id), ("cat", 1, 1, 99, 9))
    write_index_png(folder.instance_path(ids[5]), np.full((3, 3), 1), VOC)
    message = failed(root, tmp_path, BOXES)
    assert "6 image(s) whose boxes are read by boxed:\n" in message
    assert message.count("box 1, cat") == 5 and f"{ids[4]}.xml" in message


def test_faulty_boxes_that_no_experiment_reads_are_only_printed(root, folder, tmp_path, capsys):
    write_voc_boxes(root)
    faulty = folder.read_list("train_aug")[4]
    write_xml(folder.annotation_path(faulty), ("robot", 1, 1, 5, 5))
    paths = annotated(root, tmp_path, STRONG, TAGS, SEMI)
    printed = capsys.readouterr().out
    assert printed.count("left out, as no experiment of the study reads it") == 1
    assert f"{faulty}.xml: box 1: 'robot' is no class" in printed
    boxes = read_boxes(paths.boxes, VOC)
    assert faulty not in boxes and len(boxes) == 7 + len(open_data(paths.manifest).ids("held_out"))
    assert len(tagged(paths)) == 8


def test_a_study_without_boxes_reads_none(root, folder, tmp_path, capsys, monkeypatch):
    write_voc_boxes(root)
    write_xml(folder.annotation_path(folder.read_list("train_aug")[4]), ("robot", 1, 1, 5, 5))

    def read(*_):
        raise AssertionError("an XML file was read")

    monkeypatch.setattr("weakseg.data.voc.boxes_from_xml", read)
    paths = annotated(root, tmp_path, STRONG, TAGS, boxes=None)
    assert read_boxes(paths.boxes, VOC) == {} and len(tagged(paths)) == 8
    assert "left out" not in capsys.readouterr().out


def test_no_annotation_at_all(root, folder, tmp_path):
    for image_id in folder.read_list("train_aug"):
        folder.mask_path(image_id).unlink()
    assert "no training image has annotation of any kind" in failed(root, tmp_path)


def test_a_mask_spoilt_since_the_check_is_named(root, folder, tmp_path):
    paths = annotated(root, tmp_path, TAGS)
    files = (paths.image_labels, paths.crop_labels, paths.boxes)
    before = [path.read_bytes() for path in files]
    assert {path.name for path in paths.image_labels.parent.iterdir()} == {path.name for path in files}
    folder.mask_path("2007_000005").write_bytes(b"gone")
    with pytest.raises(WeaksegError, match=r"2007_000005\.png"):
        annotate(make_study(root), [TAGS], paths, threads=1)
    assert [path.read_bytes() for path in files] == before


def test_labels_by_hand_that_belong_to_no_image_are_said(root, folder, tmp_path, capsys):
    first = folder.read_list("train_aug")[0]
    (root / "image_labels.csv").write_text(f"image,labels\n{first},cat\n{first}.jpg,dog\n")
    assert tagged(annotated(root, tmp_path, TAGS))[first] == [0, 8]
    assert f"1 of 2 rows are of no image of the lists, '{first}.jpg' first; is it '{first}'?" in capsys.readouterr().out
    (root / "image_labels.csv").write_text(f"image,labels\n{first}.jpg,dog\n")
    with pytest.raises(WeaksegError, match=r"1 of 1 rows .* Ids are file names without suffix"):
        annotated(root, tmp_path, TAGS)


def test_strong_images_of_background_alone_teach_nothing(root, folder, tmp_path):
    (root / "image_labels.csv").write_text("image,labels\n2007_000000,cat\n")
    for image_id in folder.read_list("train_aug"):
        write_index_png(folder.mask_path(image_id), np.zeros(SIZE), VOC)
    annotated(root, tmp_path, TAGS)  # nothing but labels by hand is read
    with pytest.raises(WeaksegError, match="experiment strong: no class but the background occurs"):
        annotated(root, tmp_path, STRONG)
