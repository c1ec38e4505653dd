"""Doing the same for many images on several cores."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from weakseg.errors import WeaksegError

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
    some); the rest goes to other processes, each with one thread, if that saves time.

    Args:
        function: what is done; picklable.
        items: image ids, or tuples that begin with one.
        processes: how many at most.
        description: of the bar.

    Raises:
        WeaksegError: an image does not fit in the memory that is left.
    """
    bar = tqdm(total=len(items), desc=description, unit="photo", mininterval=2)
    slowest, done = 0.0, 0
    while done < min(len(items), TRIED) and (done == 0 or slowest < TRIVIAL_S):
        started = time.perf_counter()
        yield _done(function, items[done])
        slowest = max(slowest, time.perf_counter() - started)
        bar.update()
        done += 1
    rest = items[done:]
    saved = slowest * len(rest) * (1 - 1 / max(processes, 1))
    here = (_done(function, item) for item in rest)
    for result in _by_others(function, rest, processes) if saved >= WORTH_PROCESSES_S else here:
        yield result
        bar.update()
    bar.close()


def _by_others(function: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    from joblib import Parallel, delayed, parallel_config  # takes a while, and most calls do not need it

    with parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(n_jobs=processes, return_as="generator")(delayed(_done)(function, item) for item in items)


def _done(function: Callable[[Item], Result], item: Item) -> Result:
    try:
        return function(item)
    except MemoryError as error:
        name = item[0] if isinstance(item, tuple) else item
        raise WeaksegError(
            f"image {name}: it does not fit in the memory that is left ({error}); run fewer processes, or scale it down"
        ) from error
