"""Exit statuses of forked commands."""

import multiprocessing.forkserver
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import warm


def nothing() -> None:
    pass


def test_commands_that_run_side_by_side_are_each_told_their_own_end(tmp_path: Path, monkeypatch) -> None:
    read_signed = multiprocessing.forkserver.read_signed

    chance = random.Random(0)

    def later(descriptor: int) -> int:
        time.sleep(0.1 * chance.random())
        return read_signed(descriptor)

    monkeypatch.setattr(multiprocessing.forkserver, "read_signed", later)

    def call(_: int) -> int:
        return warm.captured(nothing, folder=tmp_path, environment={}).returncode

    with ThreadPoolExecutor(4) as threads:
        assert not any(threads.map(call, range(20)))
