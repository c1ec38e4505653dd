"""Making a study's data set ready: generate, find or download it, check it, and write its manifest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Lists, OtherDataset, Study, load_sheet, resolve_path
from weakseg.data.contents import known_facts, named_files, read_facts, write_contents
from weakseg.data.splits import held_out_ids, stand_in_test_ids
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, sha256_json
from weakseg.labels import BACKGROUND
from weakseg.paths import StudyPaths


def prepare_data(
    study: Study,
    paths: StudyPaths,
    data_root: str | Path | None = None,
    config_dir: str | Path = "config",
    *,
    threads: int = 1,
) -> None:
    """Generate, find or download the study's images, check what there is, and write `data/manifest.json`.

    The manifest holds label set, lists and counts; `data/contents.json` beside it holds the hash of every file. A data
    set that is only trained on (`study` is `Study.of_dataset` of one) has no images that are scored.

    Args:
        study, paths: the study and its files.
        data_root: replaces `{data_root}` in configured paths.
        config_dir: folder of the sheets.
        threads: processes that convert MS-COCO.

    Raises:
        WeaksegError: what is missing or wrong, by file.
    """
    root, source = _locate(study, paths, data_root, config_dir, threads)
    labels = study.dataset.label_set()
    tag_file = study.dataset.image_labels and resolve_path(study.dataset.image_labels, data_root=data_root)
    test_photos = find_test_photos(study, data_root)
    folder = VocFolder(root, labels, tag_file=tag_file, test_photos=test_photos)
    if isinstance(study.dataset, OtherDataset):
        lists = _read_training_list(folder, study.dataset.lists)
    else:
        lacking = study.dataset.test_photos is not None and test_photos is None
        lists = _read_lists(folder, study.dataset.lists, may_lack_test=lacking)
        if lacking:
            print(f"{study.dataset.test_photos}: not there, so runs of the test stage cannot be made (docs/data.md)")
    if "held_out" not in lists:
        lists["held_out"] = held_out_ids(lists["evaluation"], load_sheet(config_dir).lists)
    if (share := study.dataset.lists.test_of_val) is not None:
        lists["test"] = stand_in_test_ids(lists["evaluation"], lists["held_out"], share)
    folder.lists = dict(lists)
    everything = list(dict.fromkeys([*lists["training"], *lists["evaluation"], *lists.get("test", ())]))
    present = _check_images(folder, everything, scored=set(lists["evaluation"]))
    images_with = np.zeros(len(labels), dtype=int)
    for image_id in lists["training"]:
        images_with += present.get(image_id, np.zeros(len(labels), dtype=bool))
    labelled = sum(image_id in present for image_id in lists["training"])
    by_hand = folder.tag_file.is_file() or any("boxes" in folder.files(image_id) for image_id in lists["training"])
    if labelled and not by_hand and not np.delete(images_with, BACKGROUND).any():
        raise WeaksegError(
            f"{folder.mask_folder}: no class but the background occurs in the {labelled} masks of training images, so "
            f"there is nothing to learn; are their values 1..{len(labels) - 1} for the classes and 255 for void?"
        )
    names = study.dataset.list_names()
    write_contents(paths.contents, read_facts(named_files(folder, everything, names), known_facts(paths.contents)))
    manifest: dict[str, Any] = {
        "name": study.dataset.name,
        "reader": "voc",
        "root": str(root),
        "source": source,
        "tag_file": None if tag_file is None else str(tag_file),
        **({} if test_photos is None else {"test_photos": str(test_photos)}),
        "labels": labels.to_json(),
        "lists": lists,
        "counts": {role: len(ids) for role, ids in lists.items()},
        "list_sha256": {role: sha256_json(ids) for role, ids in lists.items()},
        "pixel_labelled_training": labelled,
        "class_images": labels.by_name(images_with.tolist()),
    }
    atomic_write_json(paths.manifest, manifest)


def _locate(
    study: Study, paths: StudyPaths, data_root: str | Path | None, config_dir: str | Path, threads: int
) -> tuple[Path, str]:
    dataset = study.dataset
    if dataset.of_coco:
        from weakseg.data.coco import convert_coco

        if dataset.source == "download":
            from weakseg.data.download import download_coco

            given, source = download_coco(paths.images, Path(config_dir) / "datasets.yaml"), "downloaded, converted"
        else:
            given = resolve_path(str(dataset.path), data_root=data_root, results=paths.root)
            source = "configured folder, converted"
        converted = paths.converted_coco.absolute()
        convert_coco(given, converted, dataset.annotations, processes=threads)
        return converted, source
    if dataset.source == "path":
        return resolve_path(str(dataset.path), data_root=data_root, results=paths.root).absolute(), "configured folder"
    if dataset.source == "download":
        from weakseg.data.download import download_voc

        return download_voc(paths.images, Path(config_dir) / "datasets.yaml"), "downloaded"
    assert dataset.scenes is not None  # the config refuses scenes without their sizes
    root = paths.images / "voc"
    if not root.is_dir():
        raise WeaksegError(f"{root}: no such folder; run `weakseg scenes` first")
    return root, f"generated, seed {dataset.scenes.seed}"


def find_test_photos(study: Study, data_root: str | Path | None) -> Path | None:
    """The folder of test photos that a study names; None where it names none, or where it is not there."""
    if study.dataset.test_photos is None:
        return None
    try:
        folder = resolve_path(study.dataset.test_photos, data_root=data_root)
    except WeaksegError:  # no data root is given
        return None
    return folder.absolute() if folder.is_dir() else None


def _read_lists(folder: VocFolder, names: Lists, *, may_lack_test: bool) -> dict[str, list[str]]:
    """The lists by what they are for, held against each other; `held_out` only where the folder has one."""
    named = names.model_dump(exclude={"test_of_val"})
    found = {role: folder.read_list(name) for role, name in named.items() if name is not None}
    lists = {role: ids for role, ids in found.items() if ids is not None}
    lists.setdefault("training", lists.get("pixel_labelled", []))
    lists.setdefault("pixel_labelled", [])
    for role, name in (("training", names.training), ("evaluation", names.evaluation)):
        if not lists.get(role):
            raise WeaksegError(
                f"{folder.list_path(name)}: no such list. A study needs {names.evaluation} (images that are scored) "
                f"and {names.training} (all training images), or {names.pixel_labelled} alone where all training "
                "images have pixel labels; write one image id a line"
            )
    _inside(folder.list_path(names.pixel_labelled), lists["pixel_labelled"], lists["training"], names.training)
    _inside(folder.list_path(names.held_out), lists.get("held_out", []), lists["evaluation"], names.evaluation)
    if overlap := set(lists["training"]) & set(lists["evaluation"]):
        raise WeaksegError(
            f"{folder.list_path(names.evaluation)}: {len(overlap)} images are also in {names.training}, {min(overlap)} "
            "the first"
        )
    if names.test is not None:
        lists.setdefault("test", [])
        if lists["test"] or not may_lack_test:
            _check_test_list(folder.list_path(names.test), lists)
    return lists


def _check_test_list(path: Path, lists: dict[str, list[str]]) -> None:
    """Raise WeaksegError unless there are test images, of which no training sees any."""
    if not lists.get("test"):
        raise WeaksegError(f"{path}: no such list, or an empty one; write one image id a line, or say `test: null`")
    if overlap := set(lists["test"]) & {*lists["training"], *lists["evaluation"]}:
        raise WeaksegError(
            f"{path}: {len(overlap)} images are trained on as well, {min(overlap)} the first; runs of the second stage "
            "train on the training images and on those of the evaluation"
        )


def _read_training_list(folder: VocFolder, names: Lists) -> dict[str, list[str]]:
    """The lists of a data set that is only trained on: all its images may have pixel labels, and none is scored."""
    ids = next((ids for name in (names.training, names.pixel_labelled) if (ids := folder.read_list(name))), None)
    if ids is None:
        raise WeaksegError(
            f"{folder.list_path(names.training)}: no such list. A data set that is trained on needs it (all training "
            "images); write one image id a line"
        )
    return {"pixel_labelled": ids, "training": ids, "evaluation": [], "held_out": []}


def _inside(path: Path, part: Sequence[str], whole: Sequence[str], name: str) -> None:
    if outside := sorted(set(part) - set(whole)):
        raise WeaksegError(f"{path}: {len(outside)} images are not in {name}, {outside[0]} the first; add them there")


def _check_images(
    folder: VocFolder, ids: Sequence[str], *, scored: set[str], threads: int = 4
) -> dict[str, np.ndarray]:
    """Read every photo and every mask whole and hold one against the other; the labels of each mask, (L+1,) bool.

    Images that are scored must have a mask, others need none.

    Raises:
        WeaksegError: missing photo, wrong size, RGB mask, label out of range, truncated file; the first five faults are
            named, with their number.
    """

    def check(image_id: str) -> np.ndarray | str | None:
        try:
            image = folder.image(image_id)
            if not folder.has_pixel_labels(image_id) and image_id not in scored:
                return None
            values = folder.pixel_labels(image_id)
            assert values.shape == image.shape[:2]
            return folder.labels.present(values)
        except WeaksegError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        checked = dict(zip(ids, pool.map(check, ids), strict=True))
    if faults := [fault for fault in checked.values() if isinstance(fault, str)]:
        raise WeaksegError(f"{folder.root}: {len(faults)} faulty image(s):\n  " + "\n  ".join(faults[:5]))
    present = {i: found for i, found in checked.items() if isinstance(found, np.ndarray)}
    if void := [image_id for image_id, found in present.items() if not found.any()]:
        print(f"{len(void)} of {len(present)} masks are void everywhere and say nothing, {void[0]} the first")
    return present
