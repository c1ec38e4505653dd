"""The mean-field updates: columns of labels on a pair of lattices, update after update."""

from dataclasses import dataclass

import numpy as np

from weakseg.crf.engine.kernels import Filter, Pixels, Step, TileStates, kernels_of, merge_columns, regroup, settle
from weakseg.crf.engine.lattice import Lattice
from weakseg.crf.engine.savings import Savings
from weakseg.crf.params import CRFParams

# Labels whose largest probabilities sum to so little are merged between updates, if that makes fewer vectors.
_MERGE_BELOW = 0.1
# Where so large a share of the pixels has just changed no tile will have settled, and looking for them is left out; and
# sums of all pixels cost less than changing them and keeping a copy.
_RESTLESS = 0.97
_NO_OUTPUT = np.empty((0, 0), dtype=np.float32)


class TooProbable(Exception):
    """Merged labels exceeded their limit."""

    def __init__(self, places: np.ndarray) -> None:
        """At these places, (m,) bool."""
        super().__init__()
        self.places = places


@dataclass(frozen=True)
class Columns:
    """The labels but the base, which is the most probable one; some of them may be merged in one column.

    Attributes:
        advantage: (columns, m) float32, U_base - U_k in the order of tiles; -1e30 at places without a pixel.
        names: label of each column, -1 for merged labels.
        rest: largest probability of the merged labels together, before any update.
    """

    advantage: np.ndarray
    names: list[int]
    rest: float


