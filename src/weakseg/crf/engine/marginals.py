"""The engine: permutohedral mean field on one CPU thread, with work saved where it provably does not count.

What is left out, and what that costs, is said in `weakseg.crf.engine.savings`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from weakseg.crf.engine.kernels import advantages, survey, to_labels, to_marginals
from weakseg.crf.engine.lattice import Lattices
from weakseg.crf.engine.savings import Savings
from weakseg.crf.engine.tiles import tiles
from weakseg.crf.engine.updates import Columns, Start, TooProbable, run
from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError


@dataclass(frozen=True)
class Marginals:
    """Q of one parameter set, kept as planes of the labels that can matter, in the order of tiles."""

    planes: np.ndarray
    column_labels: np.ndarray
    base: int
    shape: tuple[int, int, int]
    place: np.ndarray
    energy: np.ndarray
    smallest: np.ndarray

    def labels(self) -> np.ndarray:
        """The most probable label, lowest of equal ones, (H, W) uint8 (int64 above 256 labels)."""
        out = np.empty(self.shape[1] * self.shape[2], dtype=np.uint8 if self.shape[0] <= 256 else np.int64)
        to_labels(self.planes, self.column_labels, self.base, self.place, out)
        return out.reshape(self.shape[1:])

    def q(self) -> np.ndarray:
        """Q of all labels, (L+1, H, W) float32; merged labels share their common Q by softmax(-U)."""
        out = np.empty(self.energy.shape, dtype=np.float32)
        to_marginals(self.planes, self.column_labels, self.base, self.energy, self.smallest, self.place, out)
        return out.reshape(self.shape)


# Labels that reach the first of these probabilities somewhere are kept apart; where the rest exceeds the limit together
# from the beginning, those that reach the next. Chosen on photos of three networks: at a first threshold of .15 with a
# limit of .2 the search takes a tenth longer for labels that differ on .05 instead of .1 % of the pixels of the worst.
_APART = (0.3, 0.15, 0.05, 0.02)
# An advantage that leaves no probability, at places without a pixel.
_NEVER = np.float32(-1e30)


class _Unary:
    """A unary that has been read, and the columns made of it."""

    def __init__(self, unary: np.ndarray) -> None:
        self.labels, self.height, self.width = unary.shape
        # Kernels are compiled for arrays that may be written to; others would be compiled for anew.
        self.energy = np.require(unary.reshape(self.labels, -1), requirements=["C", "W"])
        self.smallest = np.empty(self.energy.shape[1], dtype=np.float32)
        self.chances = np.empty_like(self.smallest)
        self.largest, share, fine = survey(self.energy, self.energy.view(np.int32), self.smallest, self.chances)
        if not fine:
            raise WeaksegError(
                "CRF: the unary has values that are not finite, or of 1e30 and more; clip probabilities before the "
                "logarithm"
            )
        self.base = int(share.argmax())
        self.others = [k for k in range(self.labels) if k != self.base]
        self.tiles = tiles(self.height, self.width)
        self._columns: dict[tuple[int, ...], Columns] = {}

    def likely(self, merged_limit: float) -> list[int]:
        """Labels to keep apart at first, without the base: the rest is not too probable together."""
        for probability in _APART:
            kept = [k for k in self.others if self.largest[k] > probability]
            if len(self.others) - len(kept) > 1 and self.columns(kept).rest <= merged_limit:
                return kept
        return self.others

    def columns(self, kept: Sequence[int]) -> Columns:
        """Columns of the labels kept, and one of the rest."""
        if (key := tuple(kept)) not in self._columns:
            rest = [k for k in self.others if k not in kept]
            advantage = np.empty((len(kept) + bool(rest), self.tiles.order.size), dtype=np.float32)
            apart, together = np.array(kept, dtype=np.int64), np.array(rest, dtype=np.int64)
            most = advantages(
                self.energy, self.smallest, self.chances, self.base, apart, together, self.width, advantage
            )
            advantage[:, self.tiles.empty] = _NEVER
            self._columns[key] = Columns(advantage, [*kept, -1] if rest else list(kept), float(most))
        return self._columns[key]

    def most_probable(self, labels: list[int], places: np.ndarray) -> list[int]:
        """Which of some labels are the most probable of them at any of the places, (m,) bool."""
        pixels = self.tiles.order[places]
        return np.array(labels)[np.unique(self.energy[labels][:, pixels].argmin(0))].tolist() if labels else []

    def marginals(self, planes: np.ndarray, names: list[int]) -> Marginals:
        """The result of a run."""
        shape = (self.labels, self.height, self.width)
        return Marginals(
            planes, np.array(names, dtype=np.int64), self.base, shape, self.tiles.place, self.energy, self.smallest
        )


def marginals(
    unary: np.ndarray,
    lattices: Lattices,
    sets: Sequence[CRFParams],
    *,
    iterations: int = 10,
    normalization: str = "after",
    savings: Savings | None = None,
) -> Iterator[tuple[int, Marginals]]:
    """Mean field of one image for several parameter sets, those that share lattices one after the other.

    Args:
        unary: (L+1, H, W) float32, finite, below 1e30 in size.
        lattices: lattices of the image.
        sets: parameter sets, in any order.
        iterations: updates.
        normalization: `after` or `symmetric`.
        savings: what may be left out; None: the default.

    Yields:
        (position in `sets`, its marginals), ordered by lattice.

    Raises:
        WeaksegError: values that are not finite.
    """
    savings = savings or Savings()
    read = _Unary(unary)
    by_lattice: dict[tuple[float, float, float], list[int]] = {}
    for position, p in enumerate(sets):
        by_lattice.setdefault((p.sigma_xy, p.sigma_rgb, p.sigma_pos), []).append(position)
    for (sigma_xy, sigma_rgb, sigma_pos), positions in by_lattice.items():
        starts = _Starts(read, lattices, (sigma_xy, sigma_rgb, sigma_pos), normalization)
        for position in positions:
            if not savings.shared:
                lattices.forget()
                starts.known.clear()
            again = savings.shared and position != positions[-1]
            planes, names = _run(read, starts, sets[position], iterations, savings, again=again)
            yield position, read.marginals(planes, names)


@dataclass(frozen=True)
class _Starts:
    """Starts on the lattices of three widths, by the labels that are apart."""

    read: _Unary
    lattices: Lattices
    sigmas: tuple[float, float, float]
    normalization: str
    known: dict[tuple[int, ...], Start] = field(default_factory=dict)

    def start(self, kept: list[int]) -> Start:
        if (key := tuple(kept)) not in self.known:
            sigma_xy, sigma_rgb, sigma_pos = self.sigmas
            pair = self.lattices.bilateral(sigma_xy, sigma_rgb), self.lattices.position(sigma_pos)
            self.known[key] = Start(self.read.columns(kept), pair, self.normalization)
        return self.known[key]


def _run(
    read: _Unary, starts: _Starts, params: CRFParams, iterations: int, savings: Savings, *, again: bool
) -> tuple[np.ndarray, list[int]]:
    """All updates with merged labels; where they become too probable, again with more or all apart."""
    merging = savings.merged_limit > 0
    kept = read.likely(savings.merged_limit) if merging else read.others
    for attempt in range(3):
        try:
            return run(starts.start(kept), params, iterations, savings, merging=merging, again=again)
        except TooProbable as failure:
            if not again:
                starts.known.pop(tuple(kept))  # its arrays have been written to
            found = read.most_probable([k for k in read.others if k not in kept], failure.places)
            if found and attempt == 0:
                kept = sorted({*kept, *found})
            else:
                kept, merging = read.others, False
    raise AssertionError("labels that are apart exceed no limit")
