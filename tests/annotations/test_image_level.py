"""Image-level labels from pixel labels."""

import csv

import numpy as np
import pytest
from fabricate import make_study, write_voc

from weakseg.annotations.image_level import read_image_labels, write_image_labels
from weakseg.data.prepare import open_data, prepare_data
from weakseg.data.voc import write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import CLASSES
from weakseg.paths import StudyPaths


@pytest.fixture
def paths(tmp_path):
    root = write_voc(tmp_path / "voc")
    labels = np.zeros((40, 52), np.uint8)
    labels[5, 7] = 20  # a single pixel counts
    labels[10:20, 10:20] = 15
    labels[30:] = 255  # void does not
    write_index_png(root / "SegmentationClassAug" / "2007_000002.png", labels)
    write_index_png(root / "SegmentationClassAug" / "2007_000003.png", np.full((40, 52), 4))  # no background
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(make_study(root), paths)
    write_image_labels(paths.manifest, paths.image_labels)
    return paths


def test_labels_are_those_of_the_map(paths):
    ids, present = read_image_labels(paths.image_labels)
    folder = open_data(paths.manifest)
    assert ids == folder.ids("train_aug") and present.shape == (8, 21) and present.dtype == bool
    for image_id, flags in zip(ids, present, strict=True):
        assert set(np.flatnonzero(flags)) == set(np.unique(folder.labels(image_id)).tolist()) - {255}
    assert np.flatnonzero(present[2]).tolist() == [0, 15, 20]
    assert np.flatnonzero(present[3]).tolist() == [4]


def test_the_file_is_plain_csv(paths):
    with open(paths.image_labels, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["image", *CLASSES] and len(rows) == 8
    assert rows[2] == ["2007_000002", "1", *"0" * 14, "1", *"0" * 4, "1"]
    assert [path.name for path in paths.image_labels.parent.iterdir()] == ["image_labels.csv"]


def test_ids_that_look_like_numbers_stay_text(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(",".join(["image", *CLASSES]) + "\n" + ",".join(["000042", *"1" * 21]) + "\nNA" + ",0" * 21 + "\n")
    assert read_image_labels(path)[0] == ["000042", "NA"]


def spoil(path, change):
    rows = [line.split(",") for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")


def swap(rows):
    for row in rows:
        row[3], row[4] = row[4], row[3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap, "in order"),
        (lambda rows: [row.pop() for row in rows], "21 labels"),
        (lambda rows: rows[1].__setitem__(2, "2"), "0 or 1"),
        (lambda rows: rows[1].__setitem__(2, ""), "0 or 1"),
        (lambda rows: rows[1].__setitem__(2, "yes"), "0 or 1"),
        (lambda rows: rows[2].pop(), "not a table"),
        (lambda rows: rows.append(rows[1]), "twice"),
        (lambda rows: rows.__delitem__(slice(1, None)), "no images"),
        (lambda rows: rows.__delitem__(slice(None)), "not a table"),
    ],
)
def test_files_that_cannot_be_used(paths, change, message):
    spoil(paths.image_labels, change)
    with pytest.raises(WeaksegError, match=rf"image_labels\.csv.*{message}"):
        read_image_labels(paths.image_labels)


def test_no_file(tmp_path):
    with pytest.raises(WeaksegError, match="run `weakseg annotate` first"):
        read_image_labels(tmp_path / "image_labels.csv")


def test_a_mask_spoilt_since_the_check_is_named(paths, tmp_path):
    mask = open_data(paths.manifest).mask_path("2007_000005")
    mask.write_bytes(b"gone")
    before = paths.image_labels.read_bytes()
    with pytest.raises(WeaksegError, match=r"2007_000005\.png"):
        write_image_labels(paths.manifest, paths.image_labels)
    assert paths.image_labels.read_bytes() == before
