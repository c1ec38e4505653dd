"""The CRF engine against pydensecrf: agreement first, then time and memory, in one run.

    python bench/crf.py --run RUN_DIR --images VOC_FOLDER [--photos 50] [--grid-photos 5] [--parts photos grid ...]
    python bench/crf.py                     # without a run: what needs no photos

`--run` is a scored run (it holds scores.safetensors), `--images` the folder of its photos in the VOC layout. Figures
over photos are medians; ratios are taken pair by pair. With `--csv FOLDER` the figures of each part are written there,
and with `--plots FOLDER` drawn as well.
"""

import argparse
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image

from weakseg.crf import CRFParams, label_map, mean_field, mean_field_grid, unary_from_scores
from weakseg.crf.engine import lattice, marginals, updates
from weakseg.data.voc import VocFolder
from weakseg.evaluate.score_store import ScoreStore
from weakseg.labels import VOC
from weakseg.metrics import confusion_matrix, mean_iou

Problem = tuple[np.ndarray, np.ndarray]

PARAMS = CRFParams(5, 60, 6)
GRID = [CRFParams(w, xy, rgb) for w in (5, 10) for xy in range(50, 101, 10) for rgb in range(3, 11)]
"""The 96 sets of DeepLab's coarse search (Chen et al. 2015, section 4)."""
WIDTHS = (100, 200, 500, 1000, 2000)
LABELS = (2, 5, 10, 21, 40, 80)
LONG_S = 12.0
"""What takes so long is not timed again."""
PARTS = ("photos", "noise", "sizes", "labels", "grid", "stages", "memory", "processes")


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Time and result of one call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def ours(problem: Problem) -> np.ndarray:
    """Labels of the engine."""
    return label_map(*problem, PARAMS)


def theirs(problem: Problem) -> np.ndarray:
    """Labels of pydensecrf."""
    return mean_field(*problem, PARAMS, backend="pydensecrf").argmax(0)


def noisy(labels: int = 21) -> Problem:
    """A 500x375 image of noise with random scores: the largest lattice and no label to leave out."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
    return unary_from_scores(rng.normal(size=(labels, 375, 500)).astype(np.float32)), image


def smooth(channels: int, cell: int, height: int, width: int, seed: int) -> np.ndarray:
    """Normal noise, smooth over cells of so many pixels, (channels, height, width)."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, channels, height // cell + 2, width // cell + 2)))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].numpy()


