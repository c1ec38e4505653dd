"""Calls that do not wait for their imports: each runs in a process that the job server forks.

Tests that run jobs for real start `weakseg`, `papermill`, `jupyter nbconvert` and `snakemake` dozens of times, and the
imports of these take longer than the jobs.
"""

import base64
import functools
import os
import pickle
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from weakseg import job_server
from weakseg.job_client import SOCKET, ask, status

HERE = Path(__file__).parent


class Done(NamedTuple):
    """A call that has ended: its exit status, and its standard output and error together."""

    returncode: int
    stdout: str


def captured(
    function: Callable[..., None],
    *arguments: object,
    folder: str | Path,
    environment: Mapping[str, str],
    timeout: float = 200,
) -> Done:
    """Call a function in a forked process, in a folder, with this environment and no other.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    with tempfile.TemporaryFile() as output:
        call = begin(function, *arguments, output=output.fileno(), folder=folder, environment=environment)
        with call:
            if not select.select([call], [], [], timeout)[0]:
                raise TimeoutError(f"{function.__name__} {arguments}: more than {timeout:g} s")
            code = status(call)
        output.seek(0)
        return Done(code, output.read().decode(errors="replace"))


def begin(
    function: Callable[..., None],
    *arguments: object,
    output: int,
    folder: str | Path,
    environment: Mapping[str, str],
) -> socket.socket:
    """The same with the output to a descriptor, not waited for; `status` of what is returned waits."""
    call = base64.b64encode(pickle.dumps((sys.path, pickle.dumps((function, arguments))))).decode()
    with open(os.devnull) as nothing:
        return ask(commands(), ["call", call], [nothing.fileno(), output, output], str(folder), environment)


def without_weakseg(source: str) -> None:
    """Forget the package in a forked process, so that it is imported anew from the folder `source`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "weakseg"]:
        del sys.modules[name]
    sys.path.insert(0, source)


@functools.cache
def commands() -> Path:
    """The folder of commands of this process's job server, which is ready."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *([path] if path else [])])
    try:
        folder, server = job_server.start(["preloaded", *job_server.PRELOADED], added=["script"])
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
    while not (folder / SOCKET).exists():
        assert server.poll() is None, f"the job server ended with status {server.returncode}"
        time.sleep(0.02)
    return folder
