"""What the engine leaves out, and what that can cost.

Each saving has its switch in `Savings`:

merged labels
    Under a Potts model labels that stay improbable are carried as one merged label. Its probability is the sum of
    theirs, p_R = sum p_l, and its message the sum of their messages. As messages are not negative,
    sum_l p_l exp(M_l) <= p_R exp(sum_l M_l): the merged label's Q is at every update an upper bound of the sum of the
    labels' Q (given the same Q before), and the other labels' Q is too low by this share at most. The bound is watched
    in all updates and pixels; where it exceeds `merged_limit` the image is run again with more labels apart.
    The bound is that of one update: what an update gets wrong, the next ones may spread. On real photos the labels are
    pydensecrf's on 99.99 % of the pixels (docs/crf.md); made-up unaries with many labels possible everywhere lose more
    (tests/crf/test_savings.py), and `merged_limit=0` keeps all labels apart.
complement
    Filters are linear and the filter of ones is known: one label, the most probable, is never filtered. Exact.
unchanged pixels
    Sums on the lattice are kept, and a pixel adds the change of its Q since it last did. Changes of `unchanged` or less
    wait, so that every message is that of a Q within `unchanged` of the true one: it is off by (w + w_pos) * unchanged
    at most.
settled tiles
    A tile of pixels is left out of an update where its Q is bound to change by `unchanged` at most since it was last
    computed. Let a bound the messages' changes since then: the sum over updates of the largest relative changes among
    the lattice points that the tile touches (`_moves` in `weakseg.crf.engine.kernels`). Then log-odds of a pixel change
    by 2a at most, and its Q by min(a / 2, (exp(2a) - 1) (1 - max Q) / max Q): dQ_k = Q_k (dM_k - sum_l Q_l dM_l), which
    is at most Q_k (1 - Q_k) times the spread 2 |dM| of the messages. Together with the pixels that wait, Q on the
    lattices is within 2 * unchanged of the true one. Used with normalisation after filtering.
shared lattices
    A bilateral lattice depends on image, sigma_xy and sigma_rgb, a position lattice on size and sigma_pos; parameter
    sets that differ in weights share them, and the filter of softmax(-U), with which all begin. This changes no bit of
    the result.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Savings:
    """What the engine may leave out; `Savings.none()` does all the work.

    Attributes:
        merged_limit: largest probability that merged labels may reach together, in any pixel and update; 0: all labels
            are kept apart.
        unchanged: largest change of a pixel's Q that waits; 0: every change counts.
        settled: tiles whose Q is bound to change less than that are not computed.
        shared: parameter sets share lattices, and images of a size position lattices.
    """

    merged_limit: float = 0.3
    unchanged: float = 1e-4
    settled: bool = True
    shared: bool = True

    @staticmethod
    def none() -> "Savings":
        """All savings off (the complement label, which is exact, stays)."""
        return Savings(merged_limit=0.0, unchanged=0.0, settled=False, shared=False)
