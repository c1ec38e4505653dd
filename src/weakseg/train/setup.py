"""All that a run needs before its first iteration: network, mini-batches, optimiser, hash of what decides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from weakseg import decides
from weakseg.config import Compute, Experiment, Network, Preprocessing, Solver, Stream, Study, load_sheet
from weakseg.data.contents import check_unchanged
from weakseg.data.features import FeatureCache
from weakseg.data.initial_weights import find_weights
from weakseg.data.label_maps import map_reader, maps_digest
from weakseg.data.splits import images_of_experiment
from weakseg.devices import choose_device, set_precision
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file, sha256_json
from weakseg.joint_labels import LabelView
from weakseg.labels import LabelSet
from weakseg.methods import Method
from weakseg.model import Segmenter, build_model, load_initial_weights, load_model
from weakseg.model.fresh_layers import CROPS, FreshStart, fresh_layers, scale_fresh_layers
from weakseg.model.multi_scale import freeze_all_but_branches
from weakseg.model.vgg16 import Vgg16Trunk
from weakseg.paths import RunPaths, StudyPaths
from weakseg.strict import Strict
from weakseg.train.batches import Batches, Draw
from weakseg.train.distributed import ALONE, Processes, seed_of
from weakseg.train.photos import HeldPhotos
from weakseg.train.samples import (
    Annotation,
    DevicePhotoInputs,
    FeatureInputs,
    HostPhotoInputs,
    Inputs,
    MapAnnotation,
    PhotoInputs,
    QualifiedAnnotation,
    TagAnnotation,
)
from weakseg.train.solver import CaffeSGD, parameter_groups
from weakseg.train.sources import JoinedCache, JoinedPhotos, Source, Sources
from weakseg.train.streams import ImageStream, repeat_factors


@dataclass(frozen=True)
class Teaching:
    """How the images of one stream teach.

    Attributes:
        stream: as the experiment says.
        source: the data set that it draws from.
        view: that data set's labels in the scores of the network; None: they are these.
        ids: its images.
        method: how they teach.
        constants: of the method.
        weight: of its loss.
        annotation: says what is known of its images.
    """

    stream: Stream
    source: Source
    view: LabelView | None
    ids: list[str]
    method: Method
    constants: Strict
    weight: float
    annotation: Annotation

    @property
    def is_strong(self) -> bool:
        """Whether its images have pixel labels."""
        return self.stream.is_strong


@dataclass
class Setup:
    """A run before its first iteration.

    Attributes:
        run: its files.
        sources: the data sets that it reads.
        labels: what the labels mean in which it is scored.
        solver: iterations, rates and the rest.
        preprocessing: how pixels enter the trunk.
        decided_by: all that decides the result, and its hash under `hash`.
        model: the network.
        start: which layers of its head are fresh, and how they start.
        trained: the part of it that learns: the head on a frozen trunk, branches on a finished network, else all.
        called: what gives scores in training, joined with that of the other processes.
        compute: precision, and where photos are.
        processes: that train the run together.
        teachings: one a stream.
        inputs: gives what the network takes.
        batches: mini-batches by iteration.
        optimiser: updates the parameters.
        generator: source of the methods' randomness.
        device: where the network is.
        valid_cells_only: whether padding is left out of E-steps and their loss.
    """

    run: RunPaths
    sources: Sources
    labels: LabelSet
    solver: Solver
    preprocessing: Preprocessing
    decided_by: dict[str, Any]
    model: Segmenter
    start: FreshStart
    trained: nn.Module
    called: nn.Module
    compute: Compute
    processes: Processes
    teachings: list[Teaching]
    inputs: Inputs
    batches: Batches
    optimiser: CaffeSGD
    generator: torch.Generator
    device: torch.device
    valid_cells_only: bool


def prepare_run(
    study: Study,
    experiment: Experiment,
    seed: int,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    config_dir: str | Path = "config",
    *,
    processes: Processes = ALONE,
    threads: int = 1,
    hold_photos: bool = False,
) -> Setup:
    """Open everything that a run reads and build its network.

    Args:
        study, experiment, seed, paths, data_root, config_dir: the run.
        processes: that train it together.
        threads: that decode photos which are held in memory.
        hold_photos: hold them, if the study says so.

    Raises:
        WeaksegError: an input is missing, changed since it was read, or does not fit.
    """
    device = choose_device()
    set_precision(study.compute.precision)
    network, solver = study.network, study.solver_of(experiment)
    paper = load_sheet(config_dir).lists
    sources = Sources.open(study, experiment, paths)
    if experiment.stage == "test" and not sources.own.data.ids("test"):
        raise WeaksegError(
            f"experiment {experiment.id}: there are no test photos at {study.dataset.test_photos}; put them there and "
            "run `weakseg data` (docs/data.md)"
        )
    torch.manual_seed(seed)
    chosen = images_of_experiment(study, experiment, paper, sources.lists())
    of_streams = [sources.by_name[stream.dataset] for stream in experiment.streams]
    for stream, source, ids in zip(experiment.streams, of_streams, chosen, strict=True):
        kinds = ["photo", "mask"] if stream.is_strong else ["photo"]
        check_unchanged(source.data, source.contents, ids, kinds)

    weights = None if network.weights is None else find_weights(network.weights, paths.root, data_root)
    weights_sha256 = None if weights is None else sha256_file(weights)
    preprocessing = network.weights.preprocessing if network.weights else Preprocessing()
    projection_sha256 = None if network.principal_axes is None else sha256_file(paths.projection)
    inputs: Inputs
    if network.freeze_trunk and not experiment.multi_scale:  # branches see what is inside the trunk
        facts = (weights_sha256, projection_sha256)
        inputs = FeatureInputs(network, _feature_maps(network, experiment, sources, facts, processes))
    elif hold_photos and study.compute.photos != "files":
        where = device if study.compute.photos == "device" else torch.device("cpu")
        photos = JoinedPhotos(sources)
        everything = [s.qualified(i) for s, ids in zip(of_streams, chosen, strict=True) for i in ids]
        held = HeldPhotos(photos, everything, network.image_scale, where, threads=threads, processes=processes.count)
        kept = DevicePhotoInputs if study.compute.photos == "device" else HostPhotoInputs
        inputs = kept(photos, network, preprocessing, held)
    else:
        inputs = PhotoInputs(JoinedPhotos(sources), network, preprocessing)

    weights_of_loss = _weights_of_loss(experiment.streams)
    teachings = [
        Teaching(
            stream,
            source,
            sources.joint.views[source.name],
            ids,
            stream.how,
            study.constants_of(experiment, stream.method),
            weight,
            _annotation(stream, ids, source, study),
        )
        for stream, source, ids, weight in zip(experiment.streams, of_streams, chosen, weights_of_loss, strict=True)
    ]
    decided_by = {
        **decides.training(study, experiment, paper),
        "seed": seed,
        "labels": sources.own.data.labels.to_json(),
        "weights_sha256": weights_sha256,
        "data": _data_digests(teachings, study.sampling.repeat_factor_threshold > 0),
    }
    if experiment.datasets:
        decided_by["joint_labels"] = sources.joint.labels.to_json()
    if projection_sha256 is not None:
        decided_by["projection_sha256"] = projection_sha256

    model = build_model(
        network, fov=experiment.fov, num_labels=len(sources.joint.labels), multi_scale=experiment.multi_scale
    )
    model.view = sources.joint.views[None]
    loaded: frozenset[str] = frozenset()
    if weights is not None and network.weights is not None:
        loaded = load_initial_weights(model, weights, network.weights.sha256).from_file
    model.load_axes(paths.projection)
    if experiment.init_from is not None:
        start_of, known = load_start(model, paths.run(experiment.init_from, seed).model, experiment, sources)
        decided_by["init_from_hash"], loaded = start_of, loaded | known
    decided_by["hash"] = sha256_json(decided_by)
    threshold = study.sampling.repeat_factor_threshold
    images_of = images_of_batch(experiment, solver.batch)
    if min(images_of) < processes.count:
        raise WeaksegError(
            f"experiment {experiment.id}: {processes.count} processes cannot share the {min(images_of)} images that a "
            "stream has in a mini-batch; start fewer"
        )
    draws = [
        Draw(_image_stream(name, teaching, seed, threshold), images, teaching.annotation)
        for name, teaching, images in zip(stream_names(experiment.streams), teachings, images_of, strict=True)
    ]
    start = _start(model, network, loaded, Batches(inputs, draws, network, seed), device)
    branches_alone = experiment.multi_scale and experiment.init_from is not None
    if branches_alone:
        freeze_all_but_branches(model)
    if device.type == "cuda":
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = parameter_groups(*_learning(model, network, loaded, branches_alone), solver)
    trained, called = _trained(model, network, branches_alone)
    if processes.rank:  # the first draws dropout as one process alone does
        torch.manual_seed(seed_of(seed, processes.rank, 0))
    return Setup(
        run=paths.run(experiment.id, seed),
        sources=sources,
        labels=sources.own.data.labels,
        solver=solver,
        preprocessing=preprocessing,
        decided_by=decided_by,
        model=model,
        start=start,
        trained=trained,
        called=processes.joined(called, device),
        compute=study.compute,
        processes=processes,
        teachings=teachings,
        inputs=inputs,
        batches=Batches(inputs, draws, network, seed, processes),
        optimiser=CaffeSGD(groups, solver.momentum),
        generator=torch.Generator().manual_seed(seed),
        device=device,
        valid_cells_only=study.sampling.valid_cells_only,
    )


Parameters = list[tuple[str, nn.Parameter]]


def _learning(
    model: Segmenter, network: Network, loaded: frozenset[str], branches_alone: bool
) -> tuple[Parameters, Parameters, Parameters]:
    """The parameters that learn: of layers that came from a file, of fresh ones, of classifiers."""
    learnt: Parameters = [] if network.freeze_trunk else list(model.trunk.named_parameters())
    fresh: Parameters = []
    for name, parameter in model.fc_parameters():
        (learnt if f"head.{name}" in loaded else fresh).append((name, parameter))
    classifiers = list(model.classifier_parameters())
    if model.branches is None:
        return learnt, fresh, classifiers
    of_branches = list(model.branches.convolution_parameters()), list(model.branches.classifier_parameters())
    return ([], *of_branches) if branches_alone else (learnt, fresh + of_branches[0], classifiers + of_branches[1])


def _trained(model: Segmenter, network: Network, branches_alone: bool) -> tuple[nn.Module, nn.Module]:
    """The part of a network that learns, and what gives scores in training.

    The head of a frozen trunk sees cached maps; branches see the photo, and need all of the network.
    """
    if branches_alone and model.branches is not None:
        return model.branches, model
    if network.freeze_trunk and model.branches is None:
        return model.head, model.head
    return model, model


def _start(
    model: Segmenter, network: Network, loaded: frozenset[str], batches: Batches, device: torch.device
) -> FreshStart:
    """Scale the fresh layers to crops of the first mini-batch, on the CPU, so that every device starts alike."""
    fresh = fresh_layers(model, loaded)
    factors: dict[str, float] = {}
    if network.fresh_start == "measured" and fresh:
        batch = batches[0]
        chosen = np.linspace(0, len(batch.inputs) - 1, min(CROPS, len(batch.inputs))).round().astype(int)
        maps = [batches.inputs.batch(batch.inputs[[i]], batch.visible[[i]], device).cpu() for i in chosen]
        if not isinstance(batches.inputs, FeatureInputs):
            model.trunk.eval()
            with torch.no_grad():
                maps = [model.features(crop) for crop in maps]
        factors = scale_fresh_layers(model.head, maps, fresh)
    broken = isinstance(model.trunk, Vgg16Trunk) and not {"fc6", "fc7"}.isdisjoint(fresh)
    return FreshStart(fresh, factors, breaks_protocol=broken)


def load_start(model: Segmenter, path: Path, experiment: Experiment, sources: Sources) -> tuple[str, frozenset[str]]:
    """Take the parameters of another run's trained network; those of the classifiers only where they are to be kept.

    Args:
        model: changed in place.
        path: of the trained network.
        experiment: whose start it is.
        sources: the data sets of that experiment.

    Returns:
        The configuration hash of the run, and the names of the parameters that were taken.

    Raises:
        WeaksegError: no such network, or one whose layers or labels are others.
    """
    start, facts = load_model(path)
    own = start.state_dict()
    if experiment.fresh_classifier:
        fresh = {f"head.{name}" for name, _ in start.classifier_parameters()}
        own = {name: value for name, value in own.items() if name not in fresh}
    elif facts["joint_labels"] != sources.joint.labels:
        raise WeaksegError(
            f"{path}: its labels are others than those of experiment {experiment.id}; say `fresh_classifier: true` to "
            "leave its classifier out"
        )
    shapes = model.state_dict()
    if wrong := [n for n, value in own.items() if n not in shapes or shapes[n].shape != value.shape]:
        raise WeaksegError(
            f"{path}: {wrong[0]} does not fit the network of experiment {experiment.id}, which starts from it; both "
            "need one field of view"
        )
    model.load_state_dict(own, strict=False)
    return str(facts["config_hash"]), frozenset(name for name, _ in model.named_parameters() if name in own)


def _feature_maps(
    network: Network,
    experiment: Experiment,
    sources: Sources,
    facts: tuple[str | None, str | None],
    processes: Processes,
) -> FeatureCache | JoinedCache:
    """The cached maps of all images that a run may draw: of the training lists and, in stage `test`, of val."""
    weights_sha256, projection_sha256 = facts
    roles = [(source, "training") for source in sources.by_name.values()]
    roles += [(sources.own, "evaluation")] if experiment.stage == "test" else []
    caches = []
    for source, role in roles:
        cache = FeatureCache(source.paths.features(role), memory_share=0.4 / processes.count / len(roles))
        photos = source.contents.digest(source.data.ids(role), "photo")
        cache.check(network, weights_sha256, photos, projection_sha256)
        caches.append((source, cache))
    return caches[0][1] if len(caches) == 1 else JoinedCache(caches)


def _annotation(stream: Stream, ids: list[str], source: Source, study: Study) -> Annotation:
    """What is known of a stream's images. Labels of a frozen trunk's few cells are kept in memory."""
    told = _annotation_of_own_ids(stream, ids, source, study)
    return told if source.name is None else QualifiedAnnotation(told, f"{source.name}:")


def _annotation_of_own_ids(stream: Stream, ids: list[str], source: Source, study: Study) -> Annotation:
    data, paths = source.data, source.paths
    keep = study.network.freeze_trunk
    if stream.annotation == "image":
        source.tags.check(ids)
        return TagAnnotation(source.tags.crops)
    if stream.annotation == "box":
        folder = paths.box_maps(str(stream.how.label_maps))
        return MapAnnotation(map_reader(folder, ids, data.labels), study.network, keep=keep)
    if missing := [image_id for image_id in ids if not data.has_pixel_labels(image_id)]:
        raise WeaksegError(
            f"{paths.manifest}: {len(missing)} of {len(ids)} strong images have no pixel labels, {missing[0]} the first"
        )
    return MapAnnotation(data.pixel_labels, study.network, keep=keep)


def _data_digests(teachings: Sequence[Teaching], tags_draw: bool) -> list[dict[str, Any]]:
    """Hashes of all that a run reads of its images: photos, their annotation, and what draws them."""
    digests = []
    for teaching in teachings:
        ids, source = teaching.ids, teaching.source
        if teaching.is_strong:
            annotation = source.contents.digest(ids, "mask")
        elif teaching.stream.annotation == "image":
            annotation = source.tags.crops.digest(ids)
        else:
            annotation = maps_digest(source.paths.box_maps(str(teaching.method.label_maps)), ids)
        digests.append(
            {
                "images": len(ids),
                "list": sha256_json(ids),
                "photos": source.contents.digest(ids, "photo"),
                "annotation": annotation,
                "drawn_by": sha256_json(source.tags.of(ids).astype(int).tolist()) if tags_draw else None,
            }
        )
    return digests


def stream_names(streams: Sequence[Stream]) -> list[str]:
    """A name for each stream, by which its images are shuffled: `strong`, `weak`, numbered if there are more."""
    names: list[str] = []
    for stream in streams:
        kind = "strong" if stream.is_strong else "weak"
        before = sum(name.rstrip("0123456789") == kind for name in names)
        names.append(f"{kind}{before + 1}" if before else kind)
    return names


def images_of_batch(experiment: Experiment, batch: int) -> list[int]:
    """How many images of a mini-batch each stream gives: its share, rounded so that they sum to the batch.

    Raises:
        WeaksegError: a stream would give none.
    """
    streams = experiment.streams
    exact = [batch * (stream.share if stream.share is not None else 1 / len(streams)) for stream in streams]
    counts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: batch - sum(counts)]:
        counts[i] += 1
    if min(counts) < 1:
        raise WeaksegError(
            f"experiment {experiment.id}: a mini-batch of {batch} has no image for one of its {len(streams)} streams; "
            "raise solver.batch"
        )
    return counts


def _weights_of_loss(streams: Sequence[Stream]) -> list[float]:
    return [stream.weight if stream.weight is not None else 1 / len(streams) for stream in streams]


def _image_stream(name: str, teaching: Teaching, seed: int, threshold: float) -> ImageStream:
    source = teaching.source
    factors = repeat_factors(source.tags.of(teaching.ids), threshold) if threshold else None
    return ImageStream([source.qualified(i) for i in teaching.ids], seed=seed, name=name, factors=factors)
