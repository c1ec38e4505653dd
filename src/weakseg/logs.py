"""Sending what a command prints to a log file as well, with progress bars thinned out to lines."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PROGRESS_SECONDS = 10.0
"""Least time between two lines of one progress bar."""


class Tee:
    """A text stream that passes on whole lines to others, and of a progress bar a line every few seconds.

    A progress bar (tqdm) redraws its line after a carriage return. In a file, and where several jobs share one
    terminal, that is noise: the first state, one every `seconds` and the last one are passed on, each as a line.

    Args:
        streams: where the lines go.
        seconds: least time between two lines of a bar.
        clock: a clock in seconds.
    """

    encoding = "utf-8"

    def __init__(
        self, *streams: TextIO, seconds: float = PROGRESS_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._streams = streams
        self._seconds = seconds
        self._clock = clock
        self._line = ""
        self._shown: str | None = None
        self._shown_at = float("-inf")

    def write(self, text: str) -> int:
        """Take in any piece of text; returns its length."""
        for piece in re.split(r"(\r\n|\r|\n)", text):
            if piece in ("\n", "\r\n"):
                self._end_line()
            elif piece == "\r":
                self._show_progress()
                self._line = ""
            else:
                self._line += piece
        return len(text)

    def flush(self) -> None:
        """Do nothing: each line is flushed as it is passed on, and an unfinished line is kept."""

    def isatty(self) -> bool:
        """No: a terminal's cursor movements make no sense in a file."""
        return False

    def finish(self) -> None:
        """Pass on an unfinished last line."""
        if self._line.strip():
            self._end_line()

    def _show_progress(self) -> None:
        now = self._clock()
        if self._line.strip() and now - self._shown_at >= self._seconds:
            self._emit(self._line)
            self._shown, self._shown_at = self._line, now

    def _end_line(self) -> None:
        if self._line != self._shown:
            self._emit(self._line)
        self._line, self._shown = "", None

    def _emit(self, line: str) -> None:
        for stream in self._streams:
            stream.write(line.rstrip() + "\n")
            stream.flush()


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
                tee.finish()
            sys.stdout, sys.stderr = standard
