"""Jobs that do not wait for their imports: a server that has made them forks a process for each job.

A study of generated scenes runs a hundred short jobs. Each would import torch, numba or Jupyter for seconds, which is a
third of the study's time. The workflow starts this server and puts its folder first in PATH. The commands there ask for
a process (`job_client`); before the server is ready, or where there is none, they run as they would without it.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import psutil

from weakseg.job_client import LENGTH_BYTES, SOCKET

JOB_SERVER = "WEAKSEG_JOB_SERVER"
"""Environment variable: the folder of a server that runs already; anything else: there shall be none."""

PRELOADED = (
    "ipykernel.kernelapp", "matplotlib.pyplot", "nbconvert.exporters.html", "nbconvert.nbconvertapp", "numba", "pandas",
    "papermill.__main__", "requests", "safetensors.torch", "scipy.ndimage", "torch",
    "weakseg.annotations.bbox_seg_search", "weakseg.cli", "weakseg.evaluate.crf_search",
    "weakseg.evaluate.evaluate_run", "weakseg.evaluate.score", "weakseg.report.figures", "weakseg.report.findings",
    "weakseg.report.gallery", "weakseg.report.index", "weakseg.report.pages", "weakseg.train.estep_maps",
    "weakseg.train.features", "weakseg.train.loop",
)  # fmt: skip
"""What the commands of the workflow import for longest."""


def start(preloaded: Iterable[str] = PRELOADED, added: Iterable[str] = ()) -> tuple[Path, subprocess.Popen[bytes]]:
    """Start a server, which ends with this process or with the last job that is still running then.

    Args:
        preloaded: modules that it imports before it answers.
        added: names of commands that these modules add to `COMMANDS`.

    Returns:
        The folder of its commands, and its process. Until it is ready the commands run without it.
    """
    folder = Path(tempfile.mkdtemp(prefix="weakseg-"))
    client = Path(__file__).with_name("job_client.py")
    words = shlex.join([sys.executable, "-IS", str(client), str(folder)])
    for name in (*COMMANDS, *added):
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
    pid: int
    ended: int
    client: socket.socket

    def signal(self, number: int) -> None:
        """To the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def tell(self) -> None:
        """Tell the client how the job ended."""
        os.close(self.ended)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(OSError):
            self.client.send(str(code if code >= 0 else 128 - code).encode())
        self.client.close()


def serve(folder: Path, preloaded: Iterable[str]) -> Callable[[], None] | None:
    """Fork a process for each client, until standard input is closed and the last job has ended.

    Returns:
        None in the server; in each forked process, the job that it is for. It ends as any process of Python does.
    """
    for name in preloaded:
        with contextlib.suppress(ImportError):  # a job that needs it will say so
            importlib.import_module(name)
    # What is imported stays until the end. To look through it for garbage takes a third of a second in each process.
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / SOCKET))
    listener.listen(128)
    starter: list[int] = [sys.stdin.fileno()]
    jobs: dict[int, _Job] = {}
    while starter or jobs:
        clients = {job.client: job for job in jobs.values()}
        ready = wait([listener, *starter, *jobs, *clients])
        for ended in [one for one in jobs if one in ready]:
            jobs.pop(ended).tell()
        for client, job in clients.items():
            if client in ready and job.ended in jobs:
                job.signal(_asked_signal(client))
        if starter and starter[0] in ready:
            starter.clear()
        if listener in ready:
            client, _ = listener.accept()
            with contextlib.suppress(OSError, ValueError):  # a client that was killed while it asked
                words, directory, environment, streams = _request(client)
                environment[JOB_SERVER] = str(folder)
                ended, alive = os.pipe()  # closed when the process ends
                pid = os.fork()
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.setpgid(pid, pid)  # in both, for neither knows which comes first
                if pid == 0:
                    for inherited in (listener, client, *(job.client for job in jobs.values())):
                        inherited.close()
                    return functools.partial(_run, words, directory, environment, streams)
                for descriptor in (alive, *streams):
                    os.close(descriptor)
                jobs[ended] = _Job(pid, ended, client)
    return None


def _asked_signal(client: socket.socket) -> int:
    """The signal that a client passes on; a client that is gone was killed."""
    try:
        return (client.recv(1) or bytes([signal.SIGKILL]))[0]
    except OSError:
        return signal.SIGKILL


def _request(client: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]]:
    """Words, folder, environment and streams of a job, as `job_client.ask` sends them."""
    length, streams, _, _ = socket.recv_fds(client, LENGTH_BYTES, 3)
    with client.makefile("rb") as stream:
        words, directory, environment = json.loads(stream.read(int.from_bytes(length, "big")))
    return words, directory, environment, streams


def _run(words: list[str], directory: str, environment: dict[str, str], streams: list[int]) -> None:
    """A job, in its process: its streams, folder and environment, then the command."""
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
    # A kernel ends when its parent has died, which here is the server: what started it is named by this variable.
    if starter := os.environ.pop("JPY_PARENT_PID", None):
        threading.Thread(target=_end_after, args=(int(starter),), daemon=True).start()
    IPKernelApp.launch_instance(arguments)


def _end_after(process: int) -> None:
    """End this process once another one has ended."""
    while psutil.pid_exists(process):
        time.sleep(1)
    os._exit(1)


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
    status: list[int] = []
    # What is registered first is called last: a forked process need not take apart all that it has of the server.
    atexit.register(lambda: os._exit(status[0]) if status else None)
    server = os.getpid()
    try:
        job = serve(Path(folder), preloaded)
    finally:
        if os.getpid() == server:
            shutil.rmtree(folder, ignore_errors=True)
    if job is not None:
        status.append(_status_of(job))


def _status_of(job: Callable[[], None]) -> int:
    """The exit status that Python would end with after a function."""
    try:
        job()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    return 0


if __name__ == "__main__":
    # The module by its name is the one that preloaded modules see.
    from weakseg import job_server

    job_server.main(*sys.argv[1:])
