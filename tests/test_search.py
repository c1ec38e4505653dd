"""Grid searches in stages: what is tried, what wins, and what a kill costs."""

import json
from pathlib import Path
from typing import Any

import pytest

from weakseg.config import CrfDistances, CrfGrid, CrfSearch, load_study
from weakseg.crf import CRFParams
from weakseg.search import MOST_STEPS, best_of, finer_points, grid_points, in_blocks, staged_search


class Search:
    """A search over whole numbers in blocks of two; what is evaluated is noted, and the n-th block may kill it."""

    def __init__(self, kept: Path, value: Any = float, dies_in: int | None = None) -> None:
        self.kept, self.value, self.dies_in = kept, value, dies_in
        self.blocks: list[tuple[str, list[int]]] = []

    def evaluate(self, points, stage):
        for block in in_blocks(points, 2):
            self.blocks.append((stage, list(block)))
            if len(self.blocks) == self.dies_in:
                raise KeyboardInterrupt
            yield {point: {"gain": self.value(point), "other": 0.0} for point in block}

    def run(self, coarse=(1, 2, 3, 4, 5), finer=lambda best, level: [best, best + 10 * level], rounds=1):
        return staged_search(coarse, finer, self.evaluate, rounds=rounds, criterion="gain", name=str, kept=self.kept)


def test_each_point_is_tried_once_in_order_of_the_stages(tmp_path):
    search = Search(tmp_path / "kept.json")
    # 3 stands in the first grid twice; the finer grids hold the best so far and what was tried before it.
    tried = search.run((1, 3, 2, 3), lambda best, level: [best, 1, best + level, best + level], rounds=2)
    assert search.blocks == [("coarse", [1, 3]), ("coarse", [2]), ("fine", [4]), ("fine", [6])]
    assert [(one.point, one.stage) for one in tried] == [
        (1, "coarse"), (3, "coarse"), (2, "coarse"), (4, "fine"), (6, "fine"),
    ]  # fmt: skip
    assert all(one.figures == {"gain": one.point, "other": 0} for one in tried)
    assert best_of(tried, "gain").point == 6


def test_of_equal_points_the_first_tried_wins(tmp_path):
    asked = []

    def finer(best, level):
        asked.append((best, level))
        return [best, 9]

    tried = Search(tmp_path / "kept.json", lambda point: 1.0).run((4, 2, 7), finer, rounds=2)
    assert asked == [(4, 1), (4, 2)] and best_of(tried, "gain").point == 4
    assert best_of(tried[::-1], "gain").point == 9


@pytest.mark.parametrize(("dies_in", "lost"), [(1, [1, 2]), (2, [3, 4]), (3, [5]), (4, [15])])
def test_a_kill_costs_the_block_in_progress(tmp_path, dies_in, lost):
    whole = Search(tmp_path / "whole.json").run()
    killed = Search(tmp_path / "kept.json", dies_in=dies_in)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = Search(tmp_path / "kept.json")
    assert again.run() == whole
    before = [point for _, block in killed.blocks[:-1] for point in block]
    after = [point for _, block in again.blocks for point in block]
    assert after[: len(lost)] == lost and sorted(before + after) == [1, 2, 3, 4, 5, 15]


def test_what_is_kept_goes_by_name_and_file(tmp_path):
    Search(tmp_path / "a.json").run()
    assert json.loads((tmp_path / "a.json").read_text())["5"] == {"gain": 5, "other": 0}
    # Nothing is evaluated where all is known, and everything where the caller names another file.
    same, other = Search(tmp_path / "a.json", lambda point: -point), Search(tmp_path / "b.json", lambda point: -point)
    assert [one.figures["gain"] for one in same.run()] == [1, 2, 3, 4, 5, 15] and same.blocks == []
    assert [one.figures["gain"] for one in other.run()] == [-1, -2, -3, -4, -5, -11]


def test_grid_has_all_combinations_w_slowest():
    search = CrfSearch(coarse=CrfGrid(w=(5, 10), sigma_xy=(50, 60), sigma_rgb=(3, 4)), w_pos=2, sigma_pos=1)
    points = grid_points(search.coarse, search)
    assert [(p.w, p.sigma_xy, p.sigma_rgb) for p in points] == [
        (5, 50, 3), (5, 50, 4), (5, 60, 3), (5, 60, 4), (10, 50, 3), (10, 50, 4), (10, 60, 3), (10, 60, 4),
    ]  # fmt: skip
    assert {(p.w_pos, p.sigma_pos) for p in points} == {(2, 1)}


