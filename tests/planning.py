"""Calls of snakemake that do not wait for its imports: each is forked from a process that has made them."""

import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "pandas", "requests", "smart_open", "snakemake.cli", "snakemake.api", "snakemake.profiles", "snakemake.storage",
        "snakemake.report.html_reporter", "weakseg.config", "weakseg.decides", "weakseg.report.pages",
    ]
)  # fmt: skip


class Done(NamedTuple):
    """A call that has ended: its exit status, and its standard output and error together."""

    returncode: int
    stdout: str


def snakemake(words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float = 200) -> Done:
    """Call snakemake in a folder with this environment and no other.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    with tempfile.TemporaryFile() as output:
        process = SERVER.Process(
            target=_call, args=(SERVER.reducer.DupFd(output.fileno()), list(words), str(folder), dict(environment))
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"snakemake {' '.join(words)}: more than {timeout:g} s")
        output.seek(0)
        return Done(process.exitcode, output.read().decode(errors="replace"))


def _call(output, words: list[str], folder: str, environment: dict[str, str]) -> None:
    descriptor = output.detach()
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    # The streams of a process forked by the server are those that pytest had: new ones lead to `output`.
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["snakemake", *words]
    from snakemake.cli import main

    main()
