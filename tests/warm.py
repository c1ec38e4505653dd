"""Commands that do not wait for their imports: a small client has each run in a process forked from one that has them.

Tests that run jobs for real start `weakseg`, `papermill` and `jupyter nbconvert` dozens of times, and their imports
take longer than these jobs.
"""

import contextlib
import functools
import io
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import runpy
import select
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["preloaded"])

CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(asked)
    sys.exit(int(server.recv(16) or b"1"))
"""


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
        code = run(
            function, *arguments, output=output.fileno(), folder=folder, environment=environment, timeout=timeout
        )
        output.seek(0)
        return Done(code, output.read().decode(errors="replace"))


def run(
    function: Callable[..., None],
    *arguments: object,
    output: int,
    folder: str | Path,
    environment: Mapping[str, str],
    timeout: float | None = None,
) -> int:
    """The same with the output to a descriptor; the exit status is returned."""
    process = begin(function, *arguments, output=output, folder=folder, environment=environment)
    if not multiprocessing.connection.wait([process.sentinel], timeout):
        process.kill()
        raise TimeoutError(f"{function.__name__} {arguments}: more than {timeout:g} s")
    return end(process)


def begin(
    function: Callable[..., None],
    *arguments: object,
    output: int,
    folder: str | Path,
    environment: Mapping[str, str],
) -> multiprocessing.process.BaseProcess:
    """The same, not waited for: see `end`."""
    return start(_call, CONTEXT.reducer.DupFd(output), str(folder), dict(environment), function, arguments)


def _call(output, folder: str, environment: dict[str, str], function: Callable[..., None], arguments: tuple) -> None:
    descriptor = output.detach()
    become([descriptor, descriptor], folder, environment)
    function(*arguments)


def without_weakseg(source: str) -> None:
    """Forget the package in a forked process, so that it is imported anew from the folder `source`."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "weakseg"]:
        del sys.modules[name]
    sys.path.insert(0, source)


def start(function: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Start a function in a process forked from one that has imported what `preloaded` names."""
    _start_server()
    process = CONTEXT.Process(target=function, args=arguments)
    with _STATUS:
        process.start()
    return process


def end(process: multiprocessing.process.BaseProcess) -> int:
    """The exit status of a process that has ended, or is about to."""
    with _STATUS:
        process.join()
        return process.exitcode


# A start also asks how all other processes ended. An exit status is sent once: of two threads that read it at the same
# moment, one is told 255.
_STATUS = threading.Lock()


@functools.cache
def _start_server() -> None:
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *([path] if path else [])])
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path


def become(descriptors: list[int], folder: str, environment: Mapping[str, str]) -> None:
    """Take over standard streams, folder and environment in a forked process."""
    first = 3 - len(descriptors)
    for standard, descriptor in enumerate(descriptors, start=first):
        os.dup2(descriptor, standard)
    # The streams of a process forked by the server are those that pytest had: new ones lead to the descriptors.
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding="utf-8", line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    os.chdir(folder)


@functools.cache
def commands() -> Path:
    """A folder with the commands, to stand first in PATH, and a link to this Python."""
    kept = tempfile.TemporaryDirectory(prefix="weakseg-")
    folder = Path(kept.name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()
    client = folder / "client.py"
    client.write_text(CLIENT.format(address=str(folder / "socket")))
    words = f"{shlex.quote(sys.executable)} -IS {shlex.quote(str(client))}"
    for name in ("weakseg", "papermill", "jupyter", "kernel", "script"):
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$0" "$@"\n')
        (folder / name).chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(folder / "kernel"), "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    threading.Thread(target=_serve, args=(listener, kept), daemon=True).start()
    return folder


def _serve(listener: socket.socket, kept: object) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_run, args=(connection,), daemon=True).start()


def _run(connection: socket.socket) -> None:
    """Run what a client asks for; it is killed when the client is."""
    with connection:
        length, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as stream:
            asked = json.loads(stream.read(int.from_bytes(length, "big")))
        process = start(_command, [CONTEXT.reducer.DupFd(descriptor) for descriptor in descriptors], *asked)
        for descriptor in descriptors:
            os.close(descriptor)
        ended, _, _ = select.select([process.sentinel, connection], [], [])
        if process.sentinel not in ended:
            process.kill()
        code = end(process)
        with contextlib.suppress(OSError):
            connection.send(str(code % 256).encode())


def _command(shared: list, words: list[str], folder: str, environment: dict[str, str]) -> None:
    become([descriptor.detach() for descriptor in shared], folder, environment)
    name, sys.argv = Path(words[0]).name, words
    if name == "papermill":
        from papermill.__main__ import papermill

        os.environ["JUPYTER_PATH"] = str(Path(words[0]).parent)  # its kernels come first
        papermill()
    elif name == "kernel":
        import matplotlib
        from ipykernel.kernelapp import IPKernelApp

        matplotlib.use(environment["MPLBACKEND"])
        IPKernelApp.launch_instance(words[1:])
    elif name == "script":
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    elif name == "jupyter":
        from nbconvert.nbconvertapp import main as jupyter

        assert words[1] == "nbconvert", words
        jupyter(words[2:])
    else:
        import torch

        from weakseg.cli import main

        torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", torch.get_num_threads())))
        sys.exit(main(words[1:]))
