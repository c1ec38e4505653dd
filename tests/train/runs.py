"""Runs of seconds on fabricate's data: experiments, frozen networks, and what they read."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fabricate import make_experiment, prepare
from safetensors.torch import load_file, save_file

from weakseg.annotations.bbox_rect_maps import write_bbox_rect
from weakseg.annotations.bbox_seg_maps import BboxSegParams, write_bbox_seg
from weakseg.config import Experiment, Study
from weakseg.crf import CRFParams
from weakseg.model import build_model
from weakseg.paths import RunPaths, StudyPaths
from weakseg.train.features import cache_features, find_projection
from weakseg.train.loop import train_run
from weakseg.train.setup import prepare_run

STRONG = make_experiment("all", strong=10582)
SEMI = make_experiment("semi", strong=1464, weak=9118, method="em_fixed")
ADAPT = make_experiment("adapt", weak=10582, method="em_adapt", fov="small")
RECT = make_experiment("rect", strong=1464, weak=9118, method="bbox_rect", table="table3")
SEG = make_experiment("seg", weak=10582, method="bbox_seg", table="table3")
BOX_EM = make_experiment("box_em", weak=10582, method="bbox_em_fixed", table="table3")
WEAK = (SEMI, ADAPT, RECT, SEG, BOX_EM)

WEAK_IDS = [f"2007_{n:06d}" for n in range(4, 8)]
"""Training images that no experiment above reads pixel labels of, if it takes four strong ones."""


def network(folder: Path, *, seed=0, frozen=True, **changes) -> dict:
    """A network whose trunk has random weights from a file in `folder`."""
    torch.manual_seed(seed)
    path = folder / f"trunk{seed}.safetensors"
    save_file(build_model("tiny-largefov").trunk.state_dict(), path)
    base = {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True}
    return {**base, "weights": {"path": str(path)}, "freeze_trunk": frozen, **changes}


def ready(study: Study, results: Path, experiments: Sequence[Experiment], *, alpha=0.4) -> StudyPaths:
    """All files that trainings of `experiments` read."""
    paths = prepare(study, results, experiments)
    if any(row.label_maps for row in experiments):
        write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))
        params = BboxSegParams(alpha, CRFParams(5, 10, 5), iterations=1)
        write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params)
    if study.network.principal_axes is not None:
        find_projection(study, paths)
    if study.network.freeze_trunk:
        cache_features(study, paths, "training")
    return paths


def trained(study: Study, experiment: Experiment, paths: StudyPaths, seed=0, **options) -> dict[str, torch.Tensor]:
    """The parameters that a training from its start ends with."""
    shutil.rmtree(paths.run(experiment.id, seed).root, ignore_errors=True)
    train_run(study, experiment, seed, paths, **options)
    return load_file(paths.run(experiment.id, seed).model)


def run_hash(study: Study, experiment: Experiment, paths: StudyPaths, seed=0) -> str:
    """The hash of all that decides a run."""
    return prepare_run(study, experiment, seed, paths).decided_by["hash"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two networks are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def decided_log(run: RunPaths) -> pd.DataFrame:
    """The columns of a log that times have no part in."""
    log = pd.read_csv(run.train_log)
    return log[["iteration", "loss", "loss_strong", "loss_weak", "lr", "background_share"]]


def noise(seed=0, size=(40, 52)) -> np.ndarray:
    """A label map of noise."""
    return np.random.default_rng(seed).integers(0, 4, size).astype(np.uint8)
