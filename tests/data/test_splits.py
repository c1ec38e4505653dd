"""Held-out images, and the images of an experiment's streams."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from fabricate import make_experiment, make_study
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from weakseg.config import Experiment, PaperLists, load_sheet
from weakseg.data.splits import held_out_ids, images_of_experiment, images_of_streams, stand_in_test_ids
from weakseg.errors import WeaksegError

RELEASED = [
    line.split() for line in (Path(__file__).parent / "held_out_100.txt").read_text().splitlines() if line[0] != "#"
]
PAPER = PaperLists(pixel_labelled=1464, training=10582, evaluation=1449, held_out=100, other={"coco": 123287})


def ids(count, prefix="x"):
    return [f"{prefix}{n:06d}" for n in range(count)]


def full_lists():
    """Lists of the paper's lengths, train scattered over train_aug."""
    train_aug = ids(PAPER.training)
    chosen = np.random.default_rng(0).choice(PAPER.training, PAPER.pixel_labelled, replace=False)
    return [train_aug[i] for i in chosen], train_aug


def experiment(*streams):
    """An experiment of streams (annotation, images)."""
    methods = {"strong": "pixel_labels", "image": "em_fixed", "box": "bbox_em_fixed"}
    rows = [{"annotation": kind, "images": count, "method": methods[kind]} for kind, count in streams]
    return Experiment(id="mixed", table="table1", line=1, title="mixed", fov="large", streams=rows)


def split(train, train_aug, *streams, counts="paper"):
    return images_of_streams(experiment(*streams), train, train_aug, counts=counts, paper=PAPER)


def strong_and_weak(train, train_aug, strong, weak):
    """The images of an experiment with strong and weak ones; those of a count of 0 are none."""
    row = make_experiment("any", strong=strong, weak=weak, method="em_fixed")
    found = images_of_streams(row, train, train_aug, counts="paper", paper=PAPER)
    return (found if strong and weak else [found[0], []] if strong else [[], found[0]]) if found else [[], []]


def test_the_papers_lists(project_root):
    assert load_sheet(project_root / "config").lists == PAPER


def test_the_held_out_images_are_the_released_hundred():
    digest = hashlib.sha256("".join(f"{image_id}\n" for _, image_id in RELEASED).encode()).hexdigest()
    assert digest.startswith("9f6194cf4214a805")
    val = ids(PAPER.evaluation)
    assert held_out_ids(val, PAPER) == [val[int(position)] for position, _ in RELEASED]


def test_the_held_out_images_of_the_official_list(shared_root):
    lists = shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012" / "ImageSets"
    hundred = held_out_ids((lists / "official" / "val.txt").read_text().split(), PAPER)
    assert hundred == [image_id for _, image_id in RELEASED]
    # The subset's own list: those of the hundred that are present.
    present = set((lists / "Segmentation" / "val.txt").read_text().split())
    assert set((lists / "Segmentation" / "crf_val.txt").read_text().split()) == set(hundred) & present


@given(st.integers(1, 3000), st.randoms())
@settings(max_examples=40, deadline=None)
def test_held_out_images_of_any_list(count, random):
    val = ids(count)
    chosen = held_out_ids(val, PAPER)
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(val)
    assert len(chosen) == max(1, round(count * 100 / 1449))
    random.shuffle(val)
    assert held_out_ids(val, PAPER) == chosen


def test_the_papers_lists_give_the_papers_numbers(project_root):
    train, train_aug = full_lists()
    rows = load_sheet(project_root / "config").experiments
    for row in (row for row in rows if row.stage == "val" and not row.datasets):
        found = images_of_streams(row, train, train_aug, counts="paper", paper=PAPER)
        assert [len(part) for part in found] == [min(stream.count, PAPER.training) for stream in row.streams], row.id
        rest = train_aug
        for stream, part in zip(row.streams, found, strict=True):
            pool = train if stream.annotation == "strong" and stream.count <= PAPER.pixel_labelled else rest
            assert part == sorted(pool)[: len(part)], row.id
            rest = sorted(set(rest) - set(part))


def test_counts_on_the_subset(project_root):
    """664 of 1,464 and 1,934 of 10,582: the numbers by hand."""
    train_aug = ids(1934)
    train = train_aug[::2][:664]
    expected = {
        "em_adapt_weak": [1934],
        "em_fixed_semi_200": [91, 1843],
        "em_fixed_semi_500": [227, 1707],
        "em_fixed_semi_750": [340, 1594],
        "em_fixed_semi_1000": [454, 1480],
        "em_fixed_semi_1464_5000": [664, 696],
        "em_fixed_semi_1464_9118": [664, 1270],
        "strong_1464": [664],
        "strong_10582": [1934],
    }
    rows = {row.id: row for row in load_sheet(project_root / "config").experiments}
    for name, lengths in expected.items():
        found = images_of_streams(rows[name], train, train_aug, counts="paper", paper=PAPER)
        assert [len(part) for part in found] == lengths, name


