"""The EM training of a run: E-step on the scores of the forward pass, M-step, update, log, save."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from weakseg.annotations.image_level import read_image_labels
from weakseg.annotations.maps import box_maps
from weakseg.config import Experiment, Preprocessing, Study, resolve_path
from weakseg.data.features import FeatureCache
from weakseg.data.prepare import open_data
from weakseg.data.splits import strong_and_weak
from weakseg.errors import WeaksegError
from weakseg.estep import bbox_em_fixed, em_adapt, em_fixed
from weakseg.files import atomic_path, atomic_write_json, sha256_file, sha256_json
from weakseg.labels import IGNORE, NUM_LABELS
from weakseg.model import Segmenter, build_model, load_initial_weights, save_model
from weakseg.paths import StudyPaths
from weakseg.train.mixing import ImageStream, repeat_factors
from weakseg.train.mstep import mixed_loss
from weakseg.train.pictures import save_estep_pictures
from weakseg.train.resume import ResumeFolder
from weakseg.train.samples import Bundle, Bundles, FeatureSource, Part, PhotoSource, SampleSource
from weakseg.train.solver import CaffeSGD, learning_rate, parameter_groups
from weakseg.train.watch import make_watch

EStepFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(scores (N, L+1, h, w), present (N, L+1), box_map (N, h, w), inside (N, h, w)) -> label map (N, h, w) int64."""


BOX_BIASES = {"box_bg_bias", "box_fg_bias"}
"""Constants that Bbox-EM-Fixed alone reads, so that they decide no other run."""


@dataclass(frozen=True)
class TrainingLists:
    """The images of a run: ids with pixel labels, ids with weak annotation."""

    strong: list[str]
    weak: list[str]


def choose_estep(study: Study, experiment: Experiment, generator: torch.Generator) -> EStepFunction | None:
    """The E-step of an experiment by name, with the study's constants; None for strong training.

    Image-level methods see the labels of the crop, methods with boxes the map of these; neither sees the true labels.

    Cells of padding take part as in the release, or are left out of E-step and loss (study.estep.valid_cells_only).
    """
    constants = study.estep
    if experiment.estep == "none":
        return None
    if experiment.estep in ("bbox_rect", "bbox_seg"):
        return fixed_maps

    def estep(scores: Tensor, present: Tensor, box_map: Tensor, inside: Tensor) -> Tensor:
        if experiment.estep == "bbox_em_fixed":
            labels = bbox_em_fixed(scores, box_map, bg_bias=constants.box_bg_bias, fg_bias=constants.box_fg_bias)
        elif experiment.estep == "em_fixed":
            labels = em_fixed(scores, present, bg_bias=constants.bg_bias, fg_bias=constants.fg_bias)
        elif experiment.estep == "em_adapt":
            labels = em_adapt(
                scores,
                present,
                bg_portion=constants.bg_portion,
                fg_portion=constants.fg_portion,
                rounds=constants.rounds,
                generator=generator,
                valid=inside if constants.valid_cells_only else None,
            )
        else:
            raise WeaksegError(f"experiment {experiment.id}: no E-step named {experiment.estep!r} in training")
        return labels.masked_fill(~inside, IGNORE) if constants.valid_cells_only else labels

    return estep


def fixed_maps(scores: Tensor, present: Tensor, box_map: Tensor, inside: Tensor) -> Tensor:
    """In place of an E-step: the map of the boxes, void in the padding."""
    return box_map


def training_lists(study: Study, experiment: Experiment, paths: StudyPaths) -> TrainingLists:
    """Strong and weak ids of an experiment, in the proportions of the paper (see data.splits)."""
    folder = open_data(paths.manifest)
    strong, weak = strong_and_weak(
        folder.ids("train"), folder.ids("train_aug"), strong=experiment.strong, weak=experiment.weak
    )
    return TrainingLists(strong, weak)


def make_streams(
    study: Study, experiment: Experiment, lists: TrainingLists, paths: StudyPaths, seed: int
) -> dict[str, ImageStream]:
    """Endless streams of strong and weak images, with the study's repeat factors."""
    threshold = study.sampling.repeat_factor_threshold
    present_of: dict[str, np.ndarray] = {}
    if threshold:
        ids, present = read_image_labels(paths.image_labels)
        present_of = dict(zip(ids, present, strict=True))
    streams = {}
    for name, chosen in (("strong", lists.strong), ("weak", lists.weak)):
        if chosen:
            factors = repeat_factors(np.stack([present_of[i] for i in chosen]), threshold) if threshold else None
            streams[name] = ImageStream(chosen, seed=seed, name=name, factors=factors)
    return streams


def make_source(study: Study, paths: StudyPaths, preprocessing: Preprocessing) -> SampleSource:
    """Photos, or the cached maps of a frozen trunk, with their true labels."""
    folder = open_data(paths.manifest)
    if study.network.freeze_trunk:
        cache = FeatureCache(paths.features("train_aug"), memory_share=0.4)
        return FeatureSource(study.network, cache, folder.labels)
    return PhotoSource(folder, study.network, preprocessing)


