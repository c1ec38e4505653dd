"""All that a run needs before its first iteration: network, mini-batches, optimiser, hash of what decides it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from weakseg import decides
from weakseg.config import Compute, Experiment, Network, Preprocessing, Solver, Stream, Study, load_sheet
from weakseg.data.contents import Contents, check_unchanged, read_contents
from weakseg.data.crop_labels import CropGeometry, CropLabels
from weakseg.data.dataset import DataSet, open_data
from weakseg.data.features import FeatureCache
from weakseg.data.initial_weights import find_weights
from weakseg.data.label_maps import map_reader, maps_digest
from weakseg.data.splits import images_of_streams
from weakseg.data.tag_files import read_tags
from weakseg.devices import choose_device, set_precision
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file, sha256_json
from weakseg.labels import LabelSet
from weakseg.methods import Method
from weakseg.model import Segmenter, build_model, load_initial_weights
from weakseg.model.fresh_layers import CROPS, FreshStart, fresh_layers, scale_fresh_layers
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
    TagAnnotation,
)
from weakseg.train.solver import CaffeSGD, parameter_groups
from weakseg.train.streams import ImageStream, repeat_factors


@dataclass(frozen=True)
class Teaching:
    """How the images of one stream teach.

    Attributes:
        stream: as the experiment says.
        ids: its images.
        method: how they teach.
        constants: of the method.
        weight: of its loss.
        annotation: says what is known of its images.
    """

    stream: Stream
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
        labels: what its labels mean.
        solver: iterations, rates and the rest.
        preprocessing: how pixels enter the trunk.
        decided_by: all that decides the result, and its hash under `hash`.
        model: the network.
        start: which layers of its head are fresh, and how they start.
        trained: the part of it that learns: the head on a frozen trunk, else all.
        called: what gives scores in training: `trained`, joined with that of the other processes.
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
    data, paper = open_data(paths.manifest), load_sheet(config_dir).lists
    contents = read_contents(paths.contents)
    torch.manual_seed(seed)
    chosen = images_of_streams(
        experiment,
        data.ids("pixel_labelled"),
        data.ids("training"),
        counts=study.counts,
        paper=paper,
    )
    everything = [image_id for ids in chosen for image_id in ids]
    strong = [i for stream, ids in zip(experiment.streams, chosen, strict=True) if stream.is_strong for i in ids]
    check_unchanged(data, contents, everything, ["photo"])
    check_unchanged(data, contents, strong, ["mask"])

    weights = None if network.weights is None else find_weights(network.weights, paths.root, data_root)
    weights_sha256 = None if weights is None else sha256_file(weights)
    preprocessing = network.weights.preprocessing if network.weights else Preprocessing()
    projection_sha256 = None if network.principal_axes is None else sha256_file(paths.projection)
    inputs: Inputs
    if network.freeze_trunk:
        cache = FeatureCache(paths.features("training"), memory_share=0.4 / processes.count)
        photos = contents.digest(data.ids("training"), "photo")
        cache.check(network, weights_sha256, photos, projection_sha256)
        inputs = FeatureInputs(network, cache)
    elif hold_photos and study.compute.photos != "files":
        where = device if study.compute.photos == "device" else torch.device("cpu")
        held = HeldPhotos(data, everything, network.image_scale, where, threads=threads, processes=processes.count)
        kept = DevicePhotoInputs if study.compute.photos == "device" else HostPhotoInputs
        inputs = kept(data, network, preprocessing, held)
    else:
        inputs = PhotoInputs(data, network, preprocessing)

    tags = _Tags(study, paths, data)
    weights_of_loss = _weights_of_loss(experiment.streams)
    teachings = [
        Teaching(
            stream,
            ids,
            stream.how,
            study.constants_of(experiment, stream.method),
            weight,
            _annotation(stream, ids, data, study, paths, tags),
        )
        for stream, ids, weight in zip(experiment.streams, chosen, weights_of_loss, strict=True)
    ]
    decided_by = {
        **decides.training(study, experiment, paper),
        "seed": seed,
        "labels": data.labels.to_json(),
        "weights_sha256": weights_sha256,
        "data": _data_digests(teachings, contents, paths, tags, study.sampling.repeat_factor_threshold > 0),
    }
    if projection_sha256 is not None:
        decided_by["projection_sha256"] = projection_sha256
    decided_by["hash"] = sha256_json(decided_by)

    model = build_model(network, fov=experiment.fov, num_labels=len(data.labels))
    loaded: frozenset[str] = frozenset()
    if weights is not None and network.weights is not None:
        loaded = load_initial_weights(model, weights, network.weights.sha256).from_file
    model.load_axes(paths.projection)
    threshold = study.sampling.repeat_factor_threshold
    images_of = images_of_batch(experiment, solver.batch)
    if min(images_of) < processes.count:
        raise WeaksegError(
            f"experiment {experiment.id}: {processes.count} processes cannot share the {min(images_of)} images that a "
            "stream has in a mini-batch; start fewer"
        )
    draws = [
        Draw(_image_stream(name, teaching, seed, threshold, tags), images, teaching.annotation)
        for name, teaching, images in zip(stream_names(experiment.streams), teachings, images_of, strict=True)
    ]
    start = _start(model, network, loaded, Batches(inputs, draws, network, seed), device)
    if device.type == "cuda":
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learnt = [] if network.freeze_trunk else list(model.trunk.named_parameters())
    fresh_fc: list[tuple[str, nn.Parameter]] = []
    for name, parameter in model.fc_parameters():
        (learnt if f"head.{name}" in loaded else fresh_fc).append((name, parameter))
    groups = parameter_groups(learnt, fresh_fc, list(model.classifier_parameters()), solver)
    trained = model.head if network.freeze_trunk else model
    if processes.rank:  # the first draws dropout as one process alone does
        torch.manual_seed(seed_of(seed, processes.rank, 0))
    return Setup(
        run=paths.run(experiment.id, seed),
        labels=data.labels,
        solver=solver,
        preprocessing=preprocessing,
        decided_by=decided_by,
        model=model,
        start=start,
        trained=trained,
        called=processes.joined(trained, device),
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
        if not network.freeze_trunk:
            model.trunk.eval()
            with torch.no_grad():
                maps = [model.trunk(crop) for crop in maps]
        factors = scale_fresh_layers(model.head, maps, fresh)
    broken = isinstance(model.trunk, Vgg16Trunk) and not {"fc6", "fc7"}.isdisjoint(fresh)
    return FreshStart(fresh, factors, breaks_protocol=broken)


class _Tags:
    """Image-level labels, read only if something asks for them."""

    def __init__(self, study: Study, paths: StudyPaths, data: DataSet) -> None:
        self.study, self.paths, self.labels = study, paths, data.labels
        self._tags: Mapping[str, np.ndarray] | None = None
        self._crops: CropLabels | None = None

    @property
    def photos(self) -> Mapping[str, np.ndarray]:
        """(L+1,) bool by image."""
        if self._tags is None:
            self._tags = read_tags(self.paths.image_labels, self.labels)
        return self._tags

    @property
    def crops(self) -> CropLabels:
        """The same for crops."""
        if self._crops is None:
            self._crops = CropLabels(self.photos, self.paths.crop_labels, CropGeometry.of(self.study.network))
        return self._crops

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """(n, L+1) bool of some images."""
        self.check(ids)
        return np.stack([self.photos[i] for i in ids])

    def check(self, ids: Sequence[str]) -> None:
        """Raise WeaksegError unless every image has image-level labels."""
        if missing := [i for i in ids if i not in self.photos]:
            raise WeaksegError(
                f"{self.paths.image_labels}: {len(missing)} of {len(ids)} images are missing, {missing[0]} the first; "
                "add them, or run `weakseg annotate` again"
            )


def _annotation(
    stream: Stream, ids: list[str], data: DataSet, study: Study, paths: StudyPaths, tags: _Tags
) -> Annotation:
    """What is known of a stream's images. Labels of a frozen trunk's few cells are kept in memory."""
    keep = study.network.freeze_trunk
    if stream.annotation == "image":
        tags.check(ids)
        return TagAnnotation(tags.crops)
    if stream.annotation == "box":
        folder = paths.box_maps(str(stream.how.label_maps))
        return MapAnnotation(map_reader(folder, ids, data.labels), study.network, keep=keep)
    if missing := [image_id for image_id in ids if not data.has_pixel_labels(image_id)]:
        raise WeaksegError(
            f"{paths.manifest}: {len(missing)} of {len(ids)} strong images have no pixel labels, {missing[0]} the first"
        )
    return MapAnnotation(data.pixel_labels, study.network, keep=keep)


def _data_digests(
    teachings: Sequence[Teaching], contents: Contents, paths: StudyPaths, tags: _Tags, tags_draw: bool
) -> list[dict[str, Any]]:
    """Hashes of all that a run reads of its images: photos, their annotation, and what draws them."""
    digests = []
    for teaching in teachings:
        ids = teaching.ids
        if teaching.is_strong:
            annotation = contents.digest(ids, "mask")
        elif teaching.stream.annotation == "image":
            annotation = tags.crops.digest(ids)
        else:
            annotation = maps_digest(paths.box_maps(str(teaching.method.label_maps)), ids)
        digests.append(
            {
                "images": len(ids),
                "list": sha256_json(ids),
                "photos": contents.digest(ids, "photo"),
                "annotation": annotation,
                "drawn_by": sha256_json(tags.of(ids).astype(int).tolist()) if tags_draw else None,
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


def _image_stream(name: str, teaching: Teaching, seed: int, threshold: float, tags: _Tags) -> ImageStream:
    factors = repeat_factors(tags.of(teaching.ids), threshold) if threshold else None
    return ImageStream(teaching.ids, seed=seed, name=name, factors=factors)