def made_up(labels: int, height: int = 375, width: int = 500) -> Problem:
    """Smooth colours with a little noise, and scores as smooth as a network's, of which four compete."""
    colours = 128 + 50 * smooth(3, 40, height, width, 0) + np.random.default_rng(0).normal(0, 2, (3, height, width))
    scores = 5 * smooth(labels, 24, height, width, labels)
    scores[4:] -= 15
    image = np.ascontiguousarray(colours.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    return unary_from_scores(scores), image


def resized(problem: Problem, width: int) -> Problem:
    """A problem at another width."""
    unary, image = problem
    height = round(width * image.shape[0] / image.shape[1])
    larger = torch.nn.functional.interpolate(torch.from_numpy(unary)[None], (height, width), mode="bilinear")
    return larger[0].numpy(), np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


class Photos:
    """Photos of a scored run, evenly spread over its images."""

    def __init__(self, run: Path, folder: Path) -> None:
        """Open a run's scores and the folder of its photos."""
        self.store, self.folder = ScoreStore(run / "scores.safetensors"), VocFolder(folder)

    def ids(self, count: int) -> list[str]:
        """`count` image ids."""
        return self.store.ids[:: max(1, len(self.store.ids) // count)][:count]

    def problem(self, image_id: str) -> Problem:
        """Unary and photo."""
        return unary_from_scores(self.store.full(image_id)), self.folder.image(image_id)

    def some(self, count: int) -> Iterator[Problem]:
        """`count` problems."""
        return (self.problem(image_id) for image_id in self.ids(count))


def compare(problem: Problem) -> dict[str, float]:
    """Share of equal labels, and medians of three times of each, taken in turn; of one where three take too long."""
    times: dict[str, list[float]] = {"fast_s": [], "pydensecrf_s": []}
    labels = {}
    for _ in range(3):
        for name, function in (("fast_s", ours), ("pydensecrf_s", theirs)):
            if sum(times[name]) < LONG_S:
                taken, labels[name] = seconds(partial(function, problem))
                times[name].append(taken)
    fast_s, reference_s = (float(np.median(taken)) for taken in times.values())
    same = float((labels["fast_s"] == labels["pydensecrf_s"]).mean())
    return {"same": same, "fast_s": fast_s, "pydensecrf_s": reference_s, "ratio": reference_s / fast_s}


def of_photos(photos: Photos, count: int) -> pd.DataFrame:
    """Photo by photo, and mean IOU of both."""
    rows, confusion = [], {"fast": 0, "pydensecrf": 0}
    for image_id in photos.ids(count):
        problem, truth = photos.problem(image_id), photos.folder.pixel_labels(image_id)
        rows.append({"image": image_id, **compare(problem)})
        confusion["fast"] += confusion_matrix(truth, ours(problem).astype(np.uint8), len(VOC))
        confusion["pydensecrf"] += confusion_matrix(truth, theirs(problem).astype(np.uint8), len(VOC))
    table = pd.DataFrame(rows)
    print(
        f"{len(table)} photos: same label on {100 * table.same.mean():.4f} % of the pixels, worst photo "
        f"{100 * table.same.min():.3f} %; mean IOU {mean_iou(confusion['fast']):.3f}, pydensecrf's "  # type: ignore[arg-type]
        f"{mean_iou(confusion['pydensecrf']):.3f}"  # type: ignore[arg-type]
    )
    print(
        f"  {1e3 * table.fast_s.median():.0f} ms, pydensecrf {1e3 * table.pydensecrf_s.median():.0f} ms, ratio "
        f"{table.ratio.median():.2f} ({table.ratio.min():.2f} to {table.ratio.max():.2f})"
    )
    return table


def of_noise() -> pd.DataFrame:
    """The noisy image."""
    return shown(pd.DataFrame([{"image": "noise", **compare(noisy())}]))


def of_sizes(base: Problem) -> pd.DataFrame:
    """One photo at many widths."""
    return shown(pd.DataFrame([{"width_px": width, **compare(resized(base, width))} for width in WIDTHS]))


def of_labels() -> pd.DataFrame:
    """Made-up scores of many labels."""
    return shown(pd.DataFrame([{"labels": labels, **compare(made_up(labels))} for labels in LABELS]))


def of_grid(photos: Photos, count: int) -> pd.DataFrame:
    """The search's 96 sets on a few photos, set after set for pydensecrf; and whether sets together are those alone."""
    rows = []
    for image_id in photos.ids(count):
        unary, image = photos.problem(image_id)
        fast_s, maps = seconds(partial(mean_field_grid, unary, image, GRID))
        reference_s, same = 0.0, []
        for params, labels in zip(GRID, maps, strict=True):
            taken, q = seconds(partial(mean_field, unary, image, params, backend="pydensecrf"))
            reference_s += taken
            same.append(float((labels == q.argmax(0)).mean()))
        alone = all(np.array_equal(maps[k], label_map(unary, image, GRID[k])) for k in range(0, len(GRID), 19))
        rows.append(
            {
                "image": image_id, "sets": len(GRID), "same": np.mean(same), "worst_set_same": min(same),
                "as_alone": alone, "fast_s": fast_s, "pydensecrf_s": reference_s, "ratio": reference_s / fast_s,
            }
        )  # fmt: skip
        print(f"  grid, {image_id}: ratio {rows[-1]['ratio']:.1f}", flush=True)
    table = shown(pd.DataFrame(rows))
    print(f"  median ratio {table.ratio.median():.2f}")
    return table


def of_stages(problems: list[Problem]) -> pd.DataFrame:
    """Median time of each stage; slice, softmax and splat are one pass over the pixels, tile by tile."""
    spent: dict[str, float] = defaultdict(float)

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            taken, result = seconds(lambda: function(*arguments))
            spent[name] += taken
            return result

        return call

    places = [
        (marginals, "survey", "unary: read"), (marginals, "advantages", "unary: columns"),
        (marginals, "to_labels", "labels"),
        (updates, "settle", "bounds"), (updates, "merge_columns", "merging"), (updates, "regroup", "merging"),
        (lattice, "_embed", "lattice: embed"), (lattice, "_link", "lattice: neighbours"),
        (lattice, "_splat", "lattice: mass"), (lattice, "_slice", "lattice: mass"),
    ]  # fmt: skip
    kept = [(module, name, getattr(module, name)) for module, name, _ in places]
    kernels = updates.kernels_of
    for module, name, stage in places:
        setattr(module, name, watched(stage, getattr(module, name)))
    parts = {"blur": "blur", "moves": "bounds", "update": "slice, softmax, splat"}
    updates.kernels_of = lambda lanes: kernels(lanes)._replace(  # type: ignore[assignment]
        **{part: watched(stage, getattr(kernels(lanes), part)) for part, stage in parts.items()}
    )
    rows = []
    for problem in problems:
        spent.clear()
        total, _ = seconds(partial(ours, problem))
        rows.append({**spent, "rest": total - sum(spent.values()), "total": total})
    updates.kernels_of = kernels
    for module, name, function in kept:
        setattr(module, name, function)
    table = (1e3 * pd.DataFrame(rows).fillna(0)).median().rename("ms").rename_axis("stage").reset_index()
    table["percent"] = 100 * table.ms / float(table.ms[table.stage == "total"].iloc[0])
    return shown(table)


def _peak_mb(name: str, problem: Problem) -> float:
    """Memory that a call adds at its peak, in a process of its own (Linux)."""
    function = {"fast": ours, "pydensecrf": theirs}[name]
    function(made_up(3, 40, 50))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = _status_mb("VmRSS")
    function(problem)
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def of_memory(problems: dict[str, Problem]) -> pd.DataFrame:
    """Peak memory beyond the input's, each call in a fresh process."""
    rows = []
    for image, problem in problems.items():
        row: dict[str, Any] = {"image": image, "input_mb": (problem[0].nbytes + problem[1].nbytes) / 2**20}
        for name in ("fast", "pydensecrf"):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                row[f"{name}_mb"] = pool.submit(_peak_mb, name, problem).result()
        rows.append({**row, "share": row["fast_mb"] / row["pydensecrf_mb"]})
    return shown(pd.DataFrame(rows))


def _many(name: str, problems: list[Problem]) -> float:
    """Time of some problems one after the other, without that of bringing them to the process."""
    function = {"fast": ours, "pydensecrf": theirs}[name]
    return seconds(lambda: [function(problem) for problem in problems])[0]


def of_processes(problems: list[Problem]) -> pd.DataFrame:
    """The same photos on one process and on two: the time of the one that takes longest."""
    rows = []
    for processes in (1, 2):
        row: dict[str, Any] = {"processes": processes}
        parts = [problems[k::processes] for k in range(processes)]
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            for name in ("fast", "pydensecrf"):
                list(pool.map(_many, [name] * processes, [part[:1] for part in parts]))  # starts the processes
                row[f"{name}_s"] = max(pool.map(_many, [name] * processes, parts))
        rows.append({**row, "ratio": row["pydensecrf_s"] / row["fast_s"]})
    return shown(pd.DataFrame(rows))


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Print a table and pass it on."""
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    return table


def draw(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Plots of what was measured, each as an SVG file."""
    folder.mkdir(parents=True, exist_ok=True)
    engines = (("fast_s", "fast", "o-"), ("pydensecrf_s", "pydensecrf", "s--"))
    for part, x, text in (("sizes", "width_px", "width of the photo, pixels"), ("labels", "labels", "labels")):
        if part in tables:
            figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
            for column, label, style in engines:
                axes.loglog(tables[part][x], tables[part][column], style, label=label)
            axes.set(xlabel=text, ylabel="seconds")
            axes.set_xticks(tables[part][x], [str(v) for v in tables[part][x]], minor=False)
            axes.minorticks_off()
            axes.legend()
            figure.savefig(folder / f"crf_{part}.svg")
            plt.close(figure)
    if "photos" in tables:
        figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        axes.hist(tables["photos"].ratio, bins=20)
        axes.axvline(tables["photos"].ratio.median(), color="black", linestyle="--")
        axes.set(xlabel="times faster than pydensecrf", ylabel="photos")
        figure.savefig(folder / "crf_photos.svg")
        plt.close(figure)
    if "stages" in tables:
        stages = tables["stages"][tables["stages"].stage != "total"].sort_values("ms")
        figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
        axes.barh(stages.stage, stages.ms)
        axes.set(xlabel="ms a photo, median")
        figure.savefig(folder / "crf_stages.svg")
        plt.close(figure)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--grid-photos", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plots", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    plt.switch_backend("svg")
    for labels in (2, 21):  # compiles kernels of both widths, or loads what was compiled before
        ours(made_up(labels))
    photos = Photos(args.run, args.images) if args.run and args.images else None
    base = photos.problem(photos.ids(1)[0]) if photos else made_up(21)
    parts: dict[str, Callable[[], pd.DataFrame]] = {
        "noise": of_noise,
        "sizes": lambda: of_sizes(base),
        "labels": of_labels,
        "stages": lambda: of_stages(list(photos.some(20)) if photos else [made_up(k) for k in (5, 10, 21)]),
        "memory": lambda: of_memory({"photo": base, "2,000 px": resized(base, 2000), "noise": noisy()}),
        "processes": lambda: of_processes(list(photos.some(24)) if photos else [made_up(21)] * 8),
    }
    if photos:
        parts["photos"] = lambda: of_photos(photos, args.photos)
        parts["grid"] = lambda: of_grid(photos, args.grid_photos)
    tables = {}
    for part in PARTS:
        if part in args.parts and part in parts:
            print(f"\n{part}")
            tables[part] = parts[part]()
            if args.csv:
                args.csv.mkdir(parents=True, exist_ok=True)
                tables[part].to_csv(args.csv / f"{part}.csv", index=False, float_format="%.5g")
    if args.plots:
        draw(tables, args.plots)


if __name__ == "__main__":
    main()
