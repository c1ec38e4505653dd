"""Writing in one step, and hashing."""

import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest

from weakseg.files import (
    atomic_path,
    atomic_write_csv,
    atomic_write_json,
    atomic_write_text,
    fresh_folder,
    sha256_file,
    sha256_json,
)


def test_target_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "table.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert not target.exists()
        assert temporary.parent == target.parent and temporary.suffix == ".csv"
    assert target.read_text(encoding="utf-8") == "half"
    assert [path.name for path in target.parent.iterdir()] == ["table.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="disk"), atomic_path(target) as temporary:
        temporary.write_bytes(b"new, and only half of it")
        raise RuntimeError("disk full")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_two_writers_at_once_both_succeed(tmp_path: Path) -> None:
    # Two containers on one folder may have the same process id, as the two writers have here.
    target = tmp_path / "boxes.json"
    with atomic_path(target) as first:
        first.write_text("first", encoding="utf-8")
        with atomic_path(target) as second:
            second.write_text("second", encoding="utf-8")
            assert first.read_text(encoding="utf-8") == "first"
        assert target.read_text(encoding="utf-8") == "second"
    assert target.read_text(encoding="utf-8") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.json"]


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    for text in ("erste Fassung, länger", "zweite\n"):
        atomic_write_text(target, text)
    assert target.read_bytes() == b"zweite\n"


def test_json_is_sorted_so_that_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    atomic_write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_csv_is_that_of_pandas(tmp_path: Path) -> None:
    rows = [{"name": "potted plant", "iou": 100 / 3, "images": 2}, {"name": 'a "b", c', "iou": None, "images": 0}]
    atomic_write_csv(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_text() == pd.DataFrame(rows).to_csv(index=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_hash_of_a_value_knows_values_not_orders_of_keys() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "labels"
    with pytest.raises(RuntimeError), fresh_folder(target) as folder:
        (folder / "a.png").write_text("half")
        raise RuntimeError("killed")
    assert not target.exists() and not list(tmp_path.iterdir())
    for content in ("first", "second"):
        with fresh_folder(target) as folder:
            (folder / f"{content}.png").write_text(content)
    assert [path.name for path in target.iterdir()] == ["second.png"]
