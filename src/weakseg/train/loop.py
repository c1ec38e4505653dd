"""The EM training of a run: E-step on the scores of the forward pass, M-step, update, log, save."""

import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from weakseg.config import Experiment, Study
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_json
from weakseg.labels import BACKGROUND, IGNORE
from weakseg.methods import Shown
from weakseg.model import save_model
from weakseg.paths import StudyPaths
from weakseg.train.announce import announce
from weakseg.train.batches import Batch, to_tensor
from weakseg.train.mstep import joined_loss, teach
from weakseg.train.resume import ResumeFolder
from weakseg.train.setup import Setup, Teaching, prepare_run
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
    setup = prepare_run(study, experiment, seed, paths, data_root, config_dir)
    device_name = announce(study, experiment, setup, workers)
    solver, trained, optimiser = setup.solver, setup.trained, setup.optimiser
    resume = ResumeFolder(setup.run.resume, setup.decided_by["hash"])
    first, seconds = _restore(resume, setup)
    resume.open_log(first)
    if first == 0:  # there is a good state from the start
        resume.save(_state(0, 0.0, setup))
    shows_labels = any(teaching.method.estep for teaching in setup.teachings)
    snapshots = Snapshots(setup.run, setup.decided_by["hash"], solver.iterations, wanted=shows_labels)
    snapshots.take(first, trained)
    writer = _tensorboard(setup.run.root / "tensorboard", first)
    rows: list[dict[str, float]] = []
    trained.train()
    started = last_time = waited = time.perf_counter()
    name = f"{experiment.id} seed {seed} on {device_name}"
    bar = tqdm(total=solver.iterations, initial=first, desc=name, unit="it", mininterval=2)
    for iteration, batch in enumerate(setup.batches.iterate(first, solver.iterations, workers), start=first):
        wait = time.perf_counter() - waited
        lr = learning_rate(solver, iteration)

        # Scores: one forward pass, dropout active, serves E-step and M-step.
        scores = trained(setup.inputs.batch(batch.inputs).to(setup.device))
        losses, label_maps = _taught(setup, batch, scores, iteration)
        loss = joined_loss(losses, [teaching.weight for teaching in setup.teachings])
        if not torch.isfinite(loss):
            raise WeaksegError(
                f"run {setup.run.root}: the loss is {float(loss.detach())} at iteration {iteration}; the last good "
                f"state is kept in {resume.state_path}. Lower solver.lr, or look at the images of this iteration"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(lr)

        now = time.perf_counter()
        seconds += now - last_time
        rows.append(
            {
                "iteration": iteration,
                "loss": float(loss.detach()),
                "loss_strong": _mean_loss(setup.teachings, losses, strong=True),
                "loss_weak": _mean_loss(setup.teachings, losses, strong=False),
                "lr": lr,
                "images_per_s": len(batch.inputs) / (now - last_time),
                "seconds": seconds,
                "background_share": _background_share(setup.teachings, label_maps),
                "loader_wait": wait / (now - last_time),
            }
        )
        last_time = now
        _show(bar, writer, rows[-1])
        done = iteration + 1
        snapshots.take(done, trained)
        if done % solver.checkpoint_iterations == 0 or done in (solver.iterations, stop_after):
            resume.append_log(rows)
            rows.clear()
            resume.save(_state(done, seconds, setup))
        if done == stop_after:
            bar.close()
            return
        waited = time.perf_counter()
    bar.close()
    if writer is not None:
        writer.close()

    snapshots.write()
    with atomic_path(setup.run.train_log) as temporary:
        temporary.write_bytes(resume.log_path.read_bytes())
    _write_results(study, experiment, seed, setup, seconds, time.perf_counter() - started)
    resume.discard()
    snapshots.discard()


def _taught(setup: Setup, batch: Batch, scores: Tensor, iteration: int) -> tuple[list[Tensor], list[Tensor | None]]:
    """Loss and label map of each stream's images, which stand one after the other in the mini-batch."""
    losses, label_maps = [], []
    begin = 0
    for teaching, part in zip(setup.teachings, batch.parts, strict=True):
        end = begin + len(part.inside)
        shown = Shown(
            present=to_tensor(part.present, setup.device),
            label_map=to_tensor(part.label_map, setup.device),
            inside=torch.from_numpy(part.inside).to(setup.device),
            iteration=iteration,
            generator=setup.generator,
            valid_cells_only=setup.valid_cells_only,
        )
        loss, labels = teach(teaching.method, scores[begin:end], shown, teaching.constants)
        losses.append(loss)
        label_maps.append(labels)
        begin = end
    return losses, label_maps


def _mean_loss(teachings: list[Teaching], losses: list[Tensor], *, strong: bool) -> float:
    """Weighted mean of the losses of the streams with, or without, pixel labels; NaN where there are none."""
    chosen = [(t.weight, float(x.detach())) for t, x in zip(teachings, losses, strict=True) if t.is_strong == strong]
    total = sum(weight for weight, _ in chosen)
    return sum(weight * loss for weight, loss in chosen) / total if total else float("nan")


def _background_share(teachings: list[Teaching], label_maps: list[Tensor | None]) -> float:
    """Share of the background in the label maps of weakly annotated images; NaN where there are none."""
    maps = [m for t, m in zip(teachings, label_maps, strict=True) if not t.is_strong and m is not None]
    if not maps:
        return float("nan")
    background = sum(int((labels == BACKGROUND).sum()) for labels in maps)
    return background / max(sum(int((labels != IGNORE).sum()) for labels in maps), 1)


def _write_results(
    study: Study, experiment: Experiment, seed: int, setup: Setup, seconds: float, wall_seconds: float
) -> None:
    images = {
        kind: sum(len(teaching.ids) for teaching in setup.teachings if teaching.is_strong == (kind == "strong"))
        for kind in ("strong", "weak")
    }
    atomic_write_json(
        setup.run.config,
        {
            **setup.decided_by,
            "study": study.name,
            "experiment": experiment.id,
            **images,
            "train_seconds": round(seconds, 1),
            "wall_seconds_last_start": round(wall_seconds, 1),
            "device": torch.cuda.get_device_name() if setup.device.type == "cuda" else platform.processor() or "CPU",
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
    )
    names = {"study": study.name, "experiment": experiment.id, "seed": seed, "config_hash": setup.decided_by["hash"]}
    weights = {"weights_sha256": setup.decided_by["weights_sha256"]}
    save_model(
        setup.run.model,
        setup.model,
        network=study.network,
        fov=experiment.fov,
        preprocessing=setup.preprocessing,
        labels=setup.labels,
        metadata={**names, **weights},
    )


def _state(done: int, seconds: float, setup: Setup) -> dict[str, Any]:
    state = {
        "iteration": done,
        "seconds": seconds,
        "parameters": setup.trained.state_dict(),
        "velocity": setup.optimiser.state(),
        "torch_rng": torch.get_rng_state(),
        "estep_rng": setup.generator.get_state(),
    }
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state()
    return state


def _restore(resume: ResumeFolder, setup: Setup) -> tuple[int, float]:
    """Load the last state if there is one; returns the next iteration and the training time so far (s)."""
    state = resume.load()
    if state is None:
        return 0, 0.0
    setup.trained.load_state_dict(state["parameters"])
    setup.optimiser.load_state(state["velocity"])
    torch.set_rng_state(state["torch_rng"])
    setup.generator.set_state(state["estep_rng"])
    if torch.cuda.is_available() and "cuda_rng" in state:
        torch.cuda.set_rng_state(state["cuda_rng"])
    return int(state["iteration"]), float(state["seconds"])


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
