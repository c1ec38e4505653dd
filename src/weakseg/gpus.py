"""One GPU a process: which there are, a lease on one of them, and an error where there is none and one is needed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock, Timeout

from weakseg.errors import WeaksegError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpu(NamedTuple):
    """A GPU as `nvidia-smi` tells of it."""

    uuid: str
    name: str
    memory_mb: int
    free_mb: int


def installed_gpus() -> list[Gpu]:
    """The GPUs of this machine, in the order of their bus, by `nvidia-smi`; none where that is not there or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = "--query-gpu=uuid,name,memory.total,memory.free"
    try:
        listed = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):  # without a driver it says so and fails
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.stdout.splitlines()]
    return [Gpu(row[0], row[1], _number(row[2]), _number(row[3])) for row in rows if len(row) == 4]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0  # "[N/A]" where memory is shared with the machine


def usable_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name for one process, one entry a GPU, those with most free memory first.

    All GPUs of the machine; where the variable is set (by a user, or by SLURM for a job), those that it names. A GPU
    has the same name in all processes (its UUID), whichever way it was given. A GPU that is split (MIG) counts as one;
    name its parts in the variable to use them apart.
    """
    gpus = installed_gpus()
    free = {gpu.uuid: gpu.free_mb for gpu in gpus}
    given = os.environ.get(VISIBLE)
    if given is None:
        names = list(free)
    else:
        # CUDA counts by speed, nvidia-smi by bus: the same where all GPUs are alike, or where CUDA is told to.
        alike = len({gpu.name for gpu in gpus}) < 2 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        names = []
        for entry in map(str.strip, given.split(",")):
            if entry in ("", "-1"):  # CUDA sees nothing from there on
                break
            known = entry.isdecimal() and int(entry) < len(gpus) and alike
            names.append(gpus[int(entry)].uuid if known else entry)
    return sorted(names, key=lambda name: -free.get(name, 0))


@contextmanager
def leased_gpu(wait_s: float = 2.0) -> Iterator[str | None]:
    """Have a GPU to oneself while the block runs: CUDA sees it and no other.

    Must begin before CUDA does. Of all processes of a user on a machine that ask, each gets another GPU; one that finds
    all taken waits. The lease is a lock on a file, which the system frees when a process ends in whatever way.
    Nothing is changed where there is no GPU, where CUDA_VISIBLE_DEVICES names one already, or in a process of
    `torchrun`, which counts its GPUs itself.

    Args:
        wait_s: seconds between two looks for a free GPU.

    Yields:
        What CUDA_VISIBLE_DEVICES says now, or None where nothing was leased.
    """
    given = os.environ.get(VISIBLE)
    chosen_already = given is not None and "," not in given
    names = [] if chosen_already or "LOCAL_RANK" in os.environ else usable_gpus()
    if not names:
        yield None
        return
    lock, name = _first_free(names, wait_s)
    os.environ[VISIBLE] = name
    try:
        yield name
    finally:
        lock.release()
        if given is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = given


def _first_free(names: list[str], wait_s: float) -> tuple[FileLock, str]:
    folder = lease_folder()
    told = False
    while True:
        for name in names:
            lock = FileLock(folder / f"{name.replace('/', '_')}.lock")
            try:
                lock.acquire(timeout=0)
                return lock, name
            except Timeout:
                continue
        if not told:
            print(f"all {len(names)} GPUs are taken by other jobs of weakseg; waiting", file=sys.stderr)
            told = True
        time.sleep(wait_s)


def lease_folder() -> Path:
    """The folder of the locks: on this machine, and the user's own."""
    folder = Path(platformdirs.user_runtime_dir("weakseg", appauthor=False)) / "gpus"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise WeaksegError(
            f"{folder}: cannot be made ({error}), and GPUs are leased there; set XDG_RUNTIME_DIR to a folder of this "
            f"machine that you can write to, or {VISIBLE} to one GPU"
        ) from error
    return folder


def require_gpu(study: str) -> None:
    """Make sure that torch can compute on a GPU.

    Args:
        study: name of the study that needs one.

    Raises:
        WeaksegError: it cannot; the message says why, and what to do.
    """
    if reason := why_no_gpu():
        raise WeaksegError(
            f"study {study} needs a GPU (needs_gpu: true), and there is none: {reason}. Without one its trainings take "
            "weeks. If you want that, say --allow-cpu (snakemake: --config allow_cpu=true)"
        )


def why_no_gpu() -> str | None:
    """What keeps torch from computing on a GPU, in words; None if it can."""
    import torch

    if torch.cuda.is_available():
        try:
            torch.ones(1, device="cuda").add_(1).cpu()
        except RuntimeError as error:  # a GPU that this torch has no code for
            return f"torch {torch.__version__} cannot use it ({str(error).splitlines()[0]})"
        return None
    gpus = installed_gpus()
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is installed without CUDA"
    if gpus and os.environ.get(VISIBLE) is not None:
        return f"{VISIBLE} is {os.environ[VISIBLE]!r}"
    if gpus:
        return f"{gpus[0].name} is there, but its driver is too old for CUDA {torch.version.cuda}"
    return "nvidia-smi lists no GPU"
