"""The fast engine: permutohedral mean field on one CPU thread, with work saved where it provably does not count.

Savings, each with its switch in `Savings`:

merged labels
    Under a Potts model labels that stay improbable are carried as one merged label. Its probability is the sum of
    theirs, p_R = sum p_l, and its message the sum of their messages. As messages are not negative,
    sum_l p_l exp(M_l) <= p_R exp(sum_l M_l): the merged label's Q is at every update an upper bound of the sum of the
    labels' Q (given the same Q before), and the other labels' Q is too low by this share at most. The bound is watched
    in all updates and pixels; where it exceeds `Savings.merged_limit` the image is run again with more labels apart.
    The bound is that of one update: what an update gets wrong, the next ones may spread. On real photos the labels are
    pydensecrf's on 99.99 % of the pixels (docs/crf.md); made-up unaries with many labels possible everywhere lose more
    (tests/crf/test_savings.py), and `merged_limit=0` keeps all labels apart.
complement
    Filters are linear and the filter of ones is known: one label, the most probable, is never filtered.
unchanged pixels
    Sums on the lattice are kept, and a pixel adds the change of its Q since it last did. Changes of
    `Savings.unchanged` or less wait, so that every message is that of a Q within `unchanged` of the true one: it is
    off by (w + w_pos) * unchanged at most.
shared lattices
    A bilateral lattice depends on image, sigma_xy and sigma_rgb, a position lattice on size and sigma_pos; parameter
    sets that differ in weights share them. This changes no bit of the result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.crf.kernels import advantages, kernels_of, merge_column, survey, to_labels, to_marginals
from weakseg.crf.lattice import Lattice, Lattices
from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError


@dataclass(frozen=True)
class Savings:
    """What the engine may leave out; `Savings.none()` does all the work.

    Attributes:
        merged_limit: largest probability that merged labels may reach together, in any pixel and update; 0: all labels
            are kept apart.
        merged_end: the same for the last update.
        unchanged: largest change of a pixel's Q that waits; 0: every change counts.
        shared: parameter sets share lattices, and images of a size position lattices.
    """

    merged_limit: float = 0.5
    merged_end: float = 0.2
    unchanged: float = 1e-4
    shared: bool = True

    @staticmethod
    def none() -> "Savings":
        """All savings off (the complement label, which is exact, stays)."""
        return Savings(merged_limit=0.0, unchanged=0.0, shared=False)


@dataclass(frozen=True)
class Marginals:
    """Q of one parameter set, kept as planes of the labels that can matter; read it by `labels` or `q`."""

    planes: np.ndarray
    column_labels: np.ndarray
    base: int
    shape: tuple[int, int, int]
    energy: np.ndarray
    log_sum: np.ndarray

    def labels(self) -> np.ndarray:
        """The most probable label, lowest of equal ones, (H, W) uint8 (int64 above 256 labels)."""
        out = np.empty(self.planes.shape[1], dtype=np.uint8 if self.shape[0] <= 256 else np.int64)
        to_labels(self.planes, self.column_labels, self.base, out)
        return out.reshape(self.shape[1:])

    def q(self) -> np.ndarray:
        """Q of all labels, (L+1, H, W) float32; merged labels share their common Q by softmax(-U)."""
        out = np.empty((self.shape[0], self.planes.shape[1]), dtype=np.float32)
        to_marginals(self.planes, self.column_labels, self.base, self.energy, self.log_sum, out)
        return out.reshape(self.shape)


# Labels that reach this probability somewhere are kept apart at first, and so often more are added where that failed
# before all are kept apart.
_APART = 0.3
_ATTEMPTS = 4
# Labels that have become so improbable are merged between updates, if their columns then fill fewer vectors.
_MERGE_BELOW = 0.1


class _TooProbable(Exception):
    """Merged labels exceeded their limit."""

    def __init__(self, pixels: np.ndarray) -> None:
        """At these pixels, (n,) bool."""
        super().__init__()
        self.pixels = pixels


class _State:
    """Columns of the labels but the base, on a pair of lattices; `names` holds each column's label, -1 for merged."""

    def __init__(self, advantage: np.ndarray, names: list[int], pair: tuple[Lattice, Lattice]) -> None:
        self.advantage = advantage
        self.names = names
        self.pair = pair
        self.splatted = np.zeros_like(advantage)
        self._shape()
        self.sums = [np.zeros_like(v) for v in self.values]

    def _shape(self) -> None:
        self.lanes = 4 if len(self.names) <= 4 else 8
        self.groups = vectors(len(self.names)) // self.lanes
        self.blur, self.update = kernels_of(self.lanes)
        self.values = [np.empty((self.groups, lat.points * self.lanes), dtype=np.float32) for lat in self.pair]

    def merge(self, top: np.ndarray) -> None:
        """Merge labels whose largest Q is small, if it makes fewer vectors."""
        small = [c for c, name in enumerate(self.names) if name >= 0 and top[c] < _MERGE_BELOW]
        if not small:
            return
        into = self.names.index(-1) if -1 in self.names else small[0]
        keep = [c for c in range(len(self.names)) if c not in small or c == into]
        if vectors(len(keep)) >= vectors(len(self.names)):
            return
        added = [c for c in small if c != into]
        for c in added:
            merge_column(self.advantage, into, c)

        def merged(columns: np.ndarray) -> np.ndarray:
            result = columns[keep]
            for c in added:
                result[keep.index(into)] += columns[c]
            return result

        # Sums on the lattices are linear in Q, so that they are merged rather than made anew.
        columns = [s.reshape(self.groups, -1, self.lanes).transpose(0, 2, 1) for s in self.sums]
        sums = [merged(c.reshape(self.groups * self.lanes, -1)) for c in columns]
        self.splatted = merged(self.splatted)
        self.advantage = self.advantage[keep]
        self.names = [-1 if c == into else self.names[c] for c in keep]
        self._shape()
        self.sums = []
        for s in sums:
            padded = np.zeros((self.groups * self.lanes, s.shape[1]), dtype=np.float32)
            padded[: len(s)] = s
            rows = padded.reshape(self.groups, self.lanes, -1).transpose(0, 2, 1)
            self.sums.append(np.ascontiguousarray(rows).reshape(self.groups, -1))