def run_config(
    study: Study,
    experiment: Experiment,
    seed: int,
    lists: TrainingLists,
    weights: Path | None,
    boxes_sha256: str | None = None,
) -> dict[str, Any]:
    """All that decides a run's result, and its hash under `hash`.

    Fields at their default are left out, so that a field that is added later does not change the hash of earlier runs.
    `boxes_sha256` is the hash of what the maps of weak images were made from.
    """
    unread = set() if experiment.estep == "bbox_em_fixed" else BOX_BIASES
    decides = {
        "network": study.network.model_dump(mode="json", exclude_defaults=True),
        "fov": experiment.fov,
        "solver": study.solver_of(experiment).model_dump(
            mode="json", exclude={"checkpoint_iterations", "estep_pictures_every"}, exclude_defaults=True
        ),
        "estep": {
            "name": experiment.estep,
            **study.estep.model_dump(mode="json", exclude_defaults=True, exclude=unread),
        },
        "sampling": study.sampling.model_dump(mode="json", exclude_defaults=True),
        "seed": seed,
        "strong_sha256": sha256_json(lists.strong),
        "weak_sha256": sha256_json(lists.weak),
        "weights_sha256": None if weights is None else sha256_file(weights),
    }
    if boxes_sha256 is not None:
        decides["boxes_sha256"] = boxes_sha256
    return {**decides, "hash": sha256_json(decides)}


