"""Making weak annotation, once and before training: image-level labels, those of crops, and boxes.

Training reads these files and nothing else of weakly annotated images: after this step their pixel labels, where they
have any, are not needed again.
"""

import difflib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from weakseg.annotations.box_sources import agreement_of, compare_sources, image_boxes
from weakseg.config import Experiment, Study, load_sheet
from weakseg.data.box_files import write_boxes
from weakseg.data.boxes import ImageBoxes
from weakseg.data.crop_labels import CropGeometry, crop_presence, write_crop_labels
from weakseg.data.dataset import DataSet, open_data, stream_lists, teaching_ids
from weakseg.data.splits import images_of_experiment
from weakseg.data.tag_files import write_tags
from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND
from weakseg.paths import StudyPaths

SHOWN_FAULTS = 5
"""So many faults are named one by one."""


@dataclass
class _Found:
    """What an image's annotation was found to be.

    Attributes:
        tags: (L+1,) bool; None where nothing tells them.
        crops: which labels each crop shows; None without pixel labels.
        boxes: None without boxes.
        compared: how two sources of boxes differ, see `compare_sources`.
        fault: what is wrong with its boxes.
    """

    tags: np.ndarray | None = None
    crops: dict[int, np.ndarray] | None = None
    boxes: ImageBoxes | None = None
    compared: list[tuple[float, int]] | None = None
    fault: str | None = None


def annotate(
    study: Study,
    experiments: Sequence[Experiment],
    paths: StudyPaths,
    config_dir: str | Path = "config",
    *,
    threads: int = 4,
) -> None:
    """Write `image_labels.csv`, `crop_labels.safetensors` and `boxes.json`.

    Image-level labels are those written by hand, else those of the pixel labels, void left out (Papandreou et al. 2015,
    section 4.1: weak annotations are made from the pixel-level ones), else the classes of the boxes. Boxes are tight
    around instance masks, else those drawn by hand; held-out images have theirs too, for the search of Bbox-Seg.

    Raises:
        WeaksegError: an experiment reads annotation that some of its images do not have, or boxes that cannot be used;
            the first images are named, with their number.
    """
    data = open_data(paths.manifest)
    training = teaching_ids(data)
    held_out = [i for i in data.ids("held_out") if i not in set(training)] if study.boxes else []
    geometry = CropGeometry.of(study.network)
    _check_tag_file(data)

    def look(image_id: str) -> _Found:
        return _look(data, image_id, geometry, with_boxes=study.boxes is not None)

    ids = [*training, *held_out]
    with ThreadPoolExecutor(threads) as pool:
        seen = list(tqdm(pool.map(look, ids), total=len(ids), desc="annotation", unit="photo", mininterval=2))
    found = dict(zip(ids, seen, strict=True))
    _check_demands(study, experiments, data, found, config_dir, paths.dataset)
    for fault in [one.fault for one in seen if one.fault][:SHOWN_FAULTS]:
        print(f"left out, as no experiment of the study reads it: {fault}")
    tags = {i: present for i in training if (present := found[i].tags) is not None}
    if not tags:
        raise WeaksegError(f"{paths.manifest}: no training image has annotation of any kind, so nothing can be learned")
    write_tags(paths.image_labels, tags, data.labels)
    write_crop_labels(
        paths.crop_labels, ((i, crops) for i in training if (crops := found[i].crops) is not None), geometry
    )
    boxes = {i: entry for i in ids if (entry := found[i].boxes) is not None}
    agreement = agreement_of([one.compared for one in seen if one.compared is not None])
    write_boxes(paths.boxes, boxes, data.labels, agreement)