class Start:
    """Q = softmax(-U) of columns, splatted and blurred on a pair of lattices: what all weights begin with.

    Attributes:
        columns: the columns.
        pair: lattices of the bilateral and the position kernel.
        symmetric: whether the normalisation enters before and after filtering.
        factors: normalisation (m,) of each kernel.
        total: (2, m) message of all labels together of each kernel where symmetric; else it is 1 and left empty.
        splatted: Q, (columns, m).
        sums, values: what was splatted on each lattice and its blur, (groups, points * lanes).
    """

    def __init__(self, columns: Columns, pair: tuple[Lattice, Lattice], normalization: str) -> None:
        """The first softmax; `normalization` is `after` or `symmetric`."""
        self.columns = columns
        self.pair = pair
        self.symmetric = normalization == "symmetric"
        self.factors = [lattice.factor(normalization) for lattice in pair]
        self.total = np.zeros((2, columns.advantage.shape[1] if self.symmetric else 1), dtype=np.float32)
        if self.symmetric:
            for row, lattice, factor in zip(self.total, pair, self.factors, strict=True):
                row[:] = factor * lattice.filter(lattice.tiles.back(factor))[lattice.tiles.order]
        self.splatted = np.zeros_like(columns.advantage)
        lanes = lanes_for(len(columns.names))
        groups = -(-len(columns.names) // lanes)
        self.sums = [np.empty((groups, lattice.points * lanes), dtype=np.float32) for lattice in pair]
        self.values = [np.empty_like(s) for s in self.sums]
        state = _State(self)
        state.splatted = self.splatted
        state.update(np.zeros(2, dtype=np.float32), 0.0, _NO_OUTPUT, started=False, anew=True)
        for lattice, sums, values in zip(pair, self.sums, self.values, strict=True):
            for group, blurred in zip(sums, values, strict=True):
                state.kernels.blur(group, lattice.chains, lattice.runs, blurred)

    def softmax(self) -> np.ndarray:
        """Q without messages, (columns, m)."""
        return self.splatted.copy()


class _State:
    """Columns on their way through the updates; begins on a start's arrays and leaves them as they are."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.advantage, self.names = start.columns.advantage, list(start.columns.names)
        self.sums, self.values = list(start.sums), list(start.values)
        self.waiting = self.splatted = start.splatted
        self.room = np.empty(len(start.pair[0].tiles.sizes), dtype=np.float32)
        self._shape()

    def _shape(self) -> None:
        self.lanes = lanes_for(len(self.names))
        self.kernels = kernels_of(self.lanes)
        self.tops = np.zeros((len(self.room), len(self.names)), dtype=np.float32)
        self.room[:] = -1  # everything is computed

    def update(
        self, weights: np.ndarray, unchanged: float, out: np.ndarray, *, started: bool = True, anew: bool = False
    ) -> int:
        """One update of Q; returns the number of pixels that changed. The sums are made anew or changed by theirs."""
        start = self.start
        bilateral, position = (
            Filter(lattice.corners, factor, total, w, values, sums)
            for lattice, factor, total, w, values, sums in zip(
                start.pair, start.factors, start.total, weights, self.values, self.sums, strict=True
            )
        )
        return self.kernels.update(
            TileStates(self.room, self.tops),
            Pixels(self.advantage, self.waiting, self.splatted),
            bilateral,
            position,
            Step(started, start.symmetric, anew, np.float32(unchanged)),
            out,
        )

    def own(self, *, copied: bool) -> None:
        """Get arrays to write to: copies, or the start's own where it is not needed again."""
        self.splatted = np.empty_like(self.splatted)
        if copied:
            self.sums = [s.copy() for s in self.sums]
            self.values = [v.copy() for v in self.values]

    def blur(self, weights: np.ndarray, *, watch: bool, anew: bool) -> None:
        """New values from the sums; where `watch`, what they move is taken from the tiles' room.

        Where sums will be made anew theirs is the array that becomes the values.
        """
        for i, lattice in enumerate(self.start.pair):
            sums = self.sums[i]
            if self.values[i].shape != sums.shape:
                self.values[i] = np.empty_like(sums)
            if anew:
                self.sums[i], self.values[i] = self.values[i], sums
            if not watch:
                for group, values in zip(sums, self.values[i], strict=True):
                    self.kernels.blur(group, lattice.chains, lattice.runs, values)
                continue
            moves = np.zeros((2, lattice.points), dtype=np.float32)
            spare = np.empty_like(sums[:1])
            for g, group in enumerate(sums):
                self.kernels.blur(group, lattice.chains, lattice.runs, spare[0])
                self.kernels.moves(self.values[i][g], spare[0], moves)
                if len(sums) == 1:
                    self.values[i] = spare
                else:
                    self.values[i][g] = spare[0]
            settle(moves, weights[i], lattice.point_mass, lattice.corners, self.room)
        if not watch:
            self.room[:] = -1

    def merge(self, top: np.ndarray) -> bool:
        """Merge labels whose largest Q is small, if it makes fewer vectors; says whether it did."""
        by_top = sorted((c for c, name in enumerate(self.names) if name >= 0), key=lambda c: top[c])
        together = float(top[self.names.index(-1)]) if -1 in self.names else 0.0
        small = []
        for c in by_top:
            together += float(top[c])
            if together > _MERGE_BELOW:
                break
            small.append(c)
        if not small:
            return False
        into = self.names.index(-1) if -1 in self.names else small[0]
        keep = [c for c in range(len(self.names)) if c not in small or c == into]
        if vectors(len(keep)) >= vectors(len(self.names)):
            return False
        added = np.array([c for c in small if c != into])
        at = keep.index(into)
        merged = merge_columns(self.advantage, into, added)
        self.advantage = self.advantage[keep]
        self.advantage[at] = merged
        merged = self.splatted[into] + self.splatted[added].sum(0)
        self.splatted = self.waiting = self.splatted[keep]
        self.splatted[at] = merged
        # Sums on the lattices are linear in Q, so that they are merged rather than made anew.
        target = np.array([keep.index(c) if c in keep else at for c in range(len(self.names))])
        lanes = self.lanes
        self.names = [-1 if c == into else self.names[c] for c in keep]
        self._shape()
        self.sums = [regroup(s, lanes, target, len(keep), self.lanes) for s in self.sums]
        return True


def run(
    start: Start, params: CRFParams, iterations: int, savings: Savings, *, merging: bool, again: bool
) -> tuple[np.ndarray, list[int]]:
    """All updates from a start.

    Args:
        start: on the lattices of the parameters' widths.
        params: parameters.
        iterations: updates.
        savings: what may be left out.
        merging: whether labels may be merged between updates.
        again: whether the start is needed again; else its arrays are written to.

    Returns:
        Q of the columns that are left, (columns, m) float32, and their names.

    Raises:
        TooProbable: a column of merged labels exceeded its limit.
    """
    if iterations == 0:
        return start.softmax(), list(start.columns.names)
    state = _State(start)
    state.own(copied=again)
    watch = savings.settled and not start.symmetric
    weights = np.array([params.w, params.w_pos], dtype=np.float32)
    anew = False
    for update in range(1, iterations + 1):
        last = update == iterations
        out = np.empty_like(state.splatted) if last else _NO_OUTPUT
        changed = state.update(weights, savings.unchanged, out, anew=anew)
        state.waiting = state.splatted
        top = state.tops.max(0)
        if -1 in state.names:
            rest = state.names.index(-1)
            if top[rest] > savings.merged_limit:
                raise TooProbable(
                    (out if last else state.splatted)[rest] > savings.merged_limit - 2 * savings.unchanged
                )
        if last:
            break
        merged = merging and state.merge(top)
        anew = changed >= _RESTLESS * state.advantage.shape[1]
        # Where nothing was splatted the next update would be this one again.
        if changed or merged:
            state.blur(weights, watch=watch and not merged and not anew, anew=anew)
    return out, state.names


def lanes_for(columns: int) -> int:
    """Lanes of the vectors that hold so many columns."""
    return 4 if columns <= 4 else 8


def vectors(columns: int) -> int:
    """Floats that a lattice point holds for so many columns."""
    return -(-columns // lanes_for(columns)) * lanes_for(columns)
