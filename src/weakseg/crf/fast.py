"""The fast engine: permutohedral mean field on one CPU thread, with work saved where it provably does not count.

Savings, each with its switch in `Savings`:

merged labels
    Under a Potts model labels that stay improbable are carried as one merged label. Its probability is the sum of
    theirs, p_R = sum p_l, and its message the sum of their messages. As messages are not negative,
    sum_l p_l exp(M_l) <= p_R exp(sum_l M_l): the merged label's Q is at every update an upper bound of the sum of the
    labels' Q (given the same Q before), and the other labels' Q is too low by this share at most. The bound is watched
    in all updates and pixels; where it exceeds `Savings.merged_limit` the image is run again with more labels apart.
complement
    Filters are linear and the filter of ones is known: one label, the most probable, is never filtered.
unchanged pixels
    Sums on the lattice are kept, and a pixel adds the change of its Q since it last did. Changes of
    `Savings.unchanged` or less wait, so that every message is that of a Q within `unchanged` of the true one: it is
    off by (w + w_pos) * unchanged at most.
shared lattices
    A bilateral lattice depends on image, sigma_xy and sigma_rgb, a position lattice on size and sigma_pos; parameter
    sets that differ in weights are filtered together as columns.
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
        columns: most columns (parameter sets x labels) filtered together; 0: one parameter set at a time.
    """

    merged_limit: float = 0.5
    merged_end: float = 0.2
    unchanged: float = 1e-4
    columns: int = 24

    @staticmethod
    def none() -> "Savings":
        """All savings off (the complement label, which is exact, stays)."""
        return Savings(merged_limit=0.0, unchanged=0.0, columns=0)


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


# Labels that reach this probability somewhere are kept apart at first; the last entry keeps all.
_APART = (0.3, 0.03, 0.0)
# Updates after which labels that have become improbable are merged, and how improbable.
_MERGE_AFTER = (2, 4)
_MERGE_BELOW = 0.1