@st.composite
def lists(draw):
    count = draw(st.integers(2, 60))
    train_aug = ids(count)
    train = draw(st.lists(st.sampled_from(train_aug), min_size=1, max_size=count - 1, unique=True))
    return train, train_aug


@given(lists(), st.integers(1, PAPER.pixel_labelled), st.integers(1, PAPER.pixel_labelled), st.randoms())
@settings(max_examples=80, deadline=None)
def test_laws_of_the_papers_counts(pair, fewer, more, random):
    train, train_aug = pair
    fewer, more = sorted((fewer, more))
    assume(fewer < more)
    small, rest = strong_and_weak(train, train_aug, fewer, PAPER.training - fewer)
    large, _ = strong_and_weak(train, train_aug, more, 0)
    assert large[: len(small)] == small  # strong sets are nested
    assert set(large) <= set(train)
    assert len(small) == max(1, round(fewer / PAPER.pixel_labelled * len(train)))
    assert sorted(small + rest) == train_aug  # all weak: nothing is lost, nothing is twice
    shuffled = random.sample(train, len(train)), random.sample(train_aug, len(train_aug))
    assert strong_and_weak(*shuffled, fewer, PAPER.training - fewer) == [small, rest]
    half, part = strong_and_weak(train, train_aug, fewer, (PAPER.training - fewer) // 2)
    assert half == small and part == rest[: len(part)]
    assert abs(len(part) - len(rest) / 2) <= 1


STREAMS = st.lists(
    st.tuples(st.sampled_from(["strong", "image", "box"]), st.one_of(st.integers(1, 5000), st.just("all"))),
    min_size=1,
    max_size=4,
).map(lambda rows: sorted(rows, key=lambda row: row[0] != "strong"))


@given(lists(), STREAMS, st.sampled_from(["paper", "images"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_streams_are_disjoint_sorted_and_of_the_training_images(pair, streams, counts, small):
    train, train_aug = pair
    if small:  # counts that the lists can give as they stand
        streams = [(kind, count if count == "all" else 1 + count % 12) for kind, count in streams]
    try:
        found = split(train, train_aug, *streams, counts=counts)
    except WeaksegError as error:
        assert "experiment mixed: " in str(error)
        return
    everything = [image_id for part in found for image_id in part]
    assert len(found) == len(streams) and len(set(everything)) == len(everything)
    assert set(everything) <= set(train_aug)
    assert all(part == sorted(part) and part for part in found)
    if any(count == "all" for _, count in streams):
        assert set(everything) == set(train_aug)
    if counts == "images":
        assert all(count in ("all", len(part)) for (_, count), part in zip(streams, found, strict=True))


def test_several_streams_share_the_papers_lists_exactly():
    train, train_aug = full_lists()
    first, second, third, fourth = split(
        train, train_aug, ("strong", 200), ("strong", 300), ("image", 4000), ("box", 6082)
    )
    assert first == sorted(train)[:200] and second == sorted(train)[200:500]
    rest = sorted(set(train_aug) - {*first, *second})
    assert third == rest[:4000] and fourth == rest[4000:]


def test_several_streams_share_other_lists_in_proportion():
    train_aug = ids(100)
    strong, tags, boxes = split(train_aug[:20], train_aug, ("strong", 732), ("image", 4925), ("box", 4925))
    assert strong == train_aug[:10]  # half of train
    assert tags == train_aug[10:55] and boxes == train_aug[55:]  # a half and the other of the rest


def test_counts_as_they_stand():
    train_aug = ids(12)
    train = train_aug[1::2]
    strong, tags, rest = split(train, train_aug, ("strong", 3), ("image", 4), ("box", "all"), counts="images")
    assert strong == sorted(train)[:3]
    assert tags == [i for i in train_aug if i not in strong][:4]
    assert rest == [i for i in train_aug if i not in {*strong, *tags}]
    (beyond,) = split(train, train_aug, ("strong", 8), counts="images")
    assert beyond == sorted([*train, train_aug[0], train_aug[2]])
    with pytest.raises(WeaksegError, match="mixed: 9 images with annotation image are asked for, but 7 training"):
        split(train, train_aug, ("strong", 5), ("image", 9), counts="images")


@pytest.mark.parametrize("counts", ["paper", "images"])
def test_all_are_all_that_is_left(counts):
    train_aug = ids(30)
    assert split(train_aug[:9], train_aug, ("image", "all"), counts=counts) == [train_aug]
    assert split(train_aug[:9], train_aug, ("strong", "all"), counts=counts) == [train_aug]
    strong, weak = split(train_aug[:9], train_aug, ("strong", 5), ("image", "all"), counts=counts)
    assert strong + weak == train_aug
    with pytest.raises(WeaksegError, match="no image is left for the stream of 5 with annotation box"):
        split(train_aug[:9], train_aug, ("image", "all"), ("box", 5), counts=counts)


@pytest.mark.parametrize(("strong", "weak"), [(1465, 0), (5000, 100), (1464, 9119), (0, 10583), (10583, 0)])
def test_counts_beyond_the_papers_lists_are_refused(strong, weak):
    train, train_aug = full_lists()
    with pytest.raises(WeaksegError, match=r"experiment any: \d+ images of the paper's \d+ .*`counts: images`"):
        strong_and_weak(train, train_aug, strong, weak)


def test_pixel_labelled_images_outside_of_training_are_refused():
    with pytest.raises(WeaksegError, match="1 images with pixel labels are no training images, stranger"):
        strong_and_weak([*ids(3), "stranger"], ids(9), 200, 0)


def test_no_image_left_is_refused():
    with pytest.raises(WeaksegError, match="no image is left for the stream of 9118 with annotation image"):
        strong_and_weak(ids(5), ids(5), 1464, 9118)
    with pytest.raises(WeaksegError, match="no image is left for the stream of 200 with annotation strong"):
        strong_and_weak([], ids(5), 200, 9118)


def test_streams_of_another_data_set_take_their_images_from_it_alone():
    coco = {"dataset": "coco"}
    rows = [
        {"annotation": "strong", "images": 10582, "method": "pixel_labels"},
        {"annotation": "strong", "images": 5000, "method": "pixel_labels", **coco},
        {"annotation": "image", "images": 118287, "method": "em_fixed", **coco},
    ]
    row = Experiment(id="x", table="table5", line=3, title="x", fov="large", streams=rows)
    study = make_study(Path("nowhere"), other_datasets={"coco": {"name": "c", "source": "path", "path": "x"}})
    own = {"pixel_labelled": ids(4), "training": ids(12), "second_stage": []}

    def taken(count, **images_for):
        other = {"pixel_labelled": [], "training": ids(count), "second_stage": []}
        study.other_datasets["coco"].images_for.update({int(key[1:]): value for key, value in images_for.items()})
        return images_of_experiment(study, row, PAPER, {None: own, "coco": other})

    full = taken(123287)
    assert [len(found) for found in full] == [12, 5000, 118287] and set(full[1]).isdisjoint(full[2])
    assert full[1] == ids(5000)
    assert [len(found) for found in taken(544)] == [12, 22, 522]
    assert [len(found) for found in taken(544, n5000=136)] == [12, 136, 408]
    assert [len(found) for found in taken(544, n5000=136, n118287=300)] == [12, 136, 300]
    with pytest.raises(WeaksegError, match="500 images with annotation strong are asked for, but 400"):
        taken(400, n5000=500)


def test_the_second_stage_draws_from_val_too_and_takes_its_pixel_labels_where_it_says_so(project_root):
    rows = {row.id: row for row in load_sheet(project_root / "config").experiments}
    study = make_study(Path("nowhere"))
    train, train_aug = full_lists()
    lists = {None: {"pixel_labelled": train, "training": train_aug, "second_stage": ids(1449, "v")}}
    counts = {
        "em_adapt_weak_test": [12031],
        "em_fixed_semi_1464_10567_test": [1464, 10567],
        "em_fixed_semi_2913_9118_test": [2913, 9118],
        "strong_12031_test": [12031],
    }
    for name, expected in counts.items():
        found = images_of_experiment(study, rows[name], PAPER, lists)
        assert [len(one) for one in found] == expected
        of_val = sum(i.startswith("v") for i in found[0])
        assert of_val == (1449 if expected[0] in (2913, 12031) else 0)


@given(st.integers(2, 60), st.floats(0.05, 0.6))
@settings(max_examples=60, deadline=None)
def test_images_that_stand_in_for_test_are_spread_over_val_and_not_held_out(count, share):
    val = ids(count, "v")
    tuned = held_out_ids(val, PAPER)
    wanted = max(1, round(share * count))
    assume(wanted <= count - len(tuned))
    chosen = stand_in_test_ids(val[::-1], tuned, share)
    assert len(set(chosen)) == len(chosen) == wanted and chosen == sorted(chosen) and set(chosen).isdisjoint(tuned)
    places = [val.index(i) for i in chosen]
    assert max(np.diff([-1, *places, count])) <= 2 * count / wanted + len(tuned) + 1


def test_more_images_than_are_not_held_out():
    with pytest.raises(WeaksegError, match="3 images are asked for, but 2 of val"):
        stand_in_test_ids(ids(4), ids(2), 0.75)
