"""The first lines of a training's log: on what it computes, how, from which weights and data."""

import torch

from weakseg.config import Experiment, Study
from weakseg.devices import describe_device, short_name
from weakseg.train.setup import Setup

PRECISIONS = {
    "fp32": "float32",
    "tf32": "float32, products of convolutions as TF32 where a GPU has it",
    "bf16": "bfloat16 but for parameters, scores, E-step and loss",
}
"""What `compute.precision` means, in words."""


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
        "precision": PRECISIONS[setup.compute.precision],
        "threads": f"{torch.get_num_threads()} of torch, {workers} processes that make mini-batches",
        "network": f"{network.trunk}, stride {network.output_stride}, {experiment.fov} field of view, {trunk}",
        "weights": describe_weights(study, setup.decided_by["weights_sha256"]),
        "data": f"{study.dataset.name}: {_counts(setup)}",
        "solver": f"{solver.iterations:,} iterations of {solver.batch} images at {network.crop_px} pixels",
    }
    if setup.processes.count > 1:
        lines["processes"] = f"{setup.processes.count}, which share each mini-batch"
    if setup.processes.writes:
        for name, value in lines.items():
            print(f"{name}: {value}", flush=True)
        print(setup.start.text(), flush=True)
    return short_name(setup.device)


def describe_weights(study: Study, sha256: str | None) -> str:
    """The initial weights as the study names them, and the beginning of their file's hash."""
    weights = study.network.weights
    if weights is None or sha256 is None:
        return "random"
    return f"{weights.name or weights.path}, SHA-256 {sha256[:12]}"


def _counts(setup: Setup) -> str:
    parts = [f"{len(one.ids):,} images by {one.method.name}" for one in setup.teachings]
    return " + ".join(parts)
