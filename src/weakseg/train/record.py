"""The figures of a training's iterations, kept on the device and read for many at once: a look waits for the device."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg.labels import BACKGROUND, IGNORE
from weakseg.train.distributed import Processes
from weakseg.train.setup import Teaching

READ_EVERY = 20
"""Iterations whose figures are read together on a GPU; on a CPU, where nothing has to be waited for, each is."""


@dataclass(frozen=True)
class _Noted:
    """What the machine itself knows of an iteration."""

    iteration: int
    lr: float
    images: int
    waited: float


class Record:
    """Rows of the training log, one an iteration; figures are sums over the processes of a run."""

    def __init__(
        self, teachings: Sequence[Teaching], processes: Processes, device: torch.device, seconds: float
    ) -> None:
        """Go on from `seconds` of training."""
        self.teachings, self.processes, self.seconds = teachings, processes, seconds
        self.every = READ_EVERY if device.type == "cuda" else 1
        self._noted: list[_Noted] = []
        self._figures: list[Tensor] = []
        self._last = time.perf_counter()

    def add(
        self,
        iteration: int,
        loss: Tensor,
        losses: Sequence[Tensor],
        label_maps: Sequence[Tensor | None],
        *,
        lr: float,
        images: int,
        waited: float,
    ) -> None:
        """Note an iteration.

        Args:
            iteration: from 0.
            loss: this process's part of the loss of the whole mini-batch.
            losses: its part of each stream's.
            label_maps: that its images were trained with, by stream.
            lr: base rate.
            images: of the whole mini-batch.
            waited: seconds that went by before the mini-batch was there.
        """
        weak = [m for t, m in zip(self.teachings, label_maps, strict=True) if not t.is_strong and m is not None]
        zero = torch.zeros((), dtype=torch.int64, device=loss.device)
        background = sum(((labels == BACKGROUND).sum() for labels in weak), zero)
        labelled = sum(((labels != IGNORE).sum() for labels in weak), zero)
        figures = [one.detach().double() for one in (loss, *losses, background, labelled)]
        self._figures.append(torch.stack(figures))
        self._noted.append(_Noted(iteration, lr, images, waited))

    @property
    def due(self) -> bool:
        """Whether so many iterations have been noted that they should be read."""
        return len(self._noted) >= self.every

    def read(self) -> list[dict[str, float]]:
        """The rows of the iterations noted since the last reading; their time is shared out equally."""
        if not self._noted:
            return []
        figures = self.processes.sum(torch.stack(self._figures)).tolist()
        now = time.perf_counter()
        each = (now - self._last) / len(figures)
        rows = []
        for noted, (loss, *losses, background, labelled) in zip(self._noted, figures, strict=True):
            self.seconds += each
            rows.append(
                {
                    "iteration": noted.iteration,
                    "loss": loss,
                    "loss_strong": self._mean_loss(losses, strong=True),
                    "loss_weak": self._mean_loss(losses, strong=False),
                    "lr": noted.lr,
                    "images_per_s": noted.images / each,
                    "seconds": self.seconds,
                    "background_share": self._share(background, labelled),
                    "loader_wait": sum(one.waited for one in self._noted) / (now - self._last),
                }
            )
        self._noted, self._figures, self._last = [], [], now
        return rows

    def _mean_loss(self, losses: Sequence[float], *, strong: bool) -> float:
        """Weighted mean of the losses of the streams with, or without, pixel labels; NaN where there are none."""
        chosen = [(t.weight, x) for t, x in zip(self.teachings, losses, strict=True) if t.is_strong == strong]
        total = sum(weight for weight, _ in chosen)
        return sum(weight * loss for weight, loss in chosen) / total if total else float("nan")

    def _share(self, background: float, labelled: float) -> float:
        """Share of the background in the label maps of weakly annotated images; NaN where no method makes any."""
        if not any(not t.is_strong and t.method.loss is None for t in self.teachings):
            return float("nan")
        return background / max(labelled, 1)
