"""Doing the same for many images on several cores."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_PROCESSES_S = 5.0
"""Seconds that other processes must save, for starting them takes nearly as long where they import torch."""


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int, description: str
) -> Iterator[Result]:
    """Results in order, with a progress bar.

    The first item is done in the process itself and timed; the rest goes to other processes if that saves time.
    """
    bar = tqdm(total=len(items), desc=description, unit="photo", mininterval=2)
    started = time.perf_counter()
    for item in items[:1]:
        yield function(item)
        bar.update()
    rest = items[1:]
    saved = (time.perf_counter() - started) * len(rest) * (1 - 1 / max(processes, 1))
    if saved < WORTH_PROCESSES_S:
        for item in rest:
            yield function(item)
            bar.update()
    else:
        # Spawned, not forked: torch's thread pools do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
            for result in pool.map(function, rest):
                yield result
                bar.update()
    bar.close()


def _one_thread() -> None:
    """One thread a process; torch, which takes seconds to import, is imported only by a function that needs it."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
