"""One run on several GPUs: the processes that `torchrun` starts share each mini-batch and act as one.

Each stream's images are dealt out to the processes. Losses and counts of valid cells are summed over them, never means
of means, so the update is that of one process with the whole mini-batch, up to rounding and dropout's own draws.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from weakseg.errors import WeaksegError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` tells a process by its environment."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one run together, as one of them sees them.

    Attributes:
        rank: which one this is, from 0; the first writes the run's files.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files and shows its progress."""
        return self.rank == 0

    def dealt(self, images: int) -> range:
        """The places in a mini-batch, of `images` that a stream has there, whose images are this process's."""
        return range(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's values, on their device, without waiting for a GPU."""
        if self.count == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every process's tensor on the CPU, in the order of their ranks; all are of one shape."""
        if self.count == 1:
            return [value]
        values = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(values, value)
        return values

    def wait(self) -> None:
        """Go on when every process has come so far."""
        if self.count > 1:
            # A sum on the CPU; a barrier would choose a GPU by itself.
            dist.all_reduce(torch.zeros(1))

    def joined(self, module: nn.Module, device: torch.device) -> nn.Module:
        """A module whose backward pass leaves the mean of all processes' gradients in the parameters of each."""
        if self.count == 1:
            return module
        # Of 1x1 kernels, whose memory layout has two names.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,  # no network here changes them in training
            gradient_as_bucket_view=True,
        )


ALONE = Processes()
"""A run in one process."""


def started_together() -> bool:
    """Whether `torchrun` started this process, as one of several."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """The processes that `torchrun` started with this one, joined while the block runs; `ALONE` where it did not.

    Each takes the GPU of its local rank.

    Raises:
        WeaksegError: more processes on this machine than it has GPUs, where it has any.
    """
    if dist.is_available() and dist.is_initialized():  # by the caller, who also leaves
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if not started_together():
        yield ALONE
        return
    rank, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    backend, options = "gloo", {}
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise WeaksegError(
                f"torchrun: process {local} of this machine has no GPU, there are {torch.cuda.device_count()}; pass "
                "as many as --nproc-per-node"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        # Random states and signals go over the CPU, all else over the GPUs.
        backend, options = "cpu:gloo,cuda:nccl", {"device_id": device}
    dist.init_process_group(backend, rank=rank, world_size=count, **options)
    try:
        processes = Processes(rank, count)
        yield processes
        processes.wait()  # or those that have nothing to write would leave before the first has written
    finally:
        dist.destroy_process_group()


def seed_of(seed: int, rank: int, iteration: int) -> int:
    """The seed of dropout in a process that has none from before: other in each process, and after each start."""
    return int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1)[0])
