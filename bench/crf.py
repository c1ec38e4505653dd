"""The fast CRF engine against pydensecrf: agreement first, then time, in one run on one thread.

    python bench/crf.py --run RUN_DIR --images VOC_FOLDER [--photos 30]
    python bench/crf.py                     # without a run: a noisy image only

`--run` is a scored run (it holds scores.safetensors), `--images` the folder of its photos in the VOC layout. Prints
medians over photos and ratios pair by pair.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from weakseg.crf import CRFParams, label_map, mean_field, mean_field_grid, unary_from_scores
from weakseg.data.voc import VocFolder
from weakseg.evaluate.scores import ScoreStore

PARAMS = CRFParams(5, 60, 6)
GRID = [CRFParams(w, xy, rgb) for w in (3, 5) for xy in (40, 60) for rgb in (3, 6)]


def seconds(function: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Time and result of one call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def noisy() -> tuple[np.ndarray, np.ndarray]:
    """A 500x375 image of noise with random scores of 21 labels: the largest lattice and no label to leave out."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
    return unary_from_scores(rng.normal(size=(21, 375, 500)).astype(np.float32)), image


def photos(run: Path, folder: Path, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unaries and photos, evenly spread over the run's images."""
    store, images = ScoreStore(run / "scores.safetensors"), VocFolder(folder)
    for image_id in store.ids[:: max(1, len(store.ids) // count)][:count]:
        yield unary_from_scores(store.full(image_id)), images.image(image_id)


def compare(name: str, problems: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """Agreement of the labels, median times, and the ratio image by image."""
    agreement, fast, reference = [], [], []
    for unary, image in problems:
        ours, labels = seconds(lambda u=unary, i=image: label_map(u, i, PARAMS))  # type: ignore[misc]
        theirs, q = seconds(lambda u=unary, i=image: mean_field(u, i, PARAMS, backend="pydensecrf"))  # type: ignore[misc]
        agreement.append(float((labels == q.argmax(0)).mean()))
        fast.append(ours)
        reference.append(theirs)
    ratio = np.array(reference) / np.array(fast)
    print(
        f"{name}: {len(fast)} image(s), same label on {100 * np.mean(agreement):.3f} % of the pixels (worst image "
        f"{100 * min(agreement):.3f} %)\n  fast {np.median(fast):.3f} s, pydensecrf {np.median(reference):.3f} s, "
        f"ratio {np.median(ratio):.2f} (from {ratio.min():.2f} to {ratio.max():.2f})"
    )


def compare_grid(problems: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """Time of a parameter search on a few photos against pydensecrf, one set after the other."""
    ratios = []
    for unary, image in problems:
        ours, _ = seconds(lambda u=unary, i=image: np.stack(mean_field_grid(u, i, GRID)))  # type: ignore[misc]
        start = time.perf_counter()
        for params in GRID:
            mean_field(unary, image, params, backend="pydensecrf")
        ratios.append((time.perf_counter() - start) / ours)
    print(f"grid of {len(GRID)} sets: {len(ratios)} photo(s), ratio {np.median(ratios):.2f}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--photos", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    label_map(*noisy(), PARAMS)  # compiles, or loads what was compiled before
    if args.run and args.images:
        compare("photos", photos(args.run, args.images, args.photos))
        compare_grid(photos(args.run, args.images, min(5, args.photos)))
    compare("noise", iter([noisy()]))


if __name__ == "__main__":
    main()
