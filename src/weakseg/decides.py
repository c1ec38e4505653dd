"""What decides each kind of file, in one place: asked by the rules for their parameters and by a run for its own hash.

Each function gives the part of the configuration that a result depends on, as JSON-able values, and nothing else: a
file is made again when this changes, and only then. What the data hold is not configuration; `training_data` gives it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weakseg.config import Experiment, PaperLists, Solver, Study, resolve_path
from weakseg.config.dataset import ARCHIVES, SCENES_VERSION
from weakseg.data.contents import FileFact, changed_names, known_facts, named_files, read_facts
from weakseg.data.crop_labels import CropGeometry
from weakseg.data.dataset import read_manifest
from weakseg.data.prepare import find_test_photos
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.paths import StudyPaths

UNREAD_OF_SOLVER = {"step": {"poly_power"}, "poly": {"step_iterations", "step_factor"}}
"""Fields that a schedule does not read."""

UNREAD_OF_NETWORK = {"test_px": True}
"""Fields that only the scoring of whole photos reads."""

ADDED: dict[str, dict[str, Any]] = {
    "network": {"fresh_start": "he", "principal_axes": None},
    "solver": {"batch_for_fov": {}},
    "crf": {"finer": []},
    "compute": {"precision": "fp32", "crf": "cores"},
    "dataset": {"annotations": None, "test_photos": None},
}
"""Fields that came after results had been made, by section, each with the value at which a run is what it was before.

At that value a field is left out of what decides, so that earlier results stay valid; at any other it decides.
"""

NOT_OF_WEIGHTS = {"weights": {"path", "name"}}
"""Weights are known by their content, wherever the file lies and whatever it is called."""


def scenes(study: Study) -> Any:
    """The generated images: sizes, seed, the drawn classes, and the version of the generator."""
    sizes = study.dataset.scenes
    if study.dataset.source != "scenes" or sizes is None:
        return None
    return [SCENES_VERSION, sizes.recipe(), study.dataset.label_set().classes[: sizes.classes]]


def data(
    study: Study,
    paper: PaperLists,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    *,
    archives: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """The manifest: what the study says of its data set, and what the files in its folder or its archives hold.

    Args:
        study, paths: the study and its files.
        paper: sizes of the paper's lists, by which images are held out.
        data_root: replaces `{data_root}` in configured paths.
        archives: rows of `datasets.yaml`, of which checksums and lengths decide and addresses do not.
    """
    dataset = study.dataset
    wanted = ARCHIVES[dataset.fetched] if dataset.fetched else ()
    downloaded = {name: row for name, row in (archives or {}).items() if name in wanted}
    return [
        _dataset_fields(study),
        dataset.label_set().to_json(),
        [paper.evaluation, paper.held_out],
        scenes(study),
        {name: [row.get("checksum"), row.get("expected")] for name, row in downloaded.items()},
        _state(study, paths, data_root),
        *_test_photos_state(study, data_root),
    ]


def _test_photos_state(study: Study, data_root: str | Path | None) -> list[Any]:
    """The folder of test photos and the date of its list, while it is there; empty for a study that names none."""
    if study.dataset.test_photos is None:
        return []
    folder = find_test_photos(study, data_root)
    if folder is None:
        return [None]
    listed = folder / "ImageSets" / "Segmentation" / f"{study.dataset.lists.test}.txt"
    return [[str(folder), listed.stat().st_mtime_ns if listed.is_file() else None]]


def _dataset_fields(study: Study) -> dict[str, Any]:
    """What the study says of its data set; what came later and says nothing is left out."""
    fields = study.dataset.model_dump(mode="json", exclude={"shared", "images_for"})
    lists = {role: name for role, name in fields["lists"].items() if name is not None}
    fields = _without_additions("dataset", fields)
    return {**fields, "lists": lists, "scenes": study.dataset.scenes and study.dataset.scenes.recipe()}


def _state(study: Study, paths: StudyPaths, data_root: str | Path | None) -> Any:
    """The state of a user's folder, whatever its layout; None where there is none."""
    if study.dataset.source == "path":
        return _folder_state(study, paths, data_root)
    return _coco_state(study, paths, data_root) if study.dataset.source == "coco" else None


def _coco_state(study: Study, paths: StudyPaths, data_root: str | Path | None) -> Any:
    """The state of a user's folder of MS-COCO, as `_folder_state`; of its conversion nothing is asked."""
    from weakseg.data.coco import folder_state, read_recipe  # of all sources this one alone needs pycocotools

    dataset, converted = study.dataset, paths.converted_coco
    try:
        root = str(resolve_path(str(dataset.path), data_root=data_root, results=paths.root).absolute())
    except WeaksegError:
        recipe = read_recipe(converted)
        if recipe is None:
            return None
        root = recipe.folder
    noted = known_facts(paths.contents)
    photos = {name.removeprefix("photo/"): fact for name, fact in noted.items() if name.startswith("photo/")}
    try:
        return [root, sha256_json(folder_state(root, converted, dataset.annotations, photos))]
    except WeaksegError:
        return None


def _folder_state(study: Study, paths: StudyPaths, data_root: str | Path | None) -> Any:
    """The state of a user's folder: the one that was noted when its content was last read, while that is the same.

    Sizes and dates tell at once that nothing changed. Files whose size or date differ are read; if their content is
    the old one, the state is the old one too.
    """
    folder = _folder(study, paths, data_root)
    if folder is None:
        return None
    lists = study.dataset.list_names()
    ids = {i for name in lists for i in folder.read_list(name) or ()}
    files = named_files(folder, sorted(ids), lists)
    noted = known_facts(paths.contents)
    same = noted.keys() == files.keys() and not changed_names(read_facts(files, noted), noted)
    facts: Mapping[str, FileFact] = noted if same else {}
    state = [[n, f.size, f.mtime_ns] for n, f in sorted(facts.items())] if same else _stat_all(files)
    return [str(folder.root), sha256_json(state)]


