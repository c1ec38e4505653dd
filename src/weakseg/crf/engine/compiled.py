"""Compilation of the engine's kernels, and the folder on disk that keeps them for all later processes."""

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import platformdirs
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from weakseg.files import atomic_path

FAST = {"nnan", "nsz", "contract", "reassoc"}
"""What `fast` kernels let the compiler assume of floats: none is NaN, and sums may be reordered."""

_DIGEST = hashlib.sha256().digest_size
# Read on import, with the code itself: files that are replaced while a process runs are not what it compiles.
_SOURCES = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).digest()


def compiled(*, fast: bool = False, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator for kernels: machine code on first use, kept on disk, running without the interpreter's lock.

    It is for functions in files of this folder alone, whose text names the folder that keeps the machine code.
    Kernels copy arrays in loops: numba compiles an assignment of an array together with its error message, for seconds.
    """

    def compile_kernel(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"fastmath": FAST} if fast else {}
        if inline:
            return numba.njit(inline="always", **options)(function)
        kernel = numba.njit(nogil=True, **options)(function)
        kernel._cache = KernelCache(f"{function.__module__}.{function.__qualname__}")
        return kernel

    return compile_kernel


class KernelCache(_Cache):
    """The machine code of one kernel on disk, in place of numba's own cache.

    Numba's tells by a function's own file whether what it kept is stale, but constants and functions of other files are
    compiled in, too; it fails on a torn file, and on import where it finds no folder to write to. Here a folder is
    named after all that decides the machine code, a file holds its own checksum, and no file is needed.
    """

    cache_path = None

    def __init__(self, name: str) -> None:
        """The cache of the kernel of this name."""
        self._name = name

    def load_overload(self, signature: Any, target_context: Any) -> CompileResult | None:
        """What is kept for these argument types; None where nothing whole is."""
        target_context.refresh()
        file = self._file(signature, target_context.codegen())
        for folder in _folders(make=False):
            try:
                content = (folder / file).read_bytes()
            except OSError:
                continue
            if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
                return CompileResult._rebuild(target_context, *pickle.loads(content[_DIGEST:]))
        return None

    def save_overload(self, signature: Any, result: CompileResult) -> None:
        """Keep what was compiled for these argument types, in the first folder that can be written to."""
        file = self._file(signature, result.codegen)
        content = dumps(result._reduce())
        for folder in _folders(make=True):
            try:
                with atomic_path(folder / file) as temporary:
                    temporary.write_bytes(hashlib.sha256(content).digest() + content)
            except OSError:
                continue
            if folder == _temporary(make=False):
                _say(f"are kept in {folder}")
            return
        _say("are kept nowhere, and every process compiles them anew")

    def _file(self, signature: Any, codegen: Any) -> str:
        """Folder and file name: a hash of all that decides the machine code, and one of the argument types."""
        everything = (_SOURCES, numba.__version__, llvmlite.__version__, sys.version, codegen.magic_tuple())
        return f"kernels-{_short(everything)}/{self._name.rpartition('.')[2]}-{_short((self._name, str(signature)))}"

    def enable(self) -> None:
        """Part of numba's interface; the cache is always on."""

    def disable(self) -> None:
        """Part of numba's interface; the cache is always on."""

    def flush(self) -> None:
        """Part of numba's interface; nothing kept is ever stale."""


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _folders(*, make: bool) -> Iterator[Path]:
    """Where kernels may be kept, best first: NUMBA_CACHE_DIR, beside the engine, the user's cache, a temporary folder.

    Only the last is made here, on request; none need be writable.
    """
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    yield Path(__file__).parent / "__pycache__"
    user = platformdirs.user_cache_path("weakseg", appauthor=False)
    if user.is_absolute():  # a user without a home has none
        yield user
    if (temporary := _temporary(make=make)) is not None:
        yield temporary


def _temporary(*, make: bool) -> Path | None:
    """The folder among the temporary ones that this user alone can write to, so that its files can be trusted."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"weakseg-kernels-{user}"
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    own = stat.S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == user and not found.st_mode & 0o077))
    return folder if own else None


@cache
def _say(where: str) -> None:
    """Say once a process where kernels are kept."""
    print(
        f"weakseg: neither the package's folder nor the user's cache is writable: compiled CRF kernels {where}",
        file=sys.stderr,
    )
