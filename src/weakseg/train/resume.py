"""Resume states: what a killed training needs to go on to the same bit, kept under the hash of its configuration."""

import json
from pathlib import Path
from typing import Any

import torch

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path

LOG_COLUMNS = (
    "iteration",
    "loss",
    "loss_strong",
    "loss_weak",
    "lr",
    "images_per_s",
    "seconds",
    "background_share",
    "loader_wait",
)
"""Columns of train_log.csv. `seconds` is training time so far, kills and pauses left out; `background_share` the
share of background in the E-step's label maps; `loader_wait` the share of the time spent waiting for data."""


class ResumeFolder:
    """The resume state and the log of one configuration, in a folder that may hold those of others."""

    def __init__(self, folder: Path, key: str) -> None:
        """Use the files of configuration hash `key` in `folder`."""
        self.state_path = folder / f"{key[:16]}.pt"
        self.log_path = folder / f"{key[:16]}-log.csv"
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The last state saved, or None. A damaged file is an error that says what to delete."""
        if not self.state_path.exists():
            return None
        try:
            # On the CPU first: a state that was written on a GPU goes on anywhere.
            return torch.load(self.state_path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise WeaksegError(
                f"{self.state_path}: not a readable resume state ({error}); delete it to start this run anew"
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state in one step.

        Raises:
            WeaksegError: a parameter is not finite: such a state is no good one, and the last one stays.
        """
        for name, values in state["parameters"].items():
            if not torch.isfinite(values).all():
                raise WeaksegError(
                    f"run {self.state_path.parents[1]}: {name} is not finite after {state['iteration']} iterations; "
                    f"the last good state is kept in {self.state_path}. Lower solver.lr"
                )
        with atomic_path(self.state_path) as temporary:
            torch.save(state, temporary)

    def open_log(self, iterations_done: int) -> None:
        """Start the log, or cut it back to the iterations that the state knows."""
        lines = [",".join(LOG_COLUMNS)]
        if iterations_done and self.log_path.exists():
            rows = self.log_path.read_text(encoding="utf-8").splitlines()[1:]
            lines += [row for row in rows if row.split(",", 1)[0].isdigit()][:iterations_done]
        self.log_path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def append_log(self, rows: list[dict[str, float]]) -> None:
        """Add rows to the log."""
        with open(self.log_path, "a", encoding="utf-8") as stream:
            for row in rows:
                stream.write(",".join(_cell(row[name]) for name in LOG_COLUMNS) + "\n")

    def discard(self) -> None:
        """Remove the state and log of this configuration once the run is finished."""
        self.state_path.unlink(missing_ok=True)
        self.log_path.unlink(missing_ok=True)


def _cell(value: float) -> str:
    if value != value:  # NaN: the half is absent
        return ""
    return json.dumps(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
