"""Grid searches on the held-out images: a coarse grid, then finer ones around the best."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from weakseg.config import CrfDistances, CrfGrid, CrfSearch
from weakseg.crf import CRFParams
from weakseg.files import atomic_write_json

Point = TypeVar("Point")

MOST_STEPS = 20
"""How often a finer grid may move on: a search that gets better without end stops somewhere."""

Figures = dict[str, float]
"""What a point of a grid achieved, by name."""


@dataclass(frozen=True)
class Tried(Generic[Point]):
    """A point of a grid that was tried.

    Attributes:
        point: its parameters.
        stage: `coarse` or `fine`.
        figures: what it achieved.
    """

    point: Point
    stage: str
    figures: Figures


def staged_search(
    coarse: Sequence[Point],
    finer: Callable[[Point, int], Sequence[Point]],
    evaluate: Callable[[Sequence[Point], str], Iterable[dict[Point, Figures]]],
    *,
    rounds: int,
    walks: bool = False,
    criterion: str,
    name: Callable[[Point], str],
    kept: Path,
) -> list[Tried[Point]]:
    """Try a coarse grid, then finer ones around the best; each point once.

    Args:
        coarse: points of the first grid.
        finer: (best point so far, round from 1) -> points of the next grid.
        evaluate: (points, stage) -> figures of some of them at a time.
        rounds: finer grids.
        walks: whether a finer grid is laid again around its best until that is the middle, `MOST_STEPS` times at most.
        criterion: the figure that decides; of equal ones the first tried wins.
        name: a name for each point, for the kept file.
        kept: JSON file with the figures so far, so that finished parts survive a kill; the caller names it after all
            that decides them, and removes it when the result is written.

    Returns:
        Everything tried, in order.
    """
    known: dict[str, Figures] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    tried: list[Tried[Point]] = []

    def run(points: Sequence[Point], stage: str) -> None:
        seen = {one.point for one in tried}
        fresh = [point for point in dict.fromkeys(points) if point not in seen]
        pending = [point for point in fresh if name(point) not in known]
        for figures in evaluate(pending, stage) if pending else ():
            known.update({name(point): found for point, found in figures.items()})
            atomic_write_json(kept, known)
        tried.extend(Tried(point, stage, known[name(point)]) for point in fresh)

    run(coarse, "coarse")
    for level in range(1, rounds + 1):
        for _ in range(MOST_STEPS if walks else 1):
            middle = best_of(tried, criterion).point
            run(finer(middle, level), "fine")
            if best_of(tried, criterion).point == middle:
                break
    return tried


def best_of(tried: Sequence[Tried[Point]], criterion: str) -> Tried[Point]:
    """The best by a figure; the first of equal ones."""
    return max(tried, key=lambda one: one.figures[criterion])


def grid_points(grid: CrfGrid, search: CrfSearch) -> list[CRFParams]:
    """All combinations of a grid, w slowest, sigma_rgb fastest."""
    return [
        CRFParams(w, xy, rgb, search.w_pos, search.sigma_pos)
        for w, xy, rgb in itertools.product(grid.w, grid.sigma_xy, grid.sigma_rgb)
    ]


def finer_points(grid: CrfGrid, best: CRFParams, search: CrfSearch, level: int) -> list[CRFParams]:
    """A grid of three values a parameter around the best: its own and those at a distance.

    The distances of round 1, 2, ... are those that `search.finer` lists. Where it lists none, they are 1/2, 1/4, ... of
    the coarse grid's, and a parameter that the coarse grid does not vary stays. Values that are not positive are left
    out.
    """

    def halved(coarse: tuple[float, ...]) -> float:
        return min((b - a for a, b in itertools.pairwise(sorted(set(coarse)))), default=0.0) / 2**level

    def around(value: float, distance: float) -> list[float]:
        return [v for v in (value - distance, value, value + distance) if v > 0] if distance else [value]

    distances = (
        search.finer[level - 1]
        if search.finer
        else CrfDistances(w=halved(grid.w), sigma_xy=halved(grid.sigma_xy), sigma_rgb=halved(grid.sigma_rgb))
    )
    return [
        CRFParams(w, xy, rgb, search.w_pos, search.sigma_pos)
        for w, xy, rgb in itertools.product(
            around(best.w, distances.w),
            around(best.sigma_xy, distances.sigma_xy),
            around(best.sigma_rgb, distances.sigma_rgb),
        )
    ]


def in_blocks(points: Sequence[Point], size: int) -> Iterator[Sequence[Point]]:
    """Points in groups of `size`; a group is what a kill can cost."""
    for start in range(0, len(points), size):
        yield points[start : start + size]
