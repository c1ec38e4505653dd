"""The first lines of a training's log: on what it computes, how, from which weights and data."""

import torch

from weakseg.config import Experiment, Study
from weakseg.gpus import describe_device, short_name
from weakseg.train.setup import Setup


def announce(study: Study, experiment: Experiment, setup: Setup, workers: int = 0) -> str:
    """Print what the training `setup` runs with; returns the name of its device, for the progress bar.

    Args:
        study, experiment: what is trained.
        setup: all that was prepared for it.
        workers: processes that make mini-batches.
    """
    network = study.network
    trunk = "frozen trunk" if network.freeze_trunk else "trained whole"
    solver = setup.solver
    lines = {
        "device": describe_device(setup.device),
        "precision": precision_in_use(setup.device),
        "threads": f"{torch.get_num_threads()} of torch, {workers} processes that make mini-batches",
        "network": f"{network.trunk}, stride {network.output_stride}, {experiment.fov} field of view, {trunk}",
        "weights": describe_weights(study, setup.decided_by["weights_sha256"]),
        "data": f"{study.dataset.name}: {_counts(setup)}",
        "solver": f"{solver.iterations:,} iterations of {solver.batch} images at {network.crop_px} pixels",
    }
    for name, value in lines.items():
        print(f"{name}: {value}", flush=True)
    return short_name(setup.device)


def precision_in_use(device: torch.device) -> str:
    """In which numbers convolutions and matrix products are computed on a device."""
    if device.type != "cuda":
        return "float32"
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if convolutions and products:
        return "float32, computed as TF32"
    return "float32, convolutions as TF32" if convolutions else "float32"


def describe_weights(study: Study, sha256: str | None) -> str:
    """The initial weights as the study names them, and the beginning of their file's hash."""
    weights = study.network.weights
    if weights is None or sha256 is None:
        return "random"
    return f"{weights.path}, SHA-256 {sha256[:12]}"


def _counts(setup: Setup) -> str:
    parts = [f"{len(one.ids):,} images by {one.method.name}" for one in setup.teachings]
    return " + ".join(parts)
