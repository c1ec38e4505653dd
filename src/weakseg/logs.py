"""Sending what a command prints to a log file as well, with progress bars thinned out to lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PROGRESS_SECONDS = 10.0
"""Least time between two lines of one progress bar, in a log file and on the stream beside it."""


class Tee:
    """A text stream that passes on to others whole lines, and of a progress bar a line every few seconds.

    A progress bar (tqdm) redraws its line after a carriage return. In a file, and where several jobs share one
    terminal, that is noise: only the first state, one every `seconds` and the last one are passed on, each as a line.
    """

    def __init__(self, *streams: TextIO, seconds: float = PROGRESS_SECONDS) -> None:
        self._streams = streams
        self._seconds = seconds
        self._line = ""
        self._shown = ""
        self._last = float("-inf")

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Take in any piece of text; see the class for what is passed on."""
        for piece in text.splitlines(keepends=True):
            if piece.startswith("\r"):
                self._line = ""
            body = piece.rstrip("\r\n")
            redraw = piece.endswith("\r") or (piece == "\r")
            self._line += body
            if piece.endswith("\n"):
                if self._line != self._shown:
                    self._emit(self._line)
                self._line = self._shown = ""
            elif redraw and self._line.strip():
                self._progress()
                self._line = ""
            elif "\x1b[A" in self._line:
                self._line = ""
        return len(text)

    def _progress(self) -> None:
        """Show the bar's present state if its time has come."""
        now = time.monotonic()
        if now - self._last >= self._seconds and self._line != self._shown:
            self._last = now
            self._emit(self._line)
            self._shown = self._line

    def _emit(self, line: str) -> None:
        for stream in self._streams:
            stream.write(line.rstrip() + "\n")
            stream.flush()

    def flush(self) -> None:
        """Nothing is held back but an unfinished line; the streams below are flushed line by line."""

    def isatty(self) -> bool:
        """A terminal's cursor movements make no sense in a file."""
        return False

    def close_line(self) -> None:
        """Pass on an unfinished last line."""
        if self._line.strip() and self._line != self._shown:
            self._emit(self._line)
        self._line = self._shown = ""


@contextmanager
def logged(log: str | Path | None) -> Iterator[None]:
    """Copy standard output and standard error to `log` (a new file) while the block runs; None: do nothing."""
    if log is None:
        yield
        return
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    standard = sys.stdout, sys.stderr
    with path.open("w", encoding="utf-8") as file:
        tees = Tee(sys.stdout, file), Tee(sys.stderr, file)
        sys.stdout, sys.stderr = tees
        try:
            yield
        finally:
            for tee in tees:
                tee.close_line()
            sys.stdout, sys.stderr = standard
