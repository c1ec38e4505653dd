"""A weakly annotated image needs no pixel labels: its photo and the file of its annotation decide, and nothing else."""

import shutil

import numpy as np
import pytest
from fabricate import make_study, write_voc, write_voc_boxes, write_xml

from train.runs import (
    ADAPT,
    BOX_EM,
    RECT,
    SEG,
    SEMI,
    STRONG,
    WEAK,
    WEAK_IDS,
    network,
    noise,
    ready,
    run_hash,
    same,
    trained,
)
from weakseg.data.images import write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import VOC


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
@pytest.mark.parametrize("experiment", WEAK, ids=lambda row: row.id)
def test_masks_of_weak_images_may_be_noise_or_absent(own_voc, tmp_path, experiment, frozen):
    study = make_study(own_voc, **({"network": network(tmp_path)} if frozen else {}))
    paths = ready(study, tmp_path / "results", [experiment])
    before, key = trained(study, experiment, paths), run_hash(study, experiment, paths)
    weak = WEAK_IDS if experiment.strong else [*WEAK_IDS, *(f"2007_{n:06d}" for n in range(4))]
    masks = [own_voc / "SegmentationClassAug" / f"{i}.png" for i in weak]
    for number, mask in enumerate(masks):
        write_index_png(mask, noise(number), VOC)
    assert same(before, trained(study, experiment, paths)) and run_hash(study, experiment, paths) == key
    for mask in masks:
        mask.unlink()
    shutil.rmtree(own_voc / "Annotations")
    assert same(before, trained(study, experiment, paths)) and run_hash(study, experiment, paths) == key


def edit_tags(paths):
    """Say by hand that no weak image shows anything but sheep."""
    header, *rows = paths.image_labels.read_text().splitlines()
    column = header.split(",").index("sheep")
    edited = []
    for row in rows:
        cells = row.split(",")
        if cells[0] in WEAK_IDS:
            cells[2:] = ["0"] * (len(cells) - 2)
            cells[column] = "1"
        edited.append(",".join(cells))
    paths.image_labels.write_text("\n".join([header, *edited]) + "\n")


def edit_maps(method):
    def edit(paths):
        for image_id in WEAK_IDS:
            write_index_png(paths.box_maps(method) / f"{image_id}.png", np.full((40, 52), 17, np.uint8), VOC)

    return edit


@pytest.mark.parametrize(
    ("experiment", "edit"),
    [
        (SEMI, edit_tags),
        (ADAPT, edit_tags),
        (RECT, edit_maps("bbox_rect")),
        (SEG, edit_maps("bbox_seg")),
        (BOX_EM, edit_maps("bbox_rect")),
    ],
    ids=lambda value: getattr(value, "id", None),
)
@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_edited_annotation_decides(voc, tmp_path, experiment, edit, frozen):
    study = make_study(voc, **({"network": network(tmp_path)} if frozen else {}))
    paths = ready(study, tmp_path / "results", [experiment])
    before, key = trained(study, experiment, paths), run_hash(study, experiment, paths)
    edit(paths)
    assert run_hash(study, experiment, paths) != key
    assert not same(before, trained(study, experiment, paths))


def test_deleted_annotation_is_an_error(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI, ADAPT])
    rows = paths.image_labels.read_text().splitlines()
    paths.image_labels.write_text("\n".join(row for row in rows if not row.startswith(WEAK_IDS[1])) + "\n")
    with pytest.raises(WeaksegError, match=rf"image_labels\.csv: 1 of 8 images are missing, {WEAK_IDS[1]}"):
        trained(study, ADAPT, paths)
    paths.image_labels.unlink()
    for row in (SEMI, ADAPT):
        with pytest.raises(WeaksegError, match=r"image_labels\.csv: no such file; run `weakseg annotate`"):
            trained(study, row, paths)


def without_training_masks(root):
    """A folder whose training images have no pixel labels; those that are scored keep theirs."""
    write_voc(root)
    for path in (root / "ImageSets" / "Segmentation" / "train_aug.txt").read_text().split():
        (root / "SegmentationClassAug" / f"{path}.png").unlink()
    (root / "ImageSets" / "Segmentation" / "train.txt").unlink()
    return root


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_tags_by_hand_alone_train(tmp_path, frozen):
    root = without_training_masks(tmp_path / "VOC2012")
    table = "image,labels\n" + "".join(f"2007_{n:06d},{'Dog; cat' if n % 2 else 'bird'}\n" for n in range(8))
    (root / "image_labels.csv").write_text(table)
    study = make_study(root, boxes=None, **({"network": network(tmp_path)} if frozen else {}))
    weak = ADAPT.model_copy(update={"id": "tags", "fov": "large"})
    paths = ready(study, tmp_path / "results", [weak])
    before = trained(study, weak, paths)
    (root / "image_labels.csv").write_text(table.replace("bird", "cow"))
    paths = ready(study, tmp_path / "results", [weak])
    assert not same(before, trained(study, weak, paths))
    with pytest.raises(WeaksegError, match=r"8 image.* pixel labels are read by all"):
        ready(study, tmp_path / "results", [STRONG])


@pytest.mark.parametrize("experiment", [BOX_EM, SEG, ADAPT], ids=lambda row: row.id)
def test_boxes_by_hand_alone_train(tmp_path, experiment):
    """Also with image-level labels, which are then the classes of the boxes."""
    root = without_training_masks(tmp_path / "VOC2012")
    for n in range(8):
        write_xml(root / "Annotations" / f"2007_{n:06d}.xml", ("dog", 3, 4, 30, 35), ("cat", 20, 2, 45, 20))
    study = make_study(root)
    paths = ready(study, tmp_path / "results", [BOX_EM, experiment])
    assert trained(study, experiment, paths)
    assert ",1,0" in paths.image_labels.read_text()


def test_own_folder_with_boxes_of_weak_images_alone(tmp_path):
    """Strong images need no boxes, weak ones no masks."""
    root = write_voc_boxes(write_voc(tmp_path / "VOC2012"))
    for n in range(4):
        (root / "Annotations" / f"2007_{n:06d}.xml").unlink()
    for image_id in WEAK_IDS:
        (root / "SegmentationClassAug" / f"{image_id}.png").unlink()
    study = make_study(root)
    assert trained(study, RECT, ready(study, tmp_path / "results", [RECT]))
