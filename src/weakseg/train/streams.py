"""Which images a mini-batch holds: endless shuffled streams, strong and weak apart, each image drawn by position.

A stream is a pure function of its seed: its k-th image can be asked for in any order, so a training that goes on after
a kill needs no loader state.
"""

import numpy as np

from weakseg.errors import WeaksegError


def repeat_factors(present: np.ndarray, threshold: float) -> np.ndarray:
    """How often an epoch should hold each image: max over its foreground labels of max(1, sqrt(threshold / share)).

    Repeat-factor sampling by image-level labels (Gupta, Dollar, Girshick 2019, LVIS, section 6.1).

    Args:
        present: (n, L+1) bool image-level labels; the background's column is not looked at.
        threshold: share of images below which a label's images are repeated; 0 gives ones.

    Returns:
        (n,) float64, each 1 or more.
    """
    share = present.mean(0)
    by_label = np.ones(present.shape[1])
    seen = share > 0
    by_label[seen] = np.maximum(1.0, np.sqrt(threshold / share[seen]))
    by_label[0] = 1.0
    return np.where(present, by_label, 1.0).max(1)


class ImageStream:
    """An endless sequence of image ids: full shuffles one after the other, reshuffled when exhausted."""

    def __init__(self, ids: list[str], *, seed: int, name: str, factors: np.ndarray | None = None) -> None:
        """Shuffle `ids` by `seed`; streams of other `name`s shuffle independently.

        Args:
            ids: image ids, not empty.
            seed: the run's seed.
            name: e.g. `strong` or `weak`.
            factors: repeat factors (n,), each 1 or more; the fraction is drawn anew each epoch. None: ones.

        Raises:
            WeaksegError: no ids, or factors that do not fit.
        """
        if not ids:
            raise WeaksegError(f"stream {name}: it has no images")
        if factors is not None and (len(factors) != len(ids) or np.min(factors) < 1):
            raise WeaksegError(f"stream {name}: {len(ids)} images need as many repeat factors of 1 or more")
        self.ids = ids
        self.name = name
        self.factors = np.ones(len(ids)) if factors is None else np.asarray(factors, dtype=float)
        self._key = [seed, *name.encode()]
        self._starts = [0]  # position at which each epoch begins; one entry more than epochs drawn
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=int))

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([*self._key, epoch])
            whole = np.floor(self.factors)
            counts = whole + (rng.random(len(self.ids)) < self.factors - whole)
            order = np.repeat(np.arange(len(self.ids)), counts.astype(int))
            rng.shuffle(order)
            self._epoch = (epoch, order)
        return self._epoch[1]

    def __getitem__(self, position: int) -> str:
        """The image id at `position` 0, 1, ... of the sequence."""
        while self._starts[-1] <= position:
            self._starts.append(self._starts[-1] + len(self._order(len(self._starts) - 1)))
        epoch = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self.ids[self._order(epoch)[position - self._starts[epoch]]]
