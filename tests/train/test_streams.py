"""Image streams and repeat factors."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from weakseg.errors import WeaksegError
from weakseg.train.streams import ImageStream, repeat_factors


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 99))
def test_every_epoch_is_a_full_shuffle(count, seed):
    ids = [str(i) for i in range(count)]
    stream = ImageStream(ids, seed=seed, name="weak")
    drawn = [stream[k] for k in range(3 * count)]
    for epoch in range(3):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == sorted(ids)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(0, 60))
def test_a_position_can_be_asked_for_in_any_order(seed, position):
    ids = [str(i) for i in range(7)]
    factors = np.linspace(1, 3, 7)
    in_order = ImageStream(ids, seed=seed, name="strong", factors=factors)
    sequence = [in_order[k] for k in range(61)]
    assert ImageStream(ids, seed=seed, name="strong", factors=factors)[position] == sequence[position]
    assert in_order[position] == sequence[position]


def test_strong_and_weak_streams_shuffle_independently():
    ids = [str(i) for i in range(50)]
    first, second = (ImageStream(ids, seed=3, name=name) for name in ("strong", "weak"))
    assert [first[k] for k in range(50)] != [second[k] for k in range(50)]


def test_repeat_factors_equal_the_formula_written_out():
    rng = np.random.default_rng(0)
    present = rng.random((40, 5)) < [0.9, 0.5, 0.2, 0.05, 0.0]
    factors = repeat_factors(present, 0.3)
    for n in range(40):
        expected = 1.0
        for label in range(1, 5):
            if present[n, label]:
                expected = max(expected, math.sqrt(0.3 / present[:, label].mean()))
        assert factors[n] == pytest.approx(expected)
    assert (repeat_factors(present, 0.0) == 1).all()


def test_fractions_of_repeat_factors_hold_on_average():
    stream = ImageStream(["a", "b"], seed=0, name="strong", factors=np.array([1.0, 2.5]))
    drawn = [stream[k] for k in range(7000)]
    assert drawn.count("b") / drawn.count("a") == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize(("ids", "factors"), [([], None), (["a"], np.array([0.5])), (["a"], np.array([1.0, 1.0]))])
def test_bad_streams_are_refused(ids, factors):
    with pytest.raises(WeaksegError, match="stream weak"):
        ImageStream(ids, seed=0, name="weak", factors=factors)
