"""Which images are held out for the CRF, and which are strong and weak in an experiment."""

import numpy as np

from weakseg.errors import WeaksegError

PAPER_TRAIN = 1464
"""Images of VOC 2012 `train`."""

PAPER_TRAIN_AUG = 10582
"""Images of the augmented list `train_aug`."""

PAPER_VAL = 1449
"""Images of VOC 2012 `val`."""


def held_out_ids(val: list[str]) -> list[str]:
    """The images of `val` on which the CRF is tuned.

    On the full list the authors' 100: the first 100 of the permutation of the sorted ids that Matlab's generator with
    seed 10 gives, which equals a sort of NumPy's RandomState(10) numbers. A shorter list keeps the rule and the
    proportion, one image at least.
    """
    ids = sorted(val)
    count = max(1, round(100 * len(ids) / PAPER_VAL))
    # The legacy generator is the one that equals Matlab's.
    order = np.argsort(np.random.RandomState(10).rand(len(ids)))
    return sorted(ids[i] for i in order[:count])


def strong_and_weak(train: list[str], train_aug: list[str], *, strong: int, weak: int) -> tuple[list[str], list[str]]:
    """Ids with pixel labels and ids with weak annotation, from the paper's counts.

    On lists of the paper's length the counts hold exactly. On others the proportions are kept: n strong images become
    n / 1464 of `train` (the first ones, sorted); the weak ones are the rest of `train_aug`, or w / 9118 of that rest
    (the first ones) where the paper takes a part of it. All of train_aug as strong is all of it anywhere.

    Args:
        train, train_aug: ids; train must be part of train_aug.
        strong, weak: the paper's counts, 0 <= strong, 0 <= weak, strong + weak <= 10582.

    Raises:
        WeaksegError: train is not part of train_aug, counts beyond the paper's lists, or no image left to be weak.
    """
    outside = sorted(set(train) - set(train_aug))
    if outside:
        raise WeaksegError(f"lists: {len(outside)} images of train are not in train_aug, {outside[0]} the first")
    if strong < 0 or weak < 0 or strong + weak > PAPER_TRAIN_AUG or (PAPER_TRAIN < strong < PAPER_TRAIN_AUG):
        raise WeaksegError(
            f"lists: {strong} strong and {weak} weak images are beyond the paper's lists ({PAPER_TRAIN} in train, "
            f"{PAPER_TRAIN_AUG} in train_aug)"
        )
    if strong == PAPER_TRAIN_AUG:
        return sorted(train_aug), []
    chosen = sorted(train)[: _share(strong, PAPER_TRAIN, len(train))]
    rest = sorted(set(train_aug) - set(chosen))
    if weak == 0:
        return chosen, []
    if not rest:
        raise WeaksegError(
            f"lists: {weak} weak images are asked for, but all {len(train_aug)} images of train_aug are strong; add "
            "images to train_aug or leave this experiment out"
        )
    if weak == PAPER_TRAIN_AUG - strong:
        return chosen, rest
    return chosen, rest[: _share(weak, PAPER_TRAIN_AUG - strong, len(rest))]


def _share(count: int, of: int, available: int) -> int:
    """count / of of the available images, rounded, one at least where count is not 0."""
    return 0 if count == 0 else max(1, round(count / of * available))
