"""Whether the files of a data set are still what they were."""

import os

import numpy as np
import pytest
from fabricate import write_voc
from PIL import Image

from weakseg.data import contents
from weakseg.data.contents import (
    Contents,
    changed_names,
    check_unchanged,
    named_files,
    read_contents,
    read_facts,
    write_contents,
)
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError


@pytest.fixture
def folder(tmp_path):
    root = write_voc(tmp_path / "voc")
    (root / "image_labels.csv").write_text("image,labels\na,cat\n")
    return VocFolder(root)


@pytest.fixture
def ids(folder):
    return folder.read_list("train_aug")


@pytest.fixture
def before(folder, ids):
    return read_facts(named_files(folder, ids, ["train", "val", "none"]), {})


def now(folder, ids, before):
    return read_facts(named_files(folder, ids, ["train", "val", "none"]), before)


def touch(path, seconds=100):
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + seconds))


def test_the_files_of_a_data_set_by_name(folder, ids, before):
    named = {f"{kind}/{i}" for kind in ("photo", "mask") for i in ids}
    assert set(before) == named | {"list train", "list val", "tags"}


def test_touched_files_are_unchanged(folder, ids, before):
    for path in (folder.image_path(ids[0]), folder.mask_path(ids[1]), folder.tag_file):
        touch(path)
    after = now(folder, ids, before)
    assert changed_names(after, before) == [] and after["tags"] != before["tags"]
    check_unchanged(folder, Contents(before), ids, ["photo", "mask"])


def test_changed_added_and_removed_files(folder, ids, before):
    Image.fromarray(np.zeros((40, 52, 3), np.uint8)).save(folder.image_path(ids[2]))
    folder.mask_path(ids[3]).unlink()
    folder.annotation_path(ids[0]).parent.mkdir()
    folder.annotation_path(ids[0]).write_text("<annotation/>")
    folder.tag_file.write_text("image,labels\na,dog\n")  # of the same length
    touch(folder.tag_file)
    expected = sorted([f"boxes/{ids[0]}", f"mask/{ids[3]}", f"photo/{ids[2]}", "tags"])
    assert changed_names(now(folder, ids, before), before) == expected
    assert changed_names(before, now(folder, ids, before)) == expected


def test_a_hash_that_is_known_is_not_computed_again(folder, ids, before, monkeypatch):
    read = []
    whole = contents.sha256_file
    monkeypatch.setattr(contents, "sha256_file", lambda path: (read.append(path), whole(path))[1])
    assert now(folder, ids, before) == before and read == []
    touch(folder.mask_path(ids[4]))
    with folder.image_path(ids[5]).open("ab") as stream:
        date = folder.image_path(ids[5]).stat()
        stream.write(b"more")
    os.utime(folder.image_path(ids[5]), ns=(date.st_atime_ns, date.st_mtime_ns))  # another size, the same date
    assert changed_names(now(folder, ids, before), before) == [f"photo/{ids[5]}"]
    assert sorted(read) == sorted([folder.mask_path(ids[4]), folder.image_path(ids[5])])


@pytest.mark.parametrize("kind", ["photo", "mask"])
@pytest.mark.parametrize("change", ["other content", "removed", "added"])
def test_a_file_that_decides_a_result_must_be_unchanged(folder, ids, before, kind, change):
    path = folder.files(ids[3])[kind]
    if change == "removed":
        path.unlink()
    elif change == "added":
        before.pop(f"{kind}/{ids[3]}")
    else:
        path.write_bytes(b"something else")
    with pytest.raises(WeaksegError, match=rf"{ids[3]}.*was changed, added or removed .*\(1 such file.*`weakseg data`"):
        check_unchanged(folder, Contents(before), iter(ids), iter(["photo", "mask"]))
    if change != "removed":
        with pytest.raises(WeaksegError, match=f"^{path}: "):
            check_unchanged(folder, Contents(before), ids, [kind])
    other = "mask" if kind == "photo" else "photo"
    check_unchanged(folder, Contents(before), ids, [other])
    check_unchanged(folder, Contents(before), ids[:3], [kind])


def test_the_digest_of_some_files(folder, ids, before):
    def digest(facts, chosen=ids[:3], kind="mask"):
        return Contents(facts).digest(chosen, kind)

    whole = digest(before)
    touch(folder.mask_path(ids[0]))
    folder.mask_path(ids[3]).write_bytes(b"another")
    folder.image_path(ids[0]).write_bytes(b"another")
    assert digest(now(folder, ids, before)) == whole
    assert digest(before, ids[2::-1]) != whole != digest(before, kind="photo")
    folder.mask_path(ids[1]).unlink()
    without = digest(now(folder, ids, before))
    folder.mask_path(ids[1]).write_bytes(b"another")
    assert len({whole, without, digest(now(folder, ids, before))}) == 3


def test_facts_come_back_from_their_file(before, tmp_path):
    path = tmp_path / "contents.json"
    write_contents(path, before)
    assert read_contents(path).facts == before
    assert len(path.read_text().splitlines()) == len(before) + 2
    with pytest.raises(WeaksegError, match="run `weakseg data` first"):
        read_contents(tmp_path / "none.json")
    for text in ("{", "[]", '{"a": [1, 2]}', '{"a": ["x", 2, "3"]}', '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(WeaksegError, match=r"contents\.json: not the facts of a data set"):
            read_contents(path)
