"""The first iterations of a study's trainings on real photos: first loss, how the loss falls, seconds.

`python bench/first_iterations.py` trains Strong, EM-Fixed and EM-Adapt of the study `voc` (VGG-16, the paper's rates)
on the photos of `voc-subset`, at crops that a CPU can bear. `--fc original` gives the weights file random fc6
and fc7 of the scale that VGG-16's own have, which are decimated as in the paper; `--fc fresh` leaves them out.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from weakseg.annotations.annotate import annotate
from weakseg.config import InitialWeights, Study, load_sheet, load_study, load_weights
from weakseg.data.prepare import prepare_data
from weakseg.model.weights import FC_SHAPES
from weakseg.paths import StudyPaths
from weakseg.train.loop import train_run

FC_STD = {"classifier.0.weight": 0.005, "classifier.3.weight": 0.01}
"""Standard deviations near those of the published fc6 and fc7."""


def main() -> None:
    """Train and print a row a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="voc")
    parser.add_argument("--data-root", required=True, help="holds data/voc2012-subset and weights/")
    parser.add_argument("--experiments", nargs="+", default=["strong_10582", "em_fixed_weak", "em_adapt_weak"])
    parser.add_argument("--fov", choices=["small", "large"], help="in place of that of the experiment")
    parser.add_argument("--fc", choices=["fresh", "original"], default="fresh")
    parser.add_argument("--fresh-start", choices=["measured", "he"], help="in place of that of the study")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--crop", type=int, default=161)
    parser.add_argument("--image-scale", type=float, default=1.0, help="of the photos, before they are cropped")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="kept folder; else a temporary one")
    parser.add_argument("--set", default="{}", help="JSON of solver fields that differ")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        _compare(arguments, arguments.results or Path(temporary))


def _compare(arguments: argparse.Namespace, results: Path) -> None:
    study = _study(arguments, results)
    paths = StudyPaths(study.name, results)
    rows = {row.id: row for row in load_sheet().experiments}
    chosen = [rows[name] for name in arguments.experiments]
    if not paths.manifest.is_file():
        prepare_data(study, paths, arguments.data_root)
    if not paths.crop_labels.is_file():
        annotate(study, chosen, paths, threads=torch.get_num_threads())
    for row in chosen:
        row = row.model_copy(update={"fov": arguments.fov or row.fov})
        started = time.perf_counter()
        train_run(study, row, arguments.seed, paths, arguments.data_root)
        log = pd.read_csv(paths.run(row.id, arguments.seed).train_log)
        window = max(1, len(log) // 6)
        parts = log.groupby(log.index // window)[["loss", "background_share"]].mean()
        means = {name: " ".join(f"{value:.2f}" for value in values) for name, values in parts.items()}
        start = json.loads(paths.run(row.id, arguments.seed).config.read_text())["start"]
        print(
            f"{row.id} {row.fov} fc {arguments.fc}, {start['factors']}: "
            f"first loss {log['loss'][0]:.2f}, means of {window}: loss {means['loss']}, share that the E-step calls "
            f"background {means['background_share']}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )


def _study(arguments: argparse.Namespace, results: Path) -> Study:
    study, photos = load_study(arguments.study), load_study("voc-subset")
    path = Path(arguments.data_root) / "weights" / "vgg16_features.safetensors"
    if arguments.fc == "original":
        path = _with_fc(path, results / "with_fc.safetensors")
    preprocessing = load_weights()["vgg16-features"].preprocessing
    network = study.network.model_dump() | {
        "weights": InitialWeights(path=str(path), preprocessing=preprocessing).model_dump(),
        "crop_px": arguments.crop,
        "image_scale": arguments.image_scale,
    }
    if arguments.fresh_start:
        network["fresh_start"] = arguments.fresh_start
    shortened = {"iterations": arguments.iterations, "batch": arguments.batch, "batch_for_fov": {}}
    solver = study.solver.model_dump() | shortened
    fields = {
        "name": f"first-{arguments.crop}",
        "dataset": photos.dataset.model_dump(),
        "network": network,
        "solver": solver | json.loads(arguments.set),
    }
    return Study.model_validate(study.model_dump() | fields)


def _with_fc(trunk: Path, path: Path) -> Path:
    """A file with the convolutions of `trunk`, and fc6 and fc7 from a Gaussian."""
    torch.manual_seed(1)
    state = load_file(trunk)
    for key, shape in FC_SHAPES.items():
        state[key] = torch.zeros(shape)
        if key in FC_STD:
            state[key].normal_(0, FC_STD[key])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.half() for key, value in state.items()}, path)
    return path


if __name__ == "__main__":
    main()
