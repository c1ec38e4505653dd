"""The folder of compiled kernels: where it lies, what it is named after, and files in it that are not whole."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import warm

from weakseg.crf.engine import compiled

KERNEL = """
from weakseg.crf.engine.compiled import compiled
from weakseg.crf.engine.tiles import tile_at

@compiled()
def second_row():
    return tile_at(1, 0, 80, 8000)  # as many as a strip is wide

def print_found():
    print(second_row(), len(second_row.stats.cache_hits))
"""


def print_found(root: str) -> None:
    """Run the kernel of the package in `root`, in a forked process."""
    warm.without_weakseg(root)
    sys.dont_write_bytecode = True
    from weakseg.crf.engine.kernel import print_found

    from weakseg.crf.engine import compiled as imported

    assert imported.__file__.startswith(root), imported.__file__
    print_found()


class Copy:
    """A copy of the engine with a small kernel beside it, which uses a constant of another file."""

    def __init__(self, root: Path, package: Path) -> None:
        """Under `root`; `package` is the original."""
        self.root, self.engine = root, root / "weakseg" / "crf" / "engine"
        shutil.copytree(package, self.root / "weakseg", ignore=shutil.ignore_patterns("__pycache__"))
        (self.engine / "kernel.py").write_text(KERNEL, encoding="utf-8")
        self.temporary = root / "tmp"
        self.temporary.mkdir()
        self.user = root / "user"

    def run(self) -> list[str]:
        """The lines that the kernel prints in a process of its own."""
        hidden = ("NUMBA_CACHE_DIR", "PYTHONPYCACHEPREFIX")
        environment = {name: value for name, value in os.environ.items() if name not in hidden} | {
            "PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(self.user), "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        done = warm.captured(print_found, str(self.root), folder=self.root, environment=environment)
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()

    def upgrade(self) -> None:
        """Change a constant that the kernel's own file does not hold."""
        file = self.engine / "tiles.py"
        old = file.read_text(encoding="utf-8")
        file.write_text(old.replace("STRIP = 16", "STRIP = 4"), encoding="utf-8")
        assert file.read_text(encoding="utf-8") != old


@pytest.mark.parametrize("place", ["beside", "user", "temporary", "nowhere"])
def test_kernels_are_kept_where_it_can_be_and_never_outlive_an_upgrade(
    tmp_path: Path, project_root: Path, place: str
) -> None:
    copy = Copy(tmp_path, project_root / "src" / "weakseg")
    # A file where a folder should be stops every user, the superuser too.
    if place != "beside":
        (copy.engine / "__pycache__").touch()
    if place in ("temporary", "nowhere"):
        copy.user.touch()
    if place == "nowhere":
        (copy.temporary / f"weakseg-kernels-{os.getuid()}").touch()
    first, second = copy.run(), copy.run()
    assert first[-1] == "16 0"
    assert second[-1] == f"16 {0 if place == 'nowhere' else 1}"
    folder = {"beside": copy.engine / "__pycache__", "user": copy.user}.get(place, copy.temporary)
    assert bool([*folder.rglob("second_row-*")]) == (place != "nowhere")
    assert any(copy.temporary.iterdir()) == (place in ("temporary", "nowhere"))
    said = {"temporary": f"CRF kernels are kept in {copy.temporary}", "nowhere": "CRF kernels are kept nowhere"}
    assert len(first) == (2 if place in said else 1)
    assert said.get(place, "") in first[0]
    copy.upgrade()
    assert copy.run()[-1] == "4 0"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "head", "half", "one bit", "zeros"],
)
def test_torn_files_are_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(compiled, "_folders", lambda *, make: [tmp_path])

    def twice_hits() -> int:
        kernel: Any = compiled.compiled()(_twice)
        assert kernel(21) == 42
        return len(kernel.stats.cache_hits)

    assert twice_hits() == 0
    assert twice_hits() == 1
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    file.write_bytes(damage(file.read_bytes()))
    assert twice_hits() == 0
    assert twice_hits() == 1


def test_a_temporary_folder_of_somebody_else_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    assert compiled._temporary(make=False) is None
    folder = compiled._temporary(make=True)
    assert folder is not None and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    assert compiled._temporary(make=True) is None
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert compiled._temporary(make=True) is None


def _twice(value):
    return 2 * value
