"""Thinning out progress bars, and copying output to a file."""

import io
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from weakseg.logs import Tee, logged


def tee(times: list[float]) -> tuple[Tee, io.StringIO]:
    """A tee whose clock shows the given times, one a look."""
    out = io.StringIO()
    return Tee(out, seconds=10, clock=lambda: times.pop(0) if times else 1e9), out


def test_plain_lines_pass_unchanged_however_they_are_cut() -> None:
    stream, out = tee([])
    for piece in ("one\ntw", "o\n\n", "thr", "ee"):
        stream.write(piece)
    assert out.getvalue() == "one\ntwo\n\n"
    stream.finish()
    assert out.getvalue() == "one\ntwo\n\nthree\n"


def test_progress_gets_a_line_every_ten_seconds_and_the_last_one() -> None:
    stream, out = tee([-1, 0, 1, 9, 10, 11, 12])
    for percent in (0, 10, 20, 30, 40, 50):
        stream.write(f"\r{percent}%")
    stream.write("\r100%\n")
    # A state is known to be one when the next redraw begins: 0% at 0 s, 30% at 10 s, 100% at the end.
    assert out.getvalue().split() == ["0%", "30%", "100%"]


def test_a_line_of_windows_is_one_line() -> None:
    stream, out = tee([0])
    stream.write("text\r\nmore\r\n")
    assert out.getvalue() == "text\nmore\n"


def test_a_bar_of_tqdm_becomes_a_few_lines_that_end_with_the_whole() -> None:
    stream, out = tee([0.0] * 1000)
    for _ in tqdm(range(50), file=stream, mininterval=0, desc="work"):
        pass
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and "50/50" in lines[-1] and all(line.startswith("work") for line in lines)


def test_log_gets_both_streams_and_they_are_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    log = tmp_path / "logs" / "step.log"
    with pytest.raises(RuntimeError), logged(log):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        raise RuntimeError
    assert (sys.stdout, sys.stderr) == before
    assert log.read_text(encoding="utf-8") == "to stdout\nto stderr\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("to stdout\n", "to stderr\n")


def test_without_a_log_the_streams_are_left_alone() -> None:
    before = sys.stdout
    with logged(None):
        assert sys.stdout is before
