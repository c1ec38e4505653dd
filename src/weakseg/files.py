"""Writing results so that a half-written file is never taken for a finished one, and hashing inputs."""

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` when the block ends without an error.

    The temporary name keeps the suffix of `target` (writers that choose a format by suffix go on working). It is random
    besides the process id, which is 1 in many containers that may share a folder. On an error the temporary file is
    removed and `target` is left as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(target: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `target` in one step."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(target: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, in one step."""
    atomic_write_text(target, json.dumps(value, indent=1, sort_keys=True) + "\n")


def atomic_write_csv(target: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns, in their order, as CSV (UTF-8) in one step; None is an empty field.

    For tables that are made and not computed with: importing a library for those takes longer than the writing.
    """
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def fresh_folder(target: str | Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name `target` when the block ends without an error.

    What stood at `target` before is replaced then, and left as it was on an error.
    """
    target = Path(target)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(finished: Path, target: Path) -> None:
    """Give a finished folder the name `target`; what stood there is removed."""
    shutil.rmtree(target, ignore_errors=True)
    finished.rename(target)


def sha256_file(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
