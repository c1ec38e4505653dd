"""Scoring the evaluation images with a trained network."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from weakseg.config import Experiment, Network, Preprocessing
from weakseg.data.contents import check_unchanged, read_contents
from weakseg.data.dataset import DataSet, open_data
from weakseg.data.features import FeatureCache
from weakseg.devices import choose_device, describe_device, set_precision, short_name, to_device
from weakseg.errors import WeaksegError
from weakseg.evaluate.score_store import write_scores
from weakseg.model import load_model
from weakseg.model.inputs import network_input, own_cells, padded_sides
from weakseg.paths import StudyPaths

GPU_BATCH = 8
"""Photos that a GPU scores together where nothing is said; a CPU gains nothing by it and takes one by one."""


@torch.no_grad()
def score_run(
    experiment: Experiment, seed: int, paths: StudyPaths, *, batch: int | None = None, test_px: int | None = None
) -> None:
    """Score every photo of a run's list with it, whole and without dropout, into the run's score store.

    The list is that of the evaluation, or the test list for a run of stage `test`. Scores are those of the study's own
    labels, also of a network that learnt those of other data sets.

    Scores are of single precision, whatever the training's. With a frozen trunk the cached maps go through the head
    alone; the result is that of the whole network up to the cache's quantisation.

    Args:
        experiment, seed, paths: the run.
        batch: photos that are scored together, all of one padded size; None: `GPU_BATCH` on a GPU, 1 on a CPU. Scores
            are the same up to rounding.
        test_px: what `network.test_px` says now, which may be other than at the training.

    Raises:
        WeaksegError: the run's network or data are missing, or were changed.
    """
    run = paths.run(experiment.id, seed)
    model, facts = load_model(run.model)
    network: Network = facts["network"].model_copy(update={"test_px": test_px})
    data, contents = open_data(paths.manifest), read_contents(paths.contents)
    ids = data.ids(experiment.scored)
    check_unchanged(data, contents, ids, ["photo"])
    if facts["labels"] != data.labels:
        raise WeaksegError(f"{run.model}: trained for other labels than those of {paths.manifest}; train the run again")
    device = choose_device()
    set_precision("fp32")
    print(f"device: {describe_device(device)}", flush=True)
    batch = batch or (GPU_BATCH if device.type == "cuda" else 1)
    if device.type == "cuda":
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scorer: Callable[[Tensor], Tensor] = model
    if network.freeze_trunk and not facts["multi_scale"]:
        cache = FeatureCache(paths.features(experiment.scored))
        photos = contents.digest(ids, "photo")
        cache.check(network, facts["weights_sha256"], photos, facts.get("projection_sha256"))
        sizes = {image_id: cache.size(image_id) for image_id in ids}
        network = network.model_copy(update={"test_px": None})  # maps are those of photos of their own size
        scorer, read = model.head, lambda image_id: cache.maps(image_id)[None]
    else:
        sizes = {image_id: data.size(image_id) for image_id in ids}
        read = _photo_reader(data, network, facts["preprocessing"])
    groups = batches_of_equal_size(ids, sizes, network, batch)

    found: dict[str, np.ndarray] = {}
    bar = tqdm(total=len(ids), desc=f"scores on {short_name(device)}", unit="photo", mininterval=2)
    for group, inputs in zip(groups, _read_ahead(read, groups, ahead=device.type == "cuda"), strict=True):
        # Halves are what the store holds; they are half as long to bring back.
        scores = model.own_scores(scorer(to_device(inputs, device))).half().cpu().numpy()
        for image_id, values in zip(group, scores, strict=True):
            rows, columns = own_cells(sizes[image_id], network)
            found[image_id] = values[:, :rows, :columns]
        bar.update(len(group))
    bar.close()
    maps = ((image_id, sizes[image_id], found.pop(image_id)) for image_id in ids)
    write_scores(run.scores, maps, stride=network.output_stride, image_scale=network.image_scale)


def batches_of_equal_size(
    ids: Sequence[str], sizes: dict[str, tuple[int, int]], network: Network, batch: int
) -> list[list[str]]:
    """Image ids in groups of `batch` at most, each of one padded size, in the order of their first images.

    Args:
        ids: which.
        sizes: height and width of each photo in its own pixels.
        network: its scale, stride and test size say how photos are padded.
        batch: images a group.
    """
    groups: list[list[str]] = []
    open_groups: dict[tuple[int, int], list[str]] = {}
    for image_id in ids:
        size = padded_sides(sizes[image_id], network)
        group = open_groups.get(size)
        if group is None or len(group) == batch:
            group = open_groups[size] = []
            groups.append(group)
        group.append(image_id)
    return groups


def _photo_reader(data: DataSet, network: Network, preprocessing: Preprocessing) -> Callable[[str], Tensor]:
    def read(image_id: str) -> Tensor:
        image = data.image(image_id)
        return network_input(image, network.image_scale, network.output_stride, preprocessing, network.test_px)

    return read


def _read_ahead(read: Callable[[str], Tensor], groups: Sequence[Sequence[str]], *, ahead: bool) -> Iterator[Tensor]:
    """The inputs of each group; `ahead` of their use, by as many threads as torch has."""

    def joined(group: Sequence[str]) -> Tensor:
        inputs = [read(image_id) for image_id in group]
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs)

    if not ahead:
        yield from map(joined, groups)
        return
    threads = max(1, torch.get_num_threads())
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(joined, group) for group in groups[: 2 * threads]]
        for position in range(len(groups)):
            inputs = waiting.pop(0).result()
            if (later := position + 2 * threads) < len(groups):
                waiting.append(pool.submit(joined, groups[later]))
            yield inputs
