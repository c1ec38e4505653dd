"""What the files of a data set hold: their hashes, and whether they are still what they were.

A file is read only if its size or date differ from those noted with its hash, so that twelve thousand photos are
compared in a second.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weakseg.data.dataset import DataSet
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text, sha256_file, sha256_json


@dataclass(frozen=True)
class FileFact:
    """A file as it was when it was read.

    Attributes:
        size: bytes.
        mtime_ns: date of its last change.
        sha256: hash of its content.
    """

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """The files of a data set: facts by name, which is `KIND/IMAGE`, or a kind alone for what all images share."""

    facts: Mapping[str, FileFact]

    def digest(self, ids: Iterable[str], kind: str) -> str:
        """Hash of the files of one kind of some images, in their order; an image without one counts as such."""
        known = self.facts
        return sha256_json([[i, known[name].sha256 if (name := f"{kind}/{i}") in known else None] for i in ids])


def named_files(data: DataSet, ids: Iterable[str], lists: list[str]) -> dict[str, Path]:
    """The files of a data set by name, as `Contents` names them."""
    named = {f"{kind}/{i}": path for i in ids for kind, path in data.files(i).items()}
    return named | data.shared_files(lists)


def read_facts(files: Mapping[str, Path], known: Mapping[str, FileFact], *, threads: int = 4) -> dict[str, FileFact]:
    """Facts of files as they are now; a hash that is known for the same size and date is not computed again."""

    def fact(name: str) -> FileFact:
        status = files[name].stat()
        before = known.get(name)
        if before is not None and (before.size, before.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return before
        return FileFact(status.st_size, status.st_mtime_ns, sha256_file(files[name]))

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(files, pool.map(fact, files), strict=True))


def changed_names(now: Mapping[str, FileFact], before: Mapping[str, FileFact]) -> list[str]:
    """Names of files that were added, removed or have another content, sorted."""
    names = now.keys() | before.keys()
    return sorted(n for n in names if n not in now or n not in before or now[n].sha256 != before[n].sha256)


def write_contents(path: str | Path, facts: Mapping[str, FileFact]) -> None:
    """Write facts as JSON, a line a file."""
    lines = [f"{json.dumps(name)}: {json.dumps([f.size, f.mtime_ns, f.sha256])}" for name, f in facts.items()]
    atomic_write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_contents(path: str | Path) -> Contents:
    """What `write_contents` wrote.

    Raises:
        WeaksegError: no such file, or not such facts.
    """
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        return Contents({name: FileFact(int(s), int(m), str(h)) for name, (s, m, h) in read.items()})
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run `weakseg data` first") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise WeaksegError(f"{path}: not the facts of a data set ({error}); run `weakseg data` again") from error


def known_facts(path: str | Path) -> Mapping[str, FileFact]:
    """The facts that were noted before, none where there is no such file or not a usable one."""
    try:
        return read_contents(path).facts
    except WeaksegError:
        return {}


def check_unchanged(data: DataSet, contents: Contents, ids: Iterable[str], kinds: Iterable[str]) -> None:
    """Raise WeaksegError if a file that is about to decide a result is not what it was when the data were prepared.

    Args:
        data: the data set.
        contents: its files when it was prepared.
        ids: the images that are used.
        kinds: what is read of them, as `DataSet.files` names it.
    """
    ids, kinds = list(ids), list(kinds)
    wanted = [f"{kind}/{i}" for i in ids for kind in kinds]
    paths: dict[str, Path] = {}
    for image_id in ids:
        paths |= {f"{kind}/{image_id}": path for kind, path in data.files(image_id).items()}
    files = {name: paths[name] for name in wanted if name in paths}
    before = {name: contents.facts[name] for name in wanted if name in contents.facts}
    if changed := changed_names(read_facts(files, before), before):
        where = paths.get(changed[0], changed[0])
        raise WeaksegError(
            f"{where}: it was changed, added or removed since `weakseg data` read it ({len(changed)} such file(s)); "
            "run `weakseg data` again, and what depends on it"
        )
