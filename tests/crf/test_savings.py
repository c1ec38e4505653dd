"""What the engine leaves out: the bounds it states, input made to break them, and the switches."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from crf.slow import blobs, patches
from weakseg.crf import CRFParams, label_map, mean_field, mean_field_grid
from weakseg.crf.engine import updates
from weakseg.crf.engine.lattice import Lattices
from weakseg.crf.engine.marginals import Marginals, marginals
from weakseg.crf.engine.savings import Savings
from weakseg.crf.engine.tiles import tiles

PARAMS = CRFParams(5, 20, 10)
NONE = Savings.none()


def run(unary: np.ndarray, image: np.ndarray, savings: Savings, iterations: int = 10, params: CRFParams = PARAMS):
    return next(marginals(unary, Lattices(image), [params], iterations=iterations, savings=savings))[1]


def merged_labels(found: Marginals) -> list[int]:
    """Labels that have no column of their own."""
    return [k for k in range(found.shape[0]) if k != found.base and k not in found.column_labels]


def crowded(seed: int, labels: int = 21, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """Made to break merging: in each patch a few labels share the lead just below the share that keeps them apart."""
    rng = np.random.default_rng(seed)
    chance = np.full((labels, *size), 1e-3)
    for top in range(0, size[0], 8):
        for left in range(0, size[1], 8):
            few = rng.choice(labels, 4, replace=False)
            chance[few, top : top + 8, left : left + 8] = rng.uniform(0.2, 0.26, (4, 1, 1))
    chance += rng.uniform(0, 1e-2, chance.shape)
    return -np.log(chance / chance.sum(0)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0, 5.0, 45.0]))
def test_merged_labels_are_bounded_from_above_after_one_update(seed: int, w: float) -> None:
    """Given the same Q before, Q of the merged labels together is no less than the sum of theirs."""
    unary, image = blobs(21, 30, 40, seed, sharpness=3), patches(30, 40, seed)
    params = CRFParams(w, 20, 10)
    found = run(unary, image, Savings(unchanged=0.0, merged_limit=1.0), 1, params)
    labels = merged_labels(found)
    assert len(labels) > 1
    true = mean_field(unary, image, params, iterations=1, savings=NONE)
    plane = found.planes[list(found.column_labels).index(-1)]
    column = tiles(30, 40).back(plane).reshape(true.shape[1:])
    assert (column >= true[labels].sum(0) - 1e-4).all()
    # Others are too low by what the merged ones have too much, at most.
    kept = [k for k in range(21) if k not in labels]
    assert (found.q()[kept] <= true[kept] + 1e-4).all()


@pytest.mark.parametrize("seed", range(6))
def test_labels_made_to_win_from_below_are_found(seed: int) -> None:
    unary, image = crowded(seed), patches(40, 48, seed)
    plain = label_map(unary, image, PARAMS, savings=NONE)
    assert len(np.unique(plain)) > 3
    assert (label_map(unary, image, PARAMS) == plain).mean() >= 0.995


@pytest.mark.parametrize("seed", [0, 1, 2, 9, 25, 30, 33, 49, 149])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 6.0])
@pytest.mark.parametrize("labels", [2, 5, 13, 21, 30])
def test_savings_together_change_little(seed: int, sharpness: float, labels: int) -> None:
    """The worst of 1,200 tried: 1.4 % of the pixels with 21 labels (seed 30), 6.2 % with 30 flat ones (seed 25)."""
    unary, image = blobs(labels, 40, 48, seed, sharpness), patches(40, 48, seed)
    plain = mean_field(unary, image, PARAMS, savings=NONE)
    q, apart = (mean_field(unary, image, PARAMS, savings=s) for s in (Savings(), Savings(merged_limit=0.0)))
    assert (q.argmax(0) == plain.argmax(0)).mean() >= (0.93 if labels == 30 else 0.98)
    assert np.abs(q - plain).mean() <= 1e-2
    assert (apart.argmax(0) == plain.argmax(0)).mean() >= 0.998
    assert np.abs(apart - plain).mean() <= 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_waiting_pixels_move_a_message_by_their_bound_at_most(seed: int) -> None:
    """In the second update a message is off by (w + w_pos) * unchanged, so that log-ratios of Q are by twice that."""
    unary, image = blobs(6, 30, 40, seed), patches(30, 40, seed)
    wait = Savings(merged_limit=0.0, unchanged=1e-3, shared=False)
    plain, waited = (mean_field(unary, image, PARAMS, iterations=2, savings=s).astype(np.float64) for s in (NONE, wait))
    seen = np.minimum(plain, waited) > 1e-4
    ratio = np.where(seen, np.log(np.maximum(plain, 1e-9)) - np.log(np.maximum(waited, 1e-9)), 0)
    assert np.abs(ratio).max() <= 2 * (PARAMS.w + PARAMS.w_pos) * 1e-3 + 1e-3


@pytest.mark.parametrize("unchanged", [1e-3, 1e-2, 5e-2])
def test_settled_tiles_are_within_their_bound(unchanged: float) -> None:
    """The second update is the first that can leave tiles out; all else is the same there."""
    moved = []
    for seed, w, likely in itertools.product(range(6), (1.0, 5.0, 45.0), (2, 6)):
        params = CRFParams(w, 20, 10)
        unary, image = blobs(6, 60, 72, seed, 5.0, likely), patches(60, 72, seed, 3.0)
        whole, settled = (
            mean_field(unary, image, params, iterations=2, savings=Savings(0.0, unchanged=unchanged, settled=s))
            for s in (False, True)
        )
        moved.append(float(np.abs(whole - settled).max()))
    assert max(moved) <= 2 * unchanged + 1e-6
    assert max(moved) > 0.1 * unchanged  # tiles were left out


@pytest.mark.parametrize("labels", [3, 12])
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_sums_made_anew_are_those_that_were_changed(
    labels: int, normalization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(labels)
    unary = rng.normal(size=(labels, 37, 45)).astype(np.float32)
    found = []
    for restless in (0.0, 2.0):  # where any pixel changed, and never
        monkeypatch.setattr(updates, "_RESTLESS", restless)
        image = Lattices(patches(37, 45))
        found.append(next(marginals(unary, image, [PARAMS], normalization=normalization, savings=NONE))[1].q())
    np.testing.assert_allclose(found[0], found[1], atol=2e-5)


def test_each_switch_turns_its_saving_off() -> None:
    unary, image = blobs(21, 40, 48, 1), patches(40, 48, 1)
    assert merged_labels(run(unary, image, Savings())) and not merged_labels(run(unary, image, NONE))
    assert not merged_labels(run(unary, image, Savings(merged_limit=0.0)))
    plain = mean_field(unary, image, PARAMS, savings=NONE)
    exact = [Savings(merged_limit=0.0, unchanged=0.0, shared=shared) for shared in (True, False)]
    for savings in exact:
        np.testing.assert_array_equal(mean_field(unary, image, PARAMS, savings=savings), plain)
    for savings in (Savings(merged_limit=0.0, settled=False), Savings(merged_limit=0.0, unchanged=1e-2)):
        assert not np.array_equal(mean_field(unary, image, PARAMS, savings=savings), plain)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_failed_leaves_nothing_behind(seed: int) -> None:
    """Merging that never keeps to its limit ends in what is without merging, to the bit."""
    unary, image = blobs(12, 40, 48, seed, 1.0, 12), patches(40, 48, seed)
    apart, failed = (mean_field(unary, image, PARAMS, savings=Savings(merged_limit=m)) for m in (0.0, 1e-6))
    np.testing.assert_array_equal(failed, apart)


def test_sets_that_share_lattices_give_what_each_gives_alone() -> None:
    unary, image = blobs(21, 40, 48, 2), patches(40, 48, 2)
    sets = [CRFParams(w, xy, rgb) for w in (3, 8) for xy in (10, 20) for rgb in (5, 10)]
    for together, params in zip(mean_field_grid(unary, image, sets), sets, strict=True):
        np.testing.assert_array_equal(together, label_map(unary, image, params, savings=Savings(shared=False)))


def test_extreme_unaries_and_sizes() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-6, 1e3, 1e20):
        unary = (rng.random((21, 20, 24)) * scale).astype(np.float32)
        q = mean_field(unary, patches(20, 24), PARAMS)
        assert np.isfinite(q).all() and np.allclose(q.sum(0), 1, atol=1e-4)
    one = np.zeros((1, 1, 1), np.float32)
    assert mean_field(one, np.zeros((1, 1, 3), np.uint8), PARAMS).item() == 1
    for labels in (2, 4):  # of equal labels the lowest, where their shares are exact in float32
        flat = np.zeros((labels, 9, 9), np.float32)
        assert label_map(flat, np.zeros((9, 9, 3), np.uint8), PARAMS, iterations=0).max() == 0
