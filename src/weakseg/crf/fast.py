"""The fast engine: permutohedral mean field on one CPU thread, with work saved where it provably does not count.

What is left out, and what that costs, is said in `weakseg.crf.savings`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.crf.field import Columns, Start, TooProbable, run
from weakseg.crf.kernels import advantages, survey, to_labels, to_marginals
from weakseg.crf.lattice import Lattices
from weakseg.crf.params import CRFParams
from weakseg.crf.savings import Savings
from weakseg.crf.tiles import tiles
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


# Labels that reach this probability somewhere are kept apart at first, and so often more are added where that failed
# before all are kept apart.
_APART = 0.1
_ATTEMPTS = 4
# An advantage that leaves no probability, at places without a pixel.
_NEVER = np.float32(-1e30)


class _Unary:
    """A unary that has been read, and the columns made of it."""

    def __init__(self, unary: np.ndarray) -> None:
        self.labels, self.height, self.width = unary.shape
        self.energy = np.ascontiguousarray(unary.reshape(self.labels, -1))
        self.smallest = np.empty(self.energy.shape[1], dtype=np.float32)
        self.largest, share, fine = survey(self.energy, self.energy.view(np.int32), self.smallest)
        if not fine:
            raise WeaksegError(
                "CRF: the unary has values that are not finite, or of 1e30 and more; clip probabilities before the "
                "logarithm"
            )
        self.base = int(share.argmax())
        self.others = [k for k in range(self.labels) if k != self.base]
        self.tiles = tiles(self.height, self.width)
        self._columns: dict[tuple[int, ...], Columns] = {}

    def likely(self) -> list[int]:
        """Labels that are probable somewhere, without the base."""
        return [k for k in self.others if self.largest[k] > _APART]

    def columns(self, kept: Sequence[int]) -> Columns:
        """Columns of the labels kept, and one of the rest."""
        if (key := tuple(kept)) not in self._columns:
            rest = [k for k in self.others if k not in kept]
            advantage = np.empty((len(kept) + bool(rest), self.tiles.order.size), dtype=np.float32)
            apart, together = np.array(kept, dtype=np.int64), np.array(rest, dtype=np.int64)
            advantages(self.energy, self.smallest, self.base, apart, together, self.width, advantage)
            advantage[:, self.tiles.empty] = _NEVER
            self._columns[key] = Columns(advantage, [*kept, -1] if rest else list(kept))
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
        starts: dict[tuple[int, ...], Start] = {}
        for position in positions:
            if not savings.shared:
                lattices.forget()
                starts.clear()
            again = savings.shared and position != positions[-1]
            kept = read.likely() if savings.merged_limit > 0 else read.others
            for attempt in range(_ATTEMPTS + 1):
                if len(kept) + 1 == len(read.others) or attempt == _ATTEMPTS:
                    kept = read.others
                if (key := tuple(kept)) not in starts:
                    pair = lattices.bilateral(sigma_xy, sigma_rgb), lattices.position(sigma_pos)
                    starts[key] = Start(read.columns(kept), pair, normalization)
                merging = savings.merged_limit > 0 and attempt < _ATTEMPTS
                try:
                    planes, names = run(starts[key], sets[position], iterations, savings, merging=merging, again=again)
                except TooProbable as failure:
                    # Keep apart what is most probable of the merged where they are too probable together.
                    found = read.most_probable([k for k in read.others if k not in kept], failure.places)
                    kept = sorted({*kept, *found}) if found else read.others
                    continue
                yield position, read.marginals(planes, names)
                break
