"""Compilation of the engine's kernels, once on disk for all processes."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import config, njit

FAST = {"nnan", "nsz", "contract", "reassoc"}
"""What `fast` kernels let the compiler assume of floats: none is NaN, and sums may be reordered."""


def compiled(*, fast: bool = False, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator for kernels: machine code on first use, kept on disk, running without the interpreter's lock.

    Numba looks at a function's own file to tell whether what it kept is stale, but constants and functions of other
    files are compiled in, too. So the folder is named after the text of all files of the engine.

    Kernels copy arrays in loops: numba compiles an assignment of an array together with its error message, for seconds.
    """

    def compile_kernel(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"fastmath": FAST} if fast else {}
        if inline:
            return njit(inline="always", **options)(function)
        before = config.CACHE_DIR  # type: ignore[attr-defined]
        config.CACHE_DIR = _folder(before)  # type: ignore[attr-defined]
        try:
            return njit(nogil=True, cache=True, **options)(function)
        finally:
            config.CACHE_DIR = before  # type: ignore[attr-defined]

    return compile_kernel


def _folder(chosen: str) -> str:
    beside = Path(__file__).parent / "__pycache__"
    return str((Path(chosen) if chosen else beside) / f"kernels-{_sources()}")


@lru_cache
def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
