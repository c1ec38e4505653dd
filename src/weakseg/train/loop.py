"""The EM training of a run: E-step on the scores of the forward pass, M-step, update, log, save."""

import math
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from weakseg.config import Experiment, Study
from weakseg.devices import computing, to_device
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_json
from weakseg.methods import Shown
from weakseg.model import save_model
from weakseg.model.label_views import seen_by
from weakseg.paths import StudyPaths
from weakseg.train.announce import announce
from weakseg.train.batches import Batch
from weakseg.train.distributed import joined_processes, seed_of
from weakseg.train.mstep import joined_loss, teach
from weakseg.train.record import Record
from weakseg.train.resume import ResumeFolder
from weakseg.train.setup import Setup, prepare_run
from weakseg.train.snapshots import Snapshots
from weakseg.train.solver import learning_rate


def train_run(
    study: Study,
    experiment: Experiment,
    seed: int,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    config_dir: str | Path = "config",
    *,
    workers: int = 0,
    stop_after: int | None = None,
) -> None:
    """Train one run and write model.safetensors, train_log.csv, config.json and snapshots/.

    A run that was killed goes on from its last resume state and ends with the same parameters to the bit (on a CPU
    with the same number of threads).

    Args:
        study, experiment, seed: what to train.
        paths: the study's result files.
        data_root: replaces `{data_root}` in configured paths.
        config_dir: folder of the experiment sheet.
        workers: processes that make mini-batches; 0: this one does.
        stop_after: stop, as a kill would, after this many iterations (tests).

    Raises:
        WeaksegError: the loss or a parameter is not finite (iteration named, the last good state kept), or an input is
            unusable.
    """
    with joined_processes() as processes:
        setup = prepare_run(
            study, experiment, seed, paths, data_root, config_dir,
            processes=processes, threads=max(1, workers), hold_photos=True,
        )  # fmt: skip
        _train(study, experiment, seed, setup, workers=workers, stop_after=stop_after)


def _train(
    study: Study, experiment: Experiment, seed: int, setup: Setup, *, workers: int, stop_after: int | None
) -> None:
    device_name = announce(study, experiment, setup, workers)
    solver, trained, optimiser, processes = setup.solver, setup.trained, setup.optimiser, setup.processes
    resume = ResumeFolder(setup.run.resume, setup.decided_by["hash"])
    first, seconds = _restore(resume, setup, seed)
    processes.wait()  # before the first process writes what all have read
    state = _state(first, seconds, setup)
    if processes.writes:
        resume.open_log(first)
        if first == 0:  # there is a good state from the start
            resume.save(state)
    shows_labels = any(teaching.method.estep for teaching in setup.teachings) and processes.writes
    snapshots = Snapshots(setup.run, setup.decided_by["hash"], solver.iterations, wanted=shows_labels)
    snapshots.take(first, trained)
    writer = _tensorboard(setup.run.root / "tensorboard", first) if processes.writes else None
    rows: list[dict[str, float]] = []
    trained.train()
    torch.backends.cudnn.benchmark = True  # on a GPU: crops are all of one size
    started = waited = time.perf_counter()
    record = Record(setup.teachings, processes, setup.device, seconds)
    bar = tqdm(
        total=solver.iterations, initial=first, desc=f"{experiment.id} seed {seed} on {device_name}",
        unit="it", mininterval=2, disable=not processes.writes,
    )  # fmt: skip
    for iteration, batch in enumerate(setup.batches.iterate(first, solver.iterations, workers), start=first):
        wait = time.perf_counter() - waited
        lr = learning_rate(solver, iteration)
        scores = forward(setup, batch)
        losses, label_maps = taught(setup, batch, scores, iteration)
        loss = joined_loss(losses, [teaching.weight for teaching in setup.teachings])
        optimiser.zero_grad()
        backward(setup, loss)
        optimiser.step(lr)

        record.add(iteration, loss, losses, label_maps, lr=lr, images=solver.batch, waited=wait)
        done = iteration + 1
        stands = done % solver.checkpoint_iterations == 0 or done in (solver.iterations, stop_after)
        if record.due or stands:
            rows += _read(record, setup, resume, bar, writer)
        snapshots.take(done, trained)
        if stands:
            state = _state(done, record.seconds, setup)
            if processes.writes:
                resume.append_log(rows)
                resume.save(state)
            rows.clear()
        if done == stop_after:
            bar.close()
            return
        waited = time.perf_counter()
    bar.close()
    if writer is not None:
        writer.close()
    if not processes.writes:
        return

    snapshots.write()
    with atomic_path(setup.run.train_log) as temporary:
        temporary.write_bytes(resume.log_path.read_bytes())
    _write_results(study, experiment, seed, setup, record.seconds, time.perf_counter() - started)
    resume.discard()
    snapshots.discard()


def forward(setup: Setup, batch: Batch) -> Tensor:
    """Scores (N, joint labels, h, w) float32 of a mini-batch: one pass, dropout active, serves E-step and M-step."""
    inputs = setup.inputs.batch(batch.inputs, batch.visible, setup.device)
    with computing(setup.compute.precision, setup.device):
        return setup.called(inputs)


