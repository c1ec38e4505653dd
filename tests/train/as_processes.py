"""What each of several processes does that `torchrun` starts for test_distributed.py."""

import json
import sys
from pathlib import Path

import torch
from fabricate import make_study

from train.runs import ADAPT, SEMI
from weakseg.cli import main
from weakseg.config import Study
from weakseg.paths import StudyPaths
from weakseg.train.distributed import joined_processes
from weakseg.train.loop import train_run
from weakseg.train.setup import prepare_run


def study_of(voc: Path, **changes: object) -> Study:
    """A study of twenty or eight iterations without dropout; two processes cannot halve its batches of 6 + 5 images."""
    return make_study(
        voc,
        network={"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True, "dropout": 0.0},
        solver={"iterations": 20, "batch": 11, "checkpoint_iterations": 4, "lr": 0.01, "schedule": "poly"},
        solver_for={"weak": {"iterations": 8}},
        **changes,
    )


def parts(voc: Path, results: Path, config_dir: Path) -> None:
    """A run by the command line, one that is killed and goes on, and the random numbers of dropout."""
    torch.set_num_threads(1)
    options = ["--config-dir", str(config_dir), "--results", str(results), "--log", str(results / "train.log")]
    assert main(["train", "--study", "fabricated", "--experiment", "em_fixed_semi_1464_9118", *options]) == 0
    study, paths = study_of(voc), StudyPaths("fabricated", results)
    train_run(study, ADAPT, 0, paths, stop_after=5)
    train_run(study, ADAPT, 0, paths)
    train_run(study, ADAPT, 1, paths, stop_after=3)
    with joined_processes() as processes:
        setup = prepare_run(study, SEMI, 0, paths, processes=processes)
        batch = setup.batches[3]
        facts = {"dropout": torch.rand(3).tolist(), "images": [len(part.inside) for part in batch.parts]}
        Path(results / f"rank{processes.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    with joined_processes():  # a process can join once
        parts(*(Path(argument) for argument in sys.argv[1:]))
