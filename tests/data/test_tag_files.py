"""Files of image-level labels: both forms, and what is said of faulty ones."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.data.tag_files import read_tags, write_tags
from weakseg.errors import WeaksegError
from weakseg.labels import COCO, VOC, LabelSet

OWN = LabelSet.of_classes("own", ["cat", "lawn mower", "Dog"])


def shown(path, labels=OWN):
    return {image_id: np.flatnonzero(present).tolist() for image_id, present in read_tags(path, labels).items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tags.csv"


def test_a_column_a_label(path):
    path.write_text("image,background,cat,lawn mower,Dog\na,1,0,1,0\nb,0,1,0,1\n")
    assert shown(path) == {"a": [0, 2], "b": [1, 3]}
    assert all(present.dtype == bool and present.shape == (4,) for present in read_tags(path, OWN).values())


def test_columns_in_any_order_of_some_labels_with_the_background_left_out(path):
    path.write_text("Image,DOG, lawn mower \n a ,1,0\nb,0,1\n\n")
    assert shown(path) == {"a": [0, 3], "b": [0, 2]}


@pytest.mark.parametrize("name", ["labels", "label", "tags", "Classes"])
def test_a_list_of_names_a_row(path, name):
    path.write_text(f"image,{name}\na,lawn mower; dog\nb,\nc,CAT;\n")
    assert shown(path) == {"a": [0, 2, 3], "b": [0], "c": [0, 1]}


def test_marks_and_line_ends_of_spreadsheets(path):
    path.write_bytes('\ufeffimage,labels\r\nfähre 1,"cat; Dog"\r\n'.encode())
    assert shown(path) == {"fähre 1": [0, 1, 3]}


def test_ids_that_look_like_numbers_stay_text(path):
    path.write_text("image,labels\n000042,cat\nNA,dog\n1e3,dog\n")
    assert list(shown(path)) == ["000042", "NA", "1e3"]


def test_the_written_file_is_plain_csv(path):
    write_tags(path, {"a": np.eye(21, dtype=bool)[15]}, VOC)
    with open(path, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["image", *VOC.names] and rows == [["a", *"0" * 15, "1", *"0" * 5]]


ID = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
WORD = st.from_regex(r"[a-z]{1,6}( [a-z;,\"]{1,4})?", fullmatch=True)
CLASSES = st.lists(WORD, min_size=1, max_size=6, unique=True).filter(lambda names: "background" not in names)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(ID, st.integers(0, 2**91 - 1), min_size=1, max_size=5), CLASSES, st.sampled_from([VOC, COCO, None])
)
def test_what_is_written_is_read_back(tmp_path_factory, bits, classes, known):
    labels = known or LabelSet.of_classes("own", classes)
    tags = {i: np.array([value >> n & 1 for n in range(len(labels))], bool) for i, value in bits.items()}
    path = tmp_path_factory.mktemp("tags") / "tags.csv"
    write_tags(path, tags, labels)
    read = read_tags(path, labels)
    assert list(read) == list(tags) and all(np.array_equal(read[i], tags[i]) for i in tags)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(ID, st.sets(st.integers(1, 20)), min_size=1, max_size=5))
def test_both_forms_say_the_same(tmp_path_factory, labels_of):
    folder = tmp_path_factory.mktemp("tags")
    with open(folder / "listed.csv", "w", newline="", encoding="utf-8") as stream:
        rows = [[i, ";".join(VOC.names[label] for label in labels)] for i, labels in labels_of.items()]
        csv.writer(stream).writerows([["image", "labels"], *rows])
    listed = read_tags(folder / "listed.csv", VOC)
    write_tags(folder / "columns.csv", listed, VOC)
    assert shown(folder / "columns.csv", VOC) == {i: [0, *sorted(labels)] for i, labels in labels_of.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns"),
        ("\n , \n", "its first line must name the columns"),
        ("a,cat\n", "its first line must name the columns"),
        ("image\na\n", "its first line must name the columns"),
        ("image,labels\n", "no images in it"),
        ("image,cat\na,1\n\na,0\n", "line 4: image a stands in it twice"),
        ("image,cat,dog\na,1,0\nb,1\n", "line 3: 2 columns in place of 3"),
        ("image,labels\na,cat,dog\n", "line 2: 3 columns in place of 2"),
        ("image,cat\na,1\nb,2\n", "line 3: labels must be 0 or 1"),
        ("image,cat\na,\n", "line 2: labels must be 0 or 1"),
        ("image,cat\na,yes\n", "line 2: labels must be 0 or 1"),
        ("image,cat,CAT\na,1,1\n", "line 1: a label has two columns"),
        ("image,cat,lawnmower\na,1,1\n", "line 1: 'lawnmower' is no class .* did you mean 'lawn mower'"),
        ("image,labels\na,cat\nb,cat; Dgo\n", "line 3: 'Dgo' is no class .* did you mean 'Dog'"),
        ('image,labels\na,"cat\n', "not a table of image-level labels"),
    ],
)
def test_faults_are_named_by_line(path, text, message):
    path.write_text(text)
    with pytest.raises(WeaksegError, match=rf"tags\.csv: {message}"):
        read_tags(path, OWN)


def test_files_that_are_no_text_or_not_there(path):
    with pytest.raises(WeaksegError, match=r"tags\.csv: no such file; run `weakseg annotate` first"):
        read_tags(path, OWN)
    path.write_bytes("image,labels\na,cat\n".encode("utf-16"))
    with pytest.raises(WeaksegError, match=r"tags\.csv: not a table of image-level labels in UTF-8"):
        read_tags(path, OWN)