def vectors(columns: int) -> int:
    """Floats that a lattice point holds for so many columns."""
    return 4 if columns <= 4 else -(-columns // 8) * 8


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
    shape = (unary.shape[0], unary.shape[1], unary.shape[2])
    energy = np.ascontiguousarray(unary.reshape(shape[0], -1))
    log_sum = np.empty(energy.shape[1], dtype=np.float32)
    largest, share, fine = survey(energy, log_sum)
    if not fine:
        raise WeaksegError("CRF: the unary has values that are not finite; clip probabilities before the logarithm")
    base = int(share.argmax())
    everything = [k for k in range(shape[0]) if k != base]
    first_kept = [k for k in everything if largest[k] > _APART] if savings.merged_limit > 0 else everything

    by_lattice: dict[tuple[float, float, float], list[int]] = {}
    for position, p in enumerate(sets):
        by_lattice.setdefault((p.sigma_xy, p.sigma_rgb, p.sigma_pos), []).append(position)
    for (sigma_xy, sigma_rgb, sigma_pos), positions in by_lattice.items():
        for position in positions:
            if not savings.shared:
                lattices.forget()
            pair = lattices.bilateral(sigma_xy, sigma_rgb), lattices.position(sigma_pos)
            kept = first_kept
            for attempt in range(_ATTEMPTS + 1):
                rest = [k for k in everything if k not in kept]
                if len(rest) == 1 or attempt == _ATTEMPTS:
                    kept, rest = everything, []
                advantage = np.empty((len(kept) + bool(rest), energy.shape[1]), dtype=np.float32)
                advantages(energy, log_sum, base, np.array(kept, np.int64), np.array(rest, np.int64), advantage)
                state = _State(advantage, [*kept, -1] if rest else list(kept), pair)
                merging = savings.merged_limit > 0 and attempt < _ATTEMPTS
                try:
                    planes = _run(state, sets[position], iterations, normalization, savings, merging=merging)
                except _TooProbable as failure:
                    # Keep apart what is most probable of the merged where they are too probable together.
                    others = [k for k in everything if k not in kept]
                    found = others and np.array(others)[np.unique(energy[others][:, failure.pixels].argmin(0))].tolist()
                    kept = sorted({*kept, *found}) if found else everything
                    continue
                yield position, Marginals(planes, np.array(state.names, dtype=np.int64), base, shape, energy, log_sum)
                break


def _run(
    state: _State, params: CRFParams, iterations: int, normalization: str, savings: Savings, *, merging: bool
) -> np.ndarray:
    """Q of the state's columns after all updates, (columns, n) float32."""
    symmetric = normalization == "symmetric"
    n = state.advantage.shape[1]
    # pydensecrf's guard against division by zero; a pixel's own weight keeps the mass well above it.
    masses = [lattice.mass + np.float32(1e-20) for lattice in state.pair]
    factors = [1 / np.sqrt(m) if symmetric else 1 / m for m in masses]
    total = np.zeros((2, n if symmetric else 1), dtype=np.float32)
    if symmetric:
        for row, lattice, factor in zip(total, state.pair, factors, strict=True):
            row[:] = factor * lattice.filter(factor)
    weights = np.array([params.w, params.w_pos], dtype=np.float32)
    first, second = state.pair
    out = np.empty((0, 0), dtype=np.float32)
    for update in range(iterations + 1):
        if update == iterations:
            out = np.empty_like(state.splatted)
        top = np.empty(len(state.names), dtype=np.float32)
        state.update(
            state.advantage, update > 0,
            first.index, first.weight, factors[0], state.values[0], state.sums[0],
            second.index, second.weight, factors[1], state.values[1], state.sums[1],
            symmetric, total, weights, state.splatted, np.float32(savings.unchanged), top, out,
        )  # fmt: skip
        if update > 0 and -1 in state.names:
            rest = state.names.index(-1)
            limit = savings.merged_end if update == iterations else savings.merged_limit
            if top[rest] > limit:
                raise _TooProbable((out if out.size else state.splatted)[rest] > limit - savings.unchanged)
        if update == iterations:
            break
        if merging and update > 0:
            state.merge(top)
        for i in range(2):
            state.blur(state.sums[i], weights[i], state.pair[i].chains, state.values[i])
    return out