def _stat_all(files: Mapping[str, Path]) -> list[list[str | int]]:
    return [[name, (status := files[name].stat()).st_size, status.st_mtime_ns] for name in sorted(files)]


def _folder(study: Study, paths: StudyPaths, data_root: str | Path | None) -> VocFolder | None:
    """The folder as configured now or, where no data root is given, as last used; None where there is none."""
    try:
        root = resolve_path(str(study.dataset.path), data_root=data_root).absolute()
    except WeaksegError:
        if not paths.manifest.is_file():
            return None
        root = Path(read_manifest(paths.manifest)["root"])
    try:
        tags = study.dataset.image_labels and resolve_path(study.dataset.image_labels, data_root=data_root)
        return VocFolder(root, study.dataset.label_set(), tag_file=tags)
    except WeaksegError:
        return None


def annotation(study: Study) -> Any:
    """Image-level labels of photos and crops, and boxes."""
    geometry = CropGeometry.of(study.network)
    of_val = ["val too"] if study.dataset.has_test else []
    return [geometry.side, geometry.image_scale, geometry.stride, geometry.step, study.boxes is None, *of_val]


def trunk(study: Study) -> Any:
    """Pre-trained weights: the trunk and its input."""
    fields = {"trunk", "output_stride", "image_scale", "weights"}
    return study.network.model_dump(mode="json", include=fields, exclude=NOT_OF_WEIGHTS)


def features(study: Study) -> Any:
    """Feature maps of a frozen trunk and their axes."""
    return trunk(study) | _without_additions("network", {"principal_axes": study.network.principal_axes})


def bbox_seg_search(study: Study) -> Any:
    """The search for Bbox-Seg's parameters."""
    if study.boxes is None:
        return None
    fields = study.boxes.model_dump(mode="json", exclude={"quality_images"})
    return {**fields, "search": _without_additions("crf", fields["search"])}


def training(study: Study, experiment: Experiment, paper: PaperLists) -> dict[str, Any]:
    """The configuration of a run: network, solver, sampling, streams, and the constants that their methods read.

    Every value is written out, defaults too, so that a default that is changed in the code makes another run.

    Args:
        study, experiment: the run.
        paper: sizes of the lists that the experiment's counts are meant for.
    """
    solver: Solver = study.solver_of(experiment)
    streams = [
        {
            **stream.model_dump(mode="json", include={"annotation", "method", "images", "share", "weight"}),
            **({"dataset": stream.dataset} if stream.dataset else {}),
            "constants": study.constants_of(experiment, stream.method).model_dump(mode="json"),
        }
        for stream in experiment.streams
    ]
    network = study.network.model_dump(mode="json", exclude={**NOT_OF_WEIGHTS, **UNREAD_OF_NETWORK})
    unread = {"checkpoint_iterations", *UNREAD_OF_SOLVER[solver.schedule]}
    padding_matters = any(stream.how.estep or stream.how.loss for stream in experiment.streams)
    return {
        "network": _without_additions("network", network),
        "fov": experiment.fov,
        "solver": _without_additions("solver", solver.model_dump(mode="json", exclude=unread)),
        "sampling": study.sampling.model_dump(mode="json", exclude=set() if padding_matters else {"valid_cells_only"}),
        "counts": [paper.pixel_labelled, paper.training] if study.counts == "paper" else study.counts,
        "streams": streams,
        **_beyond_one_data_set(study, experiment, paper),
        **_without_additions("compute", study.compute.model_dump(mode="json", include={"precision"})),
    }


def _beyond_one_data_set(study: Study, experiment: Experiment, paper: PaperLists) -> dict[str, Any]:
    """Other data sets, start, stage and branches of a run; empty for one that has none of these."""
    fields: dict[str, Any] = {}
    for name in experiment.datasets:
        other = study.other_datasets[name]
        said = {"shared": other.shared, "images_for": {str(k): v for k, v in sorted(other.images_for.items())}}
        fields.setdefault("other_datasets", {})[name] = {**said, "paper": paper.other[name]}
    if experiment.init_from is not None:
        fields["init_from"] = [experiment.init_from, experiment.fresh_classifier]
    if experiment.stage != "val":
        fields["stage"] = [experiment.stage, experiment.pixel_labels_of_val, paper.evaluation]
    return {**fields, **({"multi_scale": True} if experiment.multi_scale else {})}


def _without_additions(section: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A section's fields without those of `ADDED` at the value that changes nothing."""
    added = ADDED[section]
    return {name: value for name, value in fields.items() if name not in added or value != added[name]}


def estep_maps(study: Study, experiment: Experiment) -> Any:
    """The drawing of E-step maps from a run's snapshots: which images, and the constants of the method."""
    stream = experiment.estep_stream
    constants = stream and study.constants_of(experiment, stream.method).model_dump(mode="json")
    return [study.report.box_images, study.boxes and study.boxes.quality_images, constants]


def label_quality(study: Study) -> Any:
    """The comparison of training labels with the truth: which images, and where their score cells are."""
    count = study.boxes and study.boxes.quality_images
    return [count, study.network.image_scale, study.network.output_stride]


def scoring(study: Study) -> Any:
    """The scoring of whole photos, beside the trained network: to what size they are padded."""
    return study.network.test_px


def crf_search(study: Study) -> Any:
    """The search for the CRF's parameters, and what it runs on where those are not the cores."""
    device = _without_additions("compute", study.compute.model_dump(mode="json", include={"crf"}))
    return {**_without_additions("crf", study.crf.model_dump(mode="json")), **device}
