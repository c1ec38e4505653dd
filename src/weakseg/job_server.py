"""Jobs that do not wait for their imports: a server that has made them forks a process for each job.

A study of generated scenes runs a hundred short jobs. Each would import torch, numba or Jupyter for seconds, which is a
third of the study's time. The workflow starts this server and puts its folder first in PATH. The commands there ask for
a process (`job_client`); before the server is ready, or where there is none, they run as they would without it.
"""

import contextlib
import gc
import importlib
import io
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from weakseg.job_client import LENGTH_BYTES, SOCKET

JOB_SERVER = "WEAKSEG_JOB_SERVER"
"""Environment variable: the folder of a server that runs already."""

PRELOADED = (
    "ipykernel.kernelapp", "matplotlib.pyplot", "nbconvert.exporters.html", "nbconvert.nbconvertapp", "numba", "pandas",
    "papermill.__main__", "requests", "safetensors.torch", "scipy.ndimage", "torch",
    "weakseg.annotations.bbox_seg_search", "weakseg.cli", "weakseg.evaluate.crf_search",
    "weakseg.evaluate.evaluate_run", "weakseg.evaluate.score", "weakseg.report.figures", "weakseg.report.findings",
    "weakseg.report.gallery", "weakseg.report.index", "weakseg.report.pages", "weakseg.train.estep_maps",
    "weakseg.train.features", "weakseg.train.loop",
)  # fmt: skip
"""What the commands of the workflow import for longest."""


def start(preloaded: Iterable[str] = PRELOADED) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start a server, which ends with this process or with the last job that is still running then.

    Args:
        preloaded: modules that it imports before it answers.

    Returns:
        The folder of its commands, and its process. Until it is ready the commands run without it.
    """
    folder = Path(tempfile.mkdtemp(prefix="weakseg-"))
    client = Path(__file__).with_name("job_client.py")
    words = shlex.join([sys.executable, "-IS", str(client), str(folder)])
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\nexec {words} {name} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    kernel = folder / "kernels" / "python3"  # the folder is one of JUPYTER_PATH where a notebook runs
    kernel.mkdir(parents=True)
    argv = [str(folder / "kernel"), "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder), *preloaded],
        stdin=subprocess.PIPE,  # closed when this process ends, however it does
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Control-C is for the commands, which pass it on
    )
    return folder, server


@dataclass(frozen=True)
class _Job:
    process: BaseProcess
    client: socket.socket

    def signal(self, number: int) -> None:
        """To the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, number)

    def tell(self) -> None:
        """Tell the client how the job ended."""
        self.process.join()
        code = self.process.exitcode or 0
        with contextlib.suppress(OSError):
            self.client.send(str(code if code >= 0 else 128 - code).encode())
        self.client.close()


def serve(folder: Path, preloaded: Iterable[str]) -> None:
    """Fork a process for each client, until standard input is closed and the last job has ended."""
    for name in preloaded:
        with contextlib.suppress(ImportError):  # a job that needs it will say so
            importlib.import_module(name)
    # What is imported stays until the end. To look through it for garbage takes a third of a second in each process.
    gc.collect()
    gc.freeze()
    context = multiprocessing.get_context("fork")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / SOCKET))
    listener.listen(128)
    starter: list[int] = [sys.stdin.fileno()]
    jobs: dict[int, _Job] = {}
    while starter or jobs:
        clients = {job.client: job for job in jobs.values()}
        ready = wait([listener, *starter, *jobs, *clients])
        for sentinel in [one for one in jobs if one in ready]:
            jobs.pop(sentinel).tell()
        for client, job in clients.items():
            if client in ready and job in jobs.values():
                job.signal(_asked_signal(client))
        if starter and starter[0] in ready:
            starter.clear()
        if listener in ready:
            client, _ = listener.accept()
            inherited = [listener, *(job.client for job in jobs.values())]
            with contextlib.suppress(OSError, ValueError):  # a client that was killed while it asked
                job = _started(context, client, inherited, folder)
                jobs[job.process.sentinel] = job


def _asked_signal(client: socket.socket) -> int:
    """The signal that a client passes on; a client that is gone was killed."""
    try:
        return (client.recv(1) or bytes([signal.SIGKILL]))[0]
    except OSError:
        return signal.SIGKILL


def _started(
    context: multiprocessing.context.ForkContext,
    client: socket.socket,
    inherited: Sequence[socket.socket],
    folder: Path,
) -> _Job:
    length, streams, _, _ = socket.recv_fds(client, LENGTH_BYTES, 3)
    with client.makefile("rb") as stream:
        words, directory, environment = json.loads(stream.read(int.from_bytes(length, "big")))
    environment[JOB_SERVER] = str(folder)
    process = context.Process(target=_run, args=(words, directory, environment, streams, [client, *inherited]))
    process.start()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(process.pid or 0, process.pid or 0)
    for descriptor in streams:
        os.close(descriptor)
    return _Job(process, client)


def _run(
    words: list[str], directory: str, environment: dict[str, str], streams: list[int], inherited: list[socket.socket]
) -> None:
    """A job, in its process: its own group, its streams, folder and environment, then the command."""
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    for connection in inherited:
        connection.close()
    for standard, descriptor in enumerate(streams):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    os.chdir(directory)
    if "torch" in sys.modules:
        # Snakemake gives a job's threads by this variable, which torch reads when it is imported.
        sys.modules["torch"].set_num_threads(int(environment.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    sys.argv = words
    COMMANDS[words[0]](words[1:])


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), encoding="utf-8", line_buffering=True)


def _weakseg(arguments: list[str]) -> None:
    from weakseg.cli import main

    sys.exit(main(arguments))


def _papermill(arguments: list[str]) -> None:
    from papermill.__main__ import papermill

    # Its kernels come first.
    os.environ["JUPYTER_PATH"] = os.environ[JOB_SERVER]
    papermill(arguments)


def _kernel(arguments: list[str]) -> None:
    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    matplotlib.use(os.environ.get("MPLBACKEND", "Agg"))  # which it reads when it is imported
    IPKernelApp.launch_instance(arguments)


def _jupyter(arguments: list[str]) -> None:
    """`jupyter nbconvert`, the only one of its commands that the workflow has run."""
    from nbconvert.nbconvertapp import main

    assert arguments[0] == "nbconvert", arguments
    main(arguments[1:])


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "weakseg": _weakseg, "papermill": _papermill, "kernel": _kernel, "jupyter": _jupyter,
}  # fmt: skip
"""The commands of the server's folder, each run with its arguments."""


def main(folder: str, *preloaded: str) -> None:
    """Serve in a folder that `start` has made, and take it away in the end."""
    try:
        serve(Path(folder), preloaded)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # The module by its name is the one that preloaded modules see.
    from weakseg import job_server

    job_server.main(*sys.argv[1:])
