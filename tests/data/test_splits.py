"""Held-out images, and strong and weak images of an experiment."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weakseg.config import load_experiments
from weakseg.data.splits import PAPER_TRAIN, PAPER_TRAIN_AUG, PAPER_VAL, held_out_ids, strong_and_weak
from weakseg.errors import WeaksegError

RELEASED = [
    line.split() for line in (Path(__file__).parent / "held_out_100.txt").read_text().splitlines() if line[0] != "#"
]


def ids(count, prefix="x"):
    return [f"{prefix}{n:06d}" for n in range(count)]


def full_lists():
    """Lists of the paper's lengths, train scattered over train_aug."""
    train_aug = ids(PAPER_TRAIN_AUG)
    chosen = np.random.default_rng(0).choice(PAPER_TRAIN_AUG, PAPER_TRAIN, replace=False)
    return [train_aug[i] for i in chosen], train_aug


def test_the_held_out_images_are_the_released_hundred():
    digest = hashlib.sha256("".join(f"{image_id}\n" for _, image_id in RELEASED).encode()).hexdigest()
    assert digest.startswith("9f6194cf4214a805")
    val = ids(PAPER_VAL)
    assert held_out_ids(val) == [val[int(position)] for position, _ in RELEASED]


def test_the_held_out_images_of_the_official_list(shared_root):
    lists = shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012" / "ImageSets"
    hundred = held_out_ids((lists / "official" / "val.txt").read_text().split())
    assert hundred == [image_id for _, image_id in RELEASED]
    # The subset's own list: those of the hundred that are present.
    present = set((lists / "Segmentation" / "val.txt").read_text().split())
    assert set((lists / "Segmentation" / "crf_val.txt").read_text().split()) == set(hundred) & present


@given(st.integers(1, 3000), st.randoms())
@settings(max_examples=40, deadline=None)
def test_held_out_images_of_any_list(count, random):
    val = ids(count)
    chosen = held_out_ids(val)
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(val)
    assert len(chosen) == max(1, round(count * 100 / 1449))
    random.shuffle(val)
    assert held_out_ids(val) == chosen


def test_the_papers_lists_give_the_papers_numbers(project_root):
    train, train_aug = full_lists()
    for row in load_experiments(project_root / "config"):
        strong, weak = strong_and_weak(train, train_aug, strong=row.strong, weak=row.weak)
        assert (len(strong), len(weak)) == (row.strong, row.weak), row.id
        assert not set(strong) & set(weak) and set(strong) | set(weak) <= set(train_aug)
        if 0 < row.strong <= PAPER_TRAIN:
            assert strong == sorted(train)[: row.strong]
        if row.weak > 0:
            assert weak == sorted(set(train_aug) - set(strong))[: row.weak]


def test_counts_on_the_subset(project_root):
    """664 of 1,464 and 1,934 of 10,582: the numbers by hand."""
    train_aug = ids(1934)
    train = train_aug[::2][:664]
    expected = {
        "em_adapt_weak": (0, 1934),
        "em_fixed_semi_200": (91, 1843),
        "em_fixed_semi_500": (227, 1707),
        "em_fixed_semi_750": (340, 1594),
        "em_fixed_semi_1000": (454, 1480),
        "em_fixed_semi_1464_5000": (664, 696),
        "em_fixed_semi_1464_9118": (664, 1270),
        "strong_1464": (664, 0),
        "strong_10582": (1934, 0),
    }
    for row in load_experiments(project_root / "config"):
        if row.id in expected:
            strong, weak = strong_and_weak(train, train_aug, strong=row.strong, weak=row.weak)
            assert (len(strong), len(weak)) == expected[row.id], row.id


@st.composite
def lists(draw):
    count = draw(st.integers(2, 60))
    train_aug = ids(count)
    train = draw(st.lists(st.sampled_from(train_aug), min_size=1, max_size=count - 1, unique=True))
    return train, train_aug


@given(lists(), st.integers(0, PAPER_TRAIN), st.integers(0, PAPER_TRAIN), st.randoms())
@settings(max_examples=80, deadline=None)
def test_laws_of_the_split(pair, fewer, more, random):
    train, train_aug = pair
    fewer, more = sorted((fewer, more))
    assume(fewer < more)
    small, rest = strong_and_weak(train, train_aug, strong=fewer, weak=PAPER_TRAIN_AUG - fewer)
    large, _ = strong_and_weak(train, train_aug, strong=more, weak=0)
    assert large[: len(small)] == small  # strong sets are nested
    assert set(large) <= set(train) and (len(small) == 0) == (fewer == 0)
    assert sorted(small + rest) == train_aug  # all weak: nothing is lost, nothing is twice
    shuffled = random.sample(train, len(train)), random.sample(train_aug, len(train_aug))
    assert strong_and_weak(*shuffled, strong=fewer, weak=PAPER_TRAIN_AUG - fewer) == (small, rest)
    half, part = strong_and_weak(train, train_aug, strong=fewer, weak=(PAPER_TRAIN_AUG - fewer) // 2)
    assert half == small and part == rest[: len(part)]
    assert abs(len(part) - len(rest) / 2) <= 1


@pytest.mark.parametrize(
    ("strong", "weak"), [(1465, 0), (5000, 100), (1464, 9119), (0, 10583), (10582, 1), (-1, 5), (3, -1)]
)
def test_counts_beyond_the_lists_are_refused(strong, weak):
    train, train_aug = full_lists()
    with pytest.raises(WeaksegError, match="beyond the paper's lists"):
        strong_and_weak(train, train_aug, strong=strong, weak=weak)


def test_train_outside_train_aug_is_refused():
    with pytest.raises(WeaksegError, match="stranger"):
        strong_and_weak([*ids(3), "stranger"], ids(9), strong=200, weak=0)


def test_no_weak_images_left_is_refused():
    with pytest.raises(WeaksegError, match="all 5 images of train_aug are strong"):
        strong_and_weak(ids(5), ids(5), strong=1464, weak=9118)