def train_run(
    study: Study,
    experiment: Experiment,
    seed: int,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    *,
    stop_after: int | None = None,
) -> None:
    """Train one run and write model.safetensors, train_log.csv and config.json.

    A run that was killed goes on from its last resume state and ends with the same parameters to the bit (on a CPU
    with the same number of threads).

    Args:
        study, experiment, seed: what to train.
        paths: the study's result files.
        data_root: replaces `{data_root}` in configured paths.
        stop_after: stop, as a kill would, after this many iterations (tests).

    Raises:
        WeaksegError: the loss is not finite (iteration named, the last good state kept), or an input is unusable.
    """
    run = paths.run(experiment.id, seed)
    solver = study.solver_of(experiment)
    network = study.network
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)

    lists = training_lists(study, experiment, paths)
    weights = None
    if network.weights is not None:
        weights = resolve_path(network.weights.path, data_root=data_root, results=paths.root)
    boxed = box_maps(experiment, paths, lists.weak)
    config = run_config(study, experiment, seed, lists, weights, None if boxed is None else boxed.sha256)
    preprocessing = network.weights.preprocessing if network.weights else Preprocessing()
    model = build_model(network, fov=experiment.fov, num_labels=NUM_LABELS)
    if weights is not None and network.weights is not None:
        load_initial_weights(model, weights, network.weights.sha256)
    model.to(device)

    streams = make_streams(study, experiment, lists, paths, seed)
    truth = make_source(study, paths, preprocessing)
    annotated = truth if boxed is None else truth.with_labels(boxed.read)
    strong, weak = (
        Part(streams[name], share if lists.strong and lists.weak else solver.batch, source) if name in streams else None
        for name, share, source in (
            ("strong", solver.batch_strong, truth),
            ("weak", solver.batch_weak, annotated),
        )
    )
    bundles = Bundles(strong=strong, weak=weak, seed=seed)
    trained: nn.Module = model.head if network.freeze_trunk else model
    optimiser = CaffeSGD(_groups(model, study, experiment), solver.momentum)
    generator = torch.Generator().manual_seed(seed)
    estep = choose_estep(study, experiment, generator)
    fixed_until = solver.fixed_map_iterations if experiment.estep == "bbox_em_fixed" else 0
    watch = make_watch(study, experiment, paths, seed, config["hash"], weak=lists.weak, maps=annotated, truth=truth)

    resume = ResumeFolder(run.resume, config["hash"])
    first, seconds = _restore(resume, trained, optimiser, generator)
    resume.open_log(first)
    writer = _tensorboard(run.root / "tensorboard", first)
    rows: list[dict[str, float]] = []
    trained.train()
    if watch is not None:
        watch.look(first, trained, device)
    started = last_time = time.perf_counter()
    waited = last_time
    bar = tqdm(total=solver.iterations, initial=first, desc=f"{experiment.id} seed {seed}", unit="it", mininterval=2)
    for iteration, bundle in enumerate(bundles.iterate(first, solver.iterations), start=first):
        wait = time.perf_counter() - waited
        lr = learning_rate(solver, iteration)

        # Scores: one forward pass, dropout active, serves both steps.
        scores = trained(bundle.inputs.to(device))
        decides = fixed_maps if estep is not None and iteration < fixed_until else estep
        strong_labels, weak_labels = _label_maps(bundle, scores, decides, boxed=boxed is not None)

        # M-step: the loss sees the unbiased scores.
        loss, loss_strong, loss_weak = mixed_loss(scores, strong_labels, weak_labels, solver.strong_weight)
        if not torch.isfinite(loss):
            raise WeaksegError(
                f"run {run.root}: the loss is {float(loss.detach())} at iteration {iteration}; the last good state is "
                f"kept in {resume.state_path}. Lower solver.lr, or look at the images of this iteration"
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
                "loss_strong": loss_strong,
                "loss_weak": loss_weak,
                "lr": lr,
                "images_per_s": len(bundle.inputs) / (now - last_time),
                "seconds": seconds,
                "background_share": _background_share(weak_labels),
                "loader_wait": wait / (now - last_time),
            }
        )
        last_time = now
        bar.update()
        rate = rows[-1]["images_per_s"]
        bar.set_postfix(loss=f"{rows[-1]['loss']:.3f}", images_per_s=f"{rate:.0f}", refresh=False)
        _log_scalars(writer, rows[-1])
        if solver.estep_pictures_every and weak_labels is not None and iteration % solver.estep_pictures_every == 0:
            save_estep_pictures(run.root / "estep", iteration, bundle.labels[bundle.strong :], weak_labels)

        done = iteration + 1
        if watch is not None:
            before = time.perf_counter()
            watch.look(done, trained, device)
            last_time += time.perf_counter() - before
        if done % solver.checkpoint_iterations == 0 or done in (solver.iterations, stop_after):
            resume.append_log(rows)
            rows.clear()
            resume.save(_state(done, seconds, trained, optimiser, generator))
        if done == stop_after:
            bar.close()
            return
        waited = time.perf_counter()
    bar.close()
    if writer is not None:
        writer.close()

    if watch is not None:
        watch.write()
    with atomic_path(run.train_log) as temporary:
        temporary.write_bytes(resume.log_path.read_bytes())
    atomic_write_json(
        run.config,
        {
            **config,
            "study": study.name,
            "experiment": experiment.id,
            "strong": len(lists.strong),
            "weak": len(lists.weak),
            "train_seconds": round(seconds, 1),
            "wall_seconds_last_start": round(time.perf_counter() - started, 1),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU",
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
    )
    save_model(
        run.model,
        model,
        network=network,
        fov=experiment.fov,
        preprocessing=preprocessing,
        metadata={"study": study.name, "experiment": experiment.id, "seed": seed, "config_hash": config["hash"]},
    )
    resume.discard()
    if watch is not None:
        watch.discard()


def _groups(model: Segmenter, study: Study, experiment: Experiment) -> list[tuple[list[nn.Parameter], float, float]]:
    trunk = [] if study.network.freeze_trunk else list(model.trunk.named_parameters())
    return parameter_groups(
        trunk, list(model.fc_parameters()), list(model.classifier_parameters()), study.solver_of(experiment)
    )


def _label_maps(
    bundle: Bundle, scores: Tensor, estep: EStepFunction | None, *, boxed: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Label maps of the strong and of the weak half; None where a half is absent.

    `boxed` says that the labels of weak images are maps from boxes; else they are the truth, which no E-step is handed.
    """
    strong = bundle.labels[: bundle.strong].to(scores.device) if bundle.strong else None
    if bundle.strong == len(bundle.inputs):
        return strong, None
    if estep is None:
        raise WeaksegError("weak images in the mini-batch, but the experiment has no E-step")
    weak = slice(bundle.strong, None)
    maps = bundle.labels[weak] if boxed else torch.full_like(bundle.labels[weak], IGNORE)
    seen = (part.to(scores.device) for part in (bundle.present[weak], maps, bundle.inside[weak]))
    return strong, estep(scores[weak].detach(), *seen)


def _background_share(labels: Tensor | None) -> float:
    if labels is None:
        return float("nan")
    return float((labels == 0).sum() / (labels != IGNORE).sum().clamp(min=1))


def _state(
    done: int, seconds: float, trained: nn.Module, optimiser: CaffeSGD, generator: torch.Generator
) -> dict[str, Any]:
    state = {
        "iteration": done,
        "seconds": seconds,
        "parameters": trained.state_dict(),
        "velocity": optimiser.state(),
        "torch_rng": torch.get_rng_state(),
        "estep_rng": generator.get_state(),
    }
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state()
    return state


def _restore(
    resume: ResumeFolder, trained: nn.Module, optimiser: CaffeSGD, generator: torch.Generator
) -> tuple[int, float]:
    """Load the last state if there is one; returns the next iteration and the training time so far (s)."""
    state = resume.load()
    if state is None:
        return 0, 0.0
    trained.load_state_dict(state["parameters"])
    optimiser.load_state(state["velocity"])
    torch.set_rng_state(state["torch_rng"])
    generator.set_state(state["estep_rng"])
    if torch.cuda.is_available() and "cuda_rng" in state:
        torch.cuda.set_rng_state(state["cuda_rng"])
    return int(state["iteration"]), float(state["seconds"])


def _tensorboard(folder: Path, first: int) -> Any:
    """A TensorBoard writer, or None where the package is not installed; the CSV log holds the same numbers."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first)


def _log_scalars(writer: Any, row: dict[str, float]) -> None:
    if writer is None:
        return
    for name in ("loss", "loss_strong", "loss_weak", "lr", "background_share"):
        if row[name] == row[name]:
            writer.add_scalar(name, row[name], int(row["iteration"]))
