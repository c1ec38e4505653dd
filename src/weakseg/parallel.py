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


TRIED, TRIVIAL_S = 4, 0.01
"""So many items are tried at most while none takes so many seconds."""


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, processes: int, description: str
) -> Iterator[Result]:
    """Results in order, with a progress bar.

    The first items are done in the process itself and timed (several where they take no time, for the next may take
    some); the rest goes to other processes if that saves time.
    """
    bar = tqdm(total=len(items), desc=description, unit="photo", mininterval=2)
    slowest, done = 0.0, 0
    while done < min(len(items), TRIED) and (done == 0 or slowest < TRIVIAL_S):
        started = time.perf_counter()
        yield function(items[done])
        slowest = max(slowest, time.perf_counter() - started)
        bar.update()
        done += 1
    rest = items[done:]
    saved = slowest * len(rest) * (1 - 1 / max(processes, 1))
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