def taught(setup: Setup, batch: Batch, scores: Tensor, iteration: int) -> tuple[list[Tensor], list[Tensor | None]]:
    """Loss and label map of each stream's images, which stand one after the other in the mini-batch."""
    losses, label_maps = [], []
    begin = 0
    for teaching, part, draw in zip(setup.teachings, batch.parts, setup.batches.draws, strict=True):
        end = begin + len(part.inside)
        present, label_map, inside = (
            None if values is None else to_device(values, setup.device)
            for values in (part.present, part.label_map, part.inside)
        )
        assert inside is not None
        shown = Shown(
            present=present,
            label_map=label_map,
            inside=inside,
            iteration=iteration,
            generator=setup.generator,
            valid_cells_only=setup.valid_cells_only,
            present_on_host=None if part.present is None else torch.from_numpy(part.present),
            images=draw.images,
            first=setup.processes.dealt(draw.images).start,
            summed=setup.processes.sum if setup.processes.count > 1 else None,
        )
        own_scores = seen_by(teaching.view, scores[begin:end])
        loss, labels = teach(teaching.method, own_scores, shown, teaching.constants)
        losses.append(loss)
        label_maps.append(labels)
        begin = end
    return losses, label_maps


def backward(setup: Setup, loss: Tensor) -> None:
    """Gradients of the loss of the whole mini-batch, of which `loss` is this process's part."""
    # Joined processes take the mean of their gradients, where the sum is wanted.
    (loss if setup.processes.count == 1 else loss * setup.processes.count).backward()


def _read(record: Record, setup: Setup, resume: ResumeFolder, bar: Any, writer: Any) -> list[dict[str, float]]:
    """The rows of the iterations since the last reading, shown; an error where a loss is not finite."""
    rows = record.read()
    for row in rows:
        if not math.isfinite(row["loss"]):
            raise WeaksegError(
                f"run {setup.run.root}: the loss is {row['loss']} at iteration {row['iteration']}; the last good state "
                f"is kept in {resume.state_path}. Lower solver.lr, or look at the images of this iteration"
            )
        _show(bar, writer, row)
    return rows


def _write_results(
    study: Study, experiment: Experiment, seed: int, setup: Setup, seconds: float, wall_seconds: float
) -> None:
    counted = [one for one in setup.teachings if one.stream in experiment.counted_streams]
    images = {
        kind: sum(len(teaching.ids) for teaching in counted if teaching.is_strong == (kind == "strong"))
        for kind in ("strong", "weak")
    }
    atomic_write_json(
        setup.run.config,
        {
            **setup.decided_by,
            "study": study.name,
            "experiment": experiment.id,
            **images,
            "start": asdict(setup.start),
            "train_seconds": round(seconds, 1),
            "wall_seconds_last_start": round(wall_seconds, 1),
            "device": torch.cuda.get_device_name() if setup.device.type == "cuda" else platform.processor() or "CPU",
            "processes": setup.processes.count,
            "compute": setup.compute.model_dump(mode="json"),
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
    )
    names = {"study": study.name, "experiment": experiment.id, "seed": seed, "config_hash": setup.decided_by["hash"]}
    weights = {name: setup.decided_by.get(name) for name in ("weights_sha256", "projection_sha256")}
    save_model(
        setup.run.model,
        setup.model,
        network=study.network,
        fov=experiment.fov,
        preprocessing=setup.preprocessing,
        labels=setup.labels,
        joint=setup.sources.joint.labels if experiment.datasets else None,
        metadata={**names, **weights},
    )


def _state(done: int, seconds: float, setup: Setup) -> dict[str, Any]:
    """All that a training goes on from; each process must ask, for the random states are those of all."""
    own, *others = setup.processes.gather(torch.get_rng_state())
    state = {
        "iteration": done,
        "seconds": seconds,
        "parameters": setup.trained.state_dict(),
        "velocity": setup.optimiser.state(),
        "torch_rng": own,
        "estep_rng": setup.generator.get_state(),
        "other_rngs": others,
    }
    if torch.cuda.is_available():
        state["cuda_rng"], *state["other_cuda_rngs"] = setup.processes.gather(torch.cuda.get_rng_state())
    return state


def _restore(resume: ResumeFolder, setup: Setup, seed: int) -> tuple[int, float]:
    """Load the last state if there is one; returns the next iteration and the training time so far (s)."""
    state = resume.load()
    if state is None:
        return 0, 0.0
    setup.trained.load_state_dict(state["parameters"])
    setup.optimiser.load_state(state["velocity"])
    setup.generator.set_state(state["estep_rng"])
    rank, iteration = setup.processes.rank, int(state["iteration"])
    known = [state["torch_rng"], *state.get("other_rngs", ())]
    if rank < len(known):
        torch.set_rng_state(known[rank])
    else:  # fewer processes wrote the state
        torch.manual_seed(seed_of(seed, rank, iteration))
    known = [state["cuda_rng"], *state.get("other_cuda_rngs", ())] if "cuda_rng" in state else []
    if torch.cuda.is_available() and rank < len(known):
        torch.cuda.set_rng_state(known[rank])
    return iteration, float(state["seconds"])


def _show(bar: Any, writer: Any, row: dict[str, float]) -> None:
    bar.update()
    bar.set_postfix(loss=f"{row['loss']:.3f}", images_per_s=f"{row['images_per_s']:.0f}", refresh=False)
    if writer is not None:
        for name in ("loss", "loss_strong", "loss_weak", "lr", "background_share"):
            if row[name] == row[name]:
                writer.add_scalar(name, row[name], int(row["iteration"]))


def _tensorboard(folder: Path, first: int) -> Any:
    """A TensorBoard writer, or None where the package is not installed; the CSV log holds the same numbers."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first)
