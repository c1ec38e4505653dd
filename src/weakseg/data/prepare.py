"""Making a study's data set ready: generate, check or download it, and write its manifest."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Study, resolve_path
from weakseg.data.splits import held_out_ids
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, sha256_json
from weakseg.labels import CLASSES
from weakseg.paths import StudyPaths

LISTS = ("train", "train_aug", "val")
"""Lists that every study needs; `crf_val` is made by rule where the folder has none."""


def prepare_data(
    study: Study, paths: StudyPaths, data_root: str | Path | None = None, config_dir: str | Path = "config"
) -> None:
    """Generate, find or download the study's images, check them all, and write `data/manifest.json`.

    Raises:
        WeaksegError: what is missing or wrong, by file.
    """
    root, source = _locate(study, paths, data_root, config_dir)
    folder = VocFolder(root)
    for name in LISTS:
        if not folder.has_list(name):
            raise WeaksegError(
                f"{folder.list_path(name)}: no such list. A study needs train (images with pixel labels), train_aug "
                "(all training images, those of train included) and val; write one image id a line"
            )
    if outside := sorted(set(folder.ids("train")) - set(folder.ids("train_aug"))):
        raise WeaksegError(
            f"{folder.list_path('train')}: {len(outside)} images are not in train_aug, {outside[0]} the first; "
            "add them to train_aug"
        )
    present = folder.check(LISTS)
    overlap = set(folder.ids("train_aug")) & set(folder.ids("val"))
    if overlap:
        raise WeaksegError(
            f"{folder.list_path('val')}: {len(overlap)} images are also in train_aug, {min(overlap)} the first"
        )
    held_out = folder.ids("crf_val") if folder.has_list("crf_val") else held_out_ids(folder.ids("val"))
    strays = sorted(set(held_out) - set(folder.ids("val")))
    if strays:
        raise WeaksegError(f"{folder.list_path('crf_val')}: image {strays[0]} is not in val")
    by_class = np.sum([present[i] for i in folder.ids("train_aug")], axis=0)
    manifest: dict[str, Any] = {
        "name": study.dataset.name,
        "root": str(root),
        "source": source,
        "counts": {name: len(folder.ids(name)) for name in LISTS} | {"crf_val": len(held_out)},
        "crf_val": sorted(held_out),
        "class_images": {name: int(n) for name, n in zip(CLASSES, by_class, strict=True)},
        "list_sha256": {name: sha256_json(folder.ids(name)) for name in LISTS},
    }
    atomic_write_json(paths.manifest, manifest)


def _locate(study: Study, paths: StudyPaths, data_root: str | Path | None, config_dir: str | Path) -> tuple[Path, str]:
    dataset = study.dataset
    if dataset.source == "path":
        return resolve_path(str(dataset.path), data_root=data_root, results=paths.root), "configured folder"
    if dataset.source == "download":
        from weakseg.data.download import download_voc

        return download_voc(paths.root / "data", Path(config_dir) / "datasets.yaml"), "downloaded"
    from weakseg.data.scenes import write_scenes

    assert dataset.scenes is not None  # the config refuses scenes without their sizes
    return write_scenes(paths.root / "data", dataset.scenes), f"generated, seed {dataset.scenes.seed}"


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest's content.

    Raises:
        WeaksegError: no such file, or not a manifest.
    """
    try:
        manifest = json.loads(Path(path).read_text(encoding="utf-8"))
        manifest["root"], manifest["counts"], manifest["crf_val"]
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such manifest; run `weakseg data` first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeaksegError(f"{path}: not a manifest ({error}); delete it and run `weakseg data`") from error
    return manifest


def open_data(manifest_path: str | Path) -> VocFolder:
    """The data set's folder, in the VOC layout."""
    return VocFolder(read_manifest(manifest_path)["root"])


def held_out(manifest_path: str | Path) -> list[str]:
    """The images of val on which the CRF is tuned."""
    return list(read_manifest(manifest_path)["crf_val"])