def test_finer_grid_halves_the_distances_and_stays_positive():
    search = CrfSearch(coarse=CrfGrid(w=(5, 10), sigma_xy=(50, 60, 70), sigma_rgb=(3,)))
    points = finer_points(search.coarse, CRFParams(5, 60, 3), search, 1)
    assert {p.w for p in points} == {2.5, 5, 7.5} and {p.sigma_xy for p in points} == {55, 60, 65}
    assert {p.sigma_rgb for p in points} == {3} and len(points) == 9
    assert {p.w for p in finer_points(search.coarse, CRFParams(5, 60, 3), search, 2)} == {3.75, 5, 6.25}
    low = finer_points(search.coarse, CRFParams(2.5, 60, 3), search, 1)
    assert {p.w for p in low} == {2.5, 5}


def test_blocks_hold_every_point_once():
    assert [list(block) for block in in_blocks(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(in_blocks([], 3)) == []


def surface(best: tuple[float, float, float]):
    """An IOU that falls from `best` in every direction, least in sigma_xy, as that of a CRF does."""
    w, xy, rgb = best
    return lambda p: -((p.w - w) ** 2) / 4 - ((p.sigma_xy - xy) / 20) ** 2 - (p.sigma_rgb - rgb) ** 2


def search_for(search: CrfSearch, best: tuple[float, float, float], kept: Path):
    value, asked = surface(best), []

    def evaluate(points, stage):
        asked.extend(points)
        yield {point: {"iou": value(point)} for point in points}

    tried = staged_search(
        grid_points(search.coarse, search),
        lambda found, level: finer_points(search.coarse, found, search, level),
        evaluate,
        rounds=search.rounds,
        walks=bool(search.finer),
        criterion="iou",
        name=repr,
        kept=kept,
    )
    assert len(asked) == len(set(asked)) == len(tried)
    found = best_of(tried, "iou").point
    return (found.w, found.sigma_xy, found.sigma_rgb), len(tried)


RELEASED = [(4, 121, 5), (5, 50, 3), (3, 95, 3), (5, 67, 3), (4, 83, 5), (4, 59, 5), (35, 61, 10)]
"""Best values that the release and ports of it name."""


@pytest.mark.parametrize("best", RELEASED)
def test_the_search_of_voc_reaches_the_released_values(best, tmp_path):
    found, tried = search_for(load_study("voc").crf, best, tmp_path / "kept.json")
    assert found == best and tried < 96 + 200


def test_grids_that_stay_cannot_reach_the_values_of_large_fov(tmp_path):
    found, tried = search_for(CrfSearch(), (4, 121, 5), tmp_path / "kept.json")
    assert found != (4, 121, 5) and found[1] == 105 and tried < 96 + 27


def test_a_grid_that_gets_better_without_end_stops(tmp_path):
    blocks = []

    def evaluate(points, stage):
        blocks.append(points)
        yield {point: {"gain": point} for point in points}

    tried = staged_search(
        [0], lambda best, level: [best - 1, best, best + 1], evaluate,
        rounds=2, walks=True, criterion="gain", name=str, kept=tmp_path / "kept.json",
    )  # fmt: skip
    assert best_of(tried, "gain").point == 2 * MOST_STEPS and len(blocks) == 1 + 2 * MOST_STEPS


def test_finer_distances_are_those_given_and_0_leaves_a_parameter():
    distances = CrfDistances(w=1, sigma_xy=3)
    search = CrfSearch(refine_rounds=0, finer=(distances, CrfDistances(sigma_rgb=0.5)))
    points = finer_points(search.coarse, CRFParams(1, 60, 3), search, 1)
    assert {(p.w, p.sigma_xy, p.sigma_rgb) for p in points} == {(w, xy, 3) for w in (1, 2) for xy in (57, 60, 63)}
    points = finer_points(search.coarse, CRFParams(1, 60, 3), search, 2)
    assert [(p.w, p.sigma_xy, p.sigma_rgb) for p in points] == [(1, 60, 2.5), (1, 60, 3), (1, 60, 3.5)]
    assert search.rounds == 2
