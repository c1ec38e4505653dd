"""Sending what a command prints to a log file as well, progress bars thinned out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class _Tee:
    """A stream that also writes to a file; of a progress bar's redraws the file gets every twentieth."""

    def __init__(self, stream: IO[str], log: IO[str]) -> None:
        self._stream = stream
        self._log = log
        self._redraws = 0

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        if "\r" in text:
            self._redraws += 1
            if self._redraws % 20 == 1:
                self._log.write(text.strip("\r\n") + "\n")
        elif text.strip() or text == "\n":
            self._log.write(text)
        self._log.flush()
        return written

    def flush(self) -> None:
        self._stream.flush()
        self._log.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def logged(path: str | Path | None) -> Iterator[None]:
    """Copy stdout and stderr to `path` while the block runs; None: do nothing."""
    if path is None:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    with open(path, "w", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(before[0], log), _Tee(before[1], log)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
