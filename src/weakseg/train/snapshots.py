"""Snapshots of what a run has learnt at its start, half-way and at its end, to draw label maps from later."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, fresh_folder
from weakseg.paths import RunPaths

MOMENTS = ("start", "middle", "end")
"""Before the first update, after half of the iterations, after the last."""


class Snapshots:
    """The snapshots of a run in training; they lie with its resume states until it ends, so that a kill loses none."""

    def __init__(self, run: RunPaths, key: str, iterations: int, *, wanted: bool) -> None:
        """Keep snapshots of the run with configuration hash `key`, if they are `wanted`."""
        self.run = run
        self.done_at = dict(zip(MOMENTS, (0, iterations // 2, iterations), strict=True)) if wanted else {}
        self._parts = {moment: run.resume / f"{key[:16]}-{moment}.safetensors" for moment in self.done_at}

    def take(self, done: int, trained: nn.Module) -> None:
        """Keep the parameters, if so many finished iterations are a moment."""
        for moment, path in self._parts.items():
            if self.done_at[moment] == done and not path.exists():
                state = {key: value.detach().cpu().contiguous() for key, value in trained.state_dict().items()}
                with atomic_path(path) as temporary:
                    save_file(state, temporary, metadata={"iteration": str(done)})

    def write(self) -> None:
        """Write the folder of the run's snapshots; it is empty where none are wanted."""
        with fresh_folder(self.run.snapshots) as folder:
            for moment, path in self._parts.items():
                (folder / f"{moment}.safetensors").write_bytes(path.read_bytes())

    def discard(self) -> None:
        """Remove what was kept for a kill."""
        for path in self._parts.values():
            path.unlink(missing_ok=True)


def load_snapshot(run: RunPaths, moment: str) -> dict[str, torch.Tensor]:
    """The parameters at a moment of training.

    Raises:
        WeaksegError: the run kept none.
    """
    path: Path = run.snapshots / f"{moment}.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such snapshot; train the run again") from None
