"""What a study needs that it does not make itself: photos and initial weights, and whether they are there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from weakseg.config import Dataset, OtherDataset, PaperLists, Study, resolve_path
from weakseg.costs import Images
from weakseg.data.splits import held_out_ids
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths

WEIGHTS = "initial weights"


class Need(NamedTuple):
    """A thing that a study needs from elsewhere."""

    what: str
    place: str
    """Where it lies or shall lie, as the study has it."""
    state: Literal["there", "fetched", "missing"]
    """Whether it is there, or a rule of the workflow fetches it, or a user must bring it."""
    advice: str = ""
    """What is wrong and what to do, where it is missing."""


def outside_needs(study: Study, paths: StudyPaths, data_root: str | Path | None = None) -> list[Need]:
    """Everything that a study needs from elsewhere, and its state; nothing is read but names.

    Args:
        study: whose needs.
        paths: its result files, below which its rules make what is not needed from elsewhere.
        data_root: replaces `{data_root}` in configured paths.
    """
    needs = [
        *(_photos(dataset, name, data_root) for name, dataset in data_sets(study).items()),
        _image_labels(study, data_root),
        _weights(study, paths, data_root),
    ]
    return [need for need in needs if need is not None]


def require_needs(study: Study, paths: StudyPaths, data_root: str | Path | None = None) -> None:
    """Make sure that nothing is missing that a user must bring for a data set of a study.

    What its other data sets need is named too where something is missing; by itself it stops only their own rules, so
    that experiments without them can run. A file of weights without a checksum does not count: it is an input of the
    rules, and another rule may make it.

    Args:
        study, paths: the study and its files, those of one of its other data sets if that is meant.
        data_root: replaces `{data_root}` in configured paths.

    Raises:
        WeaksegError: something is; all of it is named.
    """
    weights = study.network.weights
    named = paths.dataset
    of_others = {f"photos of {name}" for name in study.other_datasets if name != named}
    missing = [need for need in outside_needs(study, paths, data_root) if need.state == "missing"]
    if weights is not None and weights.sha256 is None:
        missing = [need for need in missing if need.what != WEIGHTS]
    if any(need.what not in of_others for need in missing):
        raise WeaksegError(
            f"study {study.name} cannot run, {len(missing)} thing{'s are' if len(missing) > 1 else ' is'} missing:\n"
            + "\n".join(f"  {need.what}: {need.advice}" for need in missing)
            + f"\n`weakseg doctor --study {study.name}` says more"
        )


def data_sets(study: Study) -> dict[str, Dataset]:
    """The data sets of a study, its own first, by what their photos are called in messages."""
    others = {name: other for name, other in study.other_datasets.items() if other is not study.dataset}
    return {"photos": study.dataset} | {f"photos of {name}": other for name, other in others.items()}


def _photos(dataset: Dataset, what: str, data_root: str | Path | None) -> Need | None:
    if dataset.source == "scenes":
        return None
    if dataset.source == "download":
        return Need(what, "config/datasets.yaml", "fetched")
    configured = str(dataset.path)
    if "{results}" in configured:  # a rule's, of this workflow or of one around it
        return None
    try:
        root = resolve_path(configured, data_root=data_root)
        _look_at_coco(root, dataset) if dataset.source == "coco" else _look_at_voc(root, dataset)
    except WeaksegError as error:
        return Need(what, configured, "missing", f"{error}. See docs/data.md")
    return Need(what, str(root), "there")


def _look_at_voc(root: Path, dataset: Dataset) -> None:
    folder, lists = VocFolder(root, dataset.label_set()), dataset.lists
    trained_on = isinstance(dataset, OtherDataset)
    wanted = (lists.training, lists.pixel_labelled) if trained_on else (lists.evaluation,)
    if not any(folder.list_path(name).is_file() for name in wanted):
        raise WeaksegError(f"{folder.list_path(wanted[0])}: no such list")


def _look_at_coco(root: Path, dataset: Dataset) -> None:
    from weakseg.data.coco import PHOTO_FOLDERS, annotation_files

    annotation_files(root, dataset.annotations)
    if not any((root / name).is_dir() for name in PHOTO_FOLDERS):
        raise WeaksegError(f"{root}: no folder of photos ({', '.join(PHOTO_FOLDERS)})")


def _image_labels(study: Study, data_root: str | Path | None) -> Need | None:
    configured = study.dataset.image_labels
    if configured is None:
        return None
    try:
        path = resolve_path(configured, data_root=data_root)
    except WeaksegError as error:
        return Need("image-level labels", configured, "missing", str(error))
    if not path.is_file():
        return Need("image-level labels", configured, "missing", f"{path}: no such file (dataset.image_labels)")
    return Need("image-level labels", str(path), "there")


def _weights(study: Study, paths: StudyPaths, data_root: str | Path | None) -> Need | None:
    weights = study.network.weights
    if weights is None or "{results}" in weights.path:
        return None
    if "{cache}" in weights.path:
        return Need(WEIGHTS, weights.path, "fetched")
    try:
        path = resolve_path(weights.path, data_root=data_root, results=paths.root)
    except WeaksegError as error:
        return Need(WEIGHTS, weights.path, "missing", str(error))
    if not path.is_file():
        advice = f"{path}: no such file; see the README on initial weights, or change network.weights of the study"
        return Need(WEIGHTS, weights.path, "missing", advice)
    return Need(WEIGHTS, str(path), "there")


def image_counts(study: Study, paper: PaperLists, data_root: str | Path | None = None) -> Images:
    """How many images a study has: by its configuration, by the lists of its folder, else as many as the paper.

    Args:
        study: whose images.
        paper: sizes of the paper's lists.
        data_root: replaces `{data_root}` in configured paths.
    """
    scenes = study.dataset.scenes
    if study.dataset.source == "scenes" and scenes is not None:
        return Images(scenes.train_aug, scenes.val, min(scenes.crf_val, scenes.val))
    if study.dataset.source == "path":
        try:
            folder = VocFolder(resolve_path(str(study.dataset.path), data_root=data_root), study.dataset.label_set())
            names = study.dataset.lists
            evaluation = _read(folder, (names.evaluation,))
            training = _read(folder, (names.training, names.pixel_labelled))
            held_out = _read(folder, (names.held_out,)) or held_out_ids(evaluation, paper)
            return Images(len(training), len(evaluation), len(held_out))
        except WeaksegError:  # it is said elsewhere what is wrong
            pass
    return Images(paper.training, paper.evaluation, paper.held_out)


def _read(folder: VocFolder, names: Sequence[str]) -> list[str]:
    """The first of these lists that is there."""
    return next((ids for name in names if (ids := folder.read_list(name)) is not None), [])