class _Columns:
    """State of some parameter sets on one pair of lattices."""

    def __init__(self, advantage: np.ndarray, sets: Sequence[CRFParams], pair: tuple[Lattice, Lattice]) -> None:
        self.advantage = advantage
        self.sets = sets
        self.pair = pair
        self.splatted = np.zeros((len(sets) * len(advantage), advantage.shape[1]), dtype=np.float32)
        self._shape()
        self.sums = tuple(np.zeros((self.groups, lat.points * self.lanes), dtype=np.float32) for lat in pair)

    def _shape(self) -> None:
        labels, sets = len(self.advantage), len(self.sets)
        self.lanes = 4 if sets * labels <= 4 else 8
        self.groups = -(-sets * labels // self.lanes)
        self.blur, self.update = kernels_of(self.lanes)
        self.weights = np.array([(p.w, p.w_pos) for p in self.sets], dtype=np.float32)
        self.column_weights = np.zeros((2, self.groups * self.lanes), dtype=np.float32)
        self.column_weights[:, : sets * labels] = np.repeat(self.weights.T, labels, axis=1)
        self.values = tuple(np.empty((self.groups, lat.points * self.lanes), dtype=np.float32) for lat in self.pair)

    def merge(self, keep: list[int], into: int, added: list[int]) -> None:
        """Keep these labels' columns, of which `into` takes the `added` ones up (positions among the labels)."""
        labels, sets = len(self.advantage), len(self.sets)
        for k in added:
            if k != into:
                merge_column(self.advantage, into, k)

        def merged(planes: np.ndarray) -> np.ndarray:
            by_set = planes[: sets * labels].reshape(sets, labels, -1)
            result = by_set[:, keep]
            for k in added:
                if k != into:
                    result[:, keep.index(into)] += by_set[:, k]
            return result.reshape(sets * len(keep), -1)

        planes = [
            merged(s.reshape(self.groups, -1, self.lanes).transpose(0, 2, 1).reshape(self.groups * self.lanes, -1))
            for s in self.sums
        ]
        self.splatted = np.ascontiguousarray(merged(self.splatted))
        self.advantage = np.ascontiguousarray(self.advantage[keep])
        self._shape()
        padded = [np.zeros((self.groups * self.lanes, p.shape[1]), dtype=np.float32) for p in planes]
        for target, source in zip(padded, planes, strict=True):
            target[: len(source)] = source
        self.sums = tuple(
            np.ascontiguousarray(p.reshape(self.groups, self.lanes, -1).transpose(0, 2, 1)).reshape(self.groups, -1)
            for p in padded
        )


def marginals(
    unary: np.ndarray,
    lattices: Lattices,
    sets: Sequence[CRFParams],
    *,
    iterations: int = 10,
    normalization: str = "after",
    savings: Savings = Savings(),
) -> Iterator[tuple[int, Marginals]]:
    """Mean field of one image for several parameter sets, those that share lattices together.

    Args:
        unary: (L+1, H, W) float32, finite, below 1e30 in size.
        lattices: lattices of the image.
        sets: parameter sets, in any order.
        iterations: updates.
        normalization: `after` or `symmetric`.
        savings: what may be left out.

    Yields:
        (position in `sets`, its marginals), ordered by lattice.

    Raises:
        WeaksegError: values that are not finite.
    """
    shape = unary.shape
    energy = np.ascontiguousarray(unary.reshape(shape[0], -1))
    log_sum = np.empty(energy.shape[1], dtype=np.float32)
    largest, share, fine = survey(energy, log_sum)
    if not fine:
        raise WeaksegError("CRF: the unary has values that are not finite; clip probabilities before the logarithm")
    base = int(share.argmax())
    if shape[0] == 1:
        nothing = np.empty((0, energy.shape[1]), dtype=np.float32)
        for position in range(len(sets)):
            yield position, Marginals(nothing, np.empty(0, dtype=np.int64), base, shape, energy, log_sum)
        return
    by_lattice: dict[tuple[float, float, float], list[int]] = {}
    for position, p in enumerate(sets):
        by_lattice.setdefault((p.sigma_xy, p.sigma_rgb, p.sigma_pos), []).append(position)
    for (sigma_xy, sigma_rgb, sigma_pos), positions in by_lattice.items():
        pair = lattices.bilateral(sigma_xy, sigma_rgb), lattices.position(sigma_pos)
        waiting = positions
        for apart in _APART if savings.merged_limit > 0 else (0.0,):
            kept = [k for k in range(shape[0]) if k != base and (largest[k] > apart or apart == 0)]
            rest = [k for k in range(shape[0]) if k != base and k not in kept]
            if len(rest) == 1:
                kept, rest = sorted(kept + rest), []
            columns = len(kept) + bool(rest)
            at_once = max(1, savings.columns // columns)
            failed: list[int] = []
            for first in range(0, len(waiting), at_once):
                block = waiting[first : first + at_once]
                advantage = np.empty((columns, energy.shape[1]), dtype=np.float32)
                advantages(energy, log_sum, base, np.array(kept, np.int64), np.array(rest, np.int64), advantage)
                state = _Columns(advantage, [sets[i] for i in block], pair)
                names = [*kept, -1] if rest else kept
                merging = apart == _APART[0] and savings.merged_limit > 0
                results = _run(state, names, iterations, normalization, savings, merging=merging)
                for i, result in zip(block, results, strict=True):
                    if result is None:
                        failed.append(i)
                    else:
                        planes, labels = result
                        yield i, Marginals(planes, labels, base, shape, energy, log_sum)
            waiting = failed
            if not waiting:
                break


def _run(
    state: _Columns, names: list[int], iterations: int, normalization: str, savings: Savings, *, merging: bool
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """(planes, label of each) of each set, or None for a set whose merged labels exceeded the limit."""
    symmetric = normalization == "symmetric"
    n = state.advantage.shape[1]
    # pydensecrf's guard against division by zero; a pixel's own weight keeps the mass well above it.
    mass = [lattice.mass + np.float32(1e-20) for lattice in state.pair]
    factors = [1 / np.sqrt(m) if symmetric else 1 / m for m in mass]
    total = np.zeros((2, n if symmetric else 1), dtype=np.float32)
    if symmetric:
        for row, lattice, factor in zip(total, state.pair, factors, strict=True):
            row[:] = factor * lattice.filter(factor)
    failed = np.zeros(len(state.sets), dtype=bool)
    out = np.empty((0, 0), dtype=np.float32)
    for update in range(iterations + 1):
        columns = len(state.splatted)
        if update == iterations:
            out = np.empty((columns, n), dtype=np.float32)
        top = np.empty(columns, dtype=np.float32)
        first, second = state.pair
        state.update(
            state.advantage, len(state.sets), update > 0,
            first.index, first.weight, factors[0], state.values[0], state.sums[0],
            second.index, second.weight, factors[1], state.values[1], state.sums[1],
            symmetric, total, state.weights, state.splatted, np.float32(savings.unchanged), top, out,
        )  # fmt: skip
        tops = top.reshape(len(state.sets), -1)
        if update > 0 and -1 in names:
            limit = savings.merged_end if update == iterations else savings.merged_limit
            failed |= tops[:, names.index(-1)] > limit
            if failed.all():
                return [None] * len(state.sets)
        if update == iterations:
            break
        if merging and update in _MERGE_AFTER:
            names = _merge(state, names, tops[~failed].max(0))
        for i in range(2):
            state.blur(state.sums[i], state.column_weights[i], state.pair[i].chains, state.values[i])
    labels = np.array(names, dtype=np.int64)
    by_set = out.reshape(len(state.sets), len(names), n)
    return [None if bad else (planes, labels) for bad, planes in zip(failed, by_set, strict=True)]


def _merge(state: _Columns, names: list[int], top: np.ndarray) -> list[int]:
    """Merge labels that have become improbable, if it makes fewer vectors; the names of the columns left."""
    small = [k for k, name in enumerate(names) if name >= 0 and top[k] < _MERGE_BELOW]
    into = names.index(-1) if -1 in names else (small[0] if small else -1)
    keep = [k for k in range(len(names)) if k not in small or k == into]
    columns, left = len(names) * len(state.sets), len(keep) * len(state.sets)
    if not small or -(-left // 4) >= -(-columns // 4):
        return names
    state.merge(keep, into, small)
    return [-1 if k == into else names[k] for k in keep]
