"""Has a command run in a process that the job server forks; where no server answers, runs the command itself.

It is run by its path, without the package and without `site`, for it must start at once; `job_server` says what for.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

SOCKET = "socket"
"""Name of the socket in the server's folder."""

LENGTH_BYTES = 8
"""Bytes of a request's first message, its length; the standard streams come with it."""


def ask(
    folder: str | Path, words: Sequence[str], streams: Sequence[int], directory: str, environment: Mapping[str, str]
) -> socket.socket:
    """Have a command run; its end is told by `status`.

    Args:
        folder: the server's.
        words: the command's name, which the server must know, and its arguments.
        streams: descriptors of its standard input, output and error.
        directory: where it runs.
        environment: all of its environment.

    Returns:
        The connection. A signal's number sent to it as one byte goes to the command; once it is closed, the command is
        killed.

    Raises:
        OSError: no server answers.
    """
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(str(Path(folder, SOCKET)))
        request = json.dumps([list(words), directory, dict(environment)]).encode()
        socket.send_fds(server, [len(request).to_bytes(LENGTH_BYTES, "big")], list(streams))
        server.sendall(request)
    except OSError:
        server.close()
        raise
    return server


def status(server: socket.socket) -> int:
    """The exit status of what was asked for, once it has ended; 1 where the server ended first."""
    try:
        return int(server.recv(16) or b"1")
    except ConnectionError:
        return 1


def main() -> int:
    """Run `job_client.py FOLDER NAME ARGUMENT...`: the command NAME of the server in FOLDER."""
    folder, name, *arguments = sys.argv[1:]
    try:
        server = ask(folder, [name, *arguments], [0, 1, 2], os.getcwd(), os.environ)
    except OSError:
        # The folder of this Python: the commands are installed there.
        os.execv(os.path.join(os.path.dirname(sys.executable), name), [name, *arguments])

    def forward(number: int, frame: FrameType | None) -> None:
        server.send(bytes([number]))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    return status(server)


if __name__ == "__main__":
    sys.exit(main())