def _check_tag_file(data: DataSet) -> None:
    """Say which labels written by hand belong to no image of the lists; raise WeaksegError if none belongs to any."""
    written, known = data.tagged(), {*data.ids("training"), *data.ids("evaluation")}
    strangers = sorted(set(written) - known)
    if not strangers:
        return
    near = difflib.get_close_matches(strangers[0], known, n=1, cutoff=0.5)
    text = (
        f"image_labels: {len(strangers)} of {len(written)} rows are of no image of the lists, {strangers[0]!r} first"
        + (f"; is it {near[0]!r}?" if near else "")
    )
    if len(strangers) == len(written):
        raise WeaksegError(f"{text} Ids are file names without suffix, as the lists write them")
    print(text)


def _look(data: DataSet, image_id: str, geometry: CropGeometry, *, with_boxes: bool) -> _Found:
    found = _Found(tags=data.tags(image_id))
    if data.has_pixel_labels(image_id):
        labels = data.pixel_labels(image_id)
        crops = crop_presence(labels, len(data.labels), geometry)
        # What every crop shows is kept as one value, not as an array of them.
        found.crops = {i: np.broadcast_to(np.True_, p.shape) if p.all() else p for i, p in crops.items()}
        if found.tags is None:
            found.tags = data.labels.present(labels)
    if with_boxes:
        try:
            found.boxes = image_boxes(data, image_id)
            if found.boxes is not None:
                found.compared = compare_sources(data, image_id, found.boxes)
        except WeaksegError as error:
            found.fault = str(error)
    if found.tags is None and found.boxes is not None:
        found.tags = np.zeros(len(data.labels), dtype=bool)
        found.tags[[BACKGROUND, *(box.label for box in found.boxes.boxes)]] = True
    return found


@dataclass
class _Demand:
    """What the images of some streams must have.

    Attributes:
        what: for the message.
        missing: whether an image lacks it.
        ids: images that lack it.
        experiments: ids of those that read it.
    """

    what: str
    missing: Callable[[str], bool]
    ids: dict[str, None] = field(default_factory=dict)
    experiments: dict[str, None] = field(default_factory=dict)


def _check_demands(
    study: Study,
    experiments: Sequence[Experiment],
    data: DataSet,
    found: dict[str, _Found],
    config_dir: str | Path,
    dataset: str | None,
) -> None:
    """Hold what the experiments read against what there is, before anything is trained."""
    demands = {
        "strong": _Demand("pixel labels", lambda i: not data.has_pixel_labels(i)),
        "image": _Demand("image-level labels", lambda i: found[i].tags is None),
        "box": _Demand("boxes", lambda i: found[i].boxes is None),
    }
    paper = load_sheet(config_dir).lists
    lists = {dataset: stream_lists(data)}
    for row in experiments:
        streams = [stream for stream in row.streams if stream.dataset == dataset]
        own = row.model_copy(update={"streams": tuple(streams)})
        for stream, ids in zip(streams, images_of_experiment(study, own, paper, lists), strict=True):
            demand = demands[stream.annotation]
            if lacking := [i for i in ids if demand.missing(i)]:
                demand.ids.update(dict.fromkeys(lacking))
                demand.experiments[row.id] = None
            elif stream.annotation == "strong" and not any(set(found[i].crops or ()) - {BACKGROUND} for i in ids):
                raise WeaksegError(
                    f"experiment {row.id}: no class but the background occurs in the pixel labels of its {len(ids)} "
                    f"strong images, so there is nothing to learn; are masks 1..{len(data.labels) - 1} for the classes?"
                )
    problems = []
    for demand in demands.values():
        if demand.ids:
            faults = [
                (demand is not demands["strong"] and found[i].fault) or f"image {i} has no {demand.what}"
                for i in list(demand.ids)[:SHOWN_FAULTS]
            ]
            problems.append(
                f"{len(demand.ids)} image(s) whose {demand.what} are read by {', '.join(demand.experiments)}:\n  "
                + "\n  ".join(faults)
            )
    if problems:
        raise WeaksegError(
            "annotation that the study's experiments read is missing or faulty. Add it, or name the experiments that "
            "can run in the study's `experiments` (and `boxes: null` where there are no boxes).\n" + "\n".join(problems)
        )
