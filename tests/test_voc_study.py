"""The whole study `voc`, shrunk: archives and weights from a local server, VGG-16, one experiment, to the report."""

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fabricate import add_member, sbd_mat, write_voc, write_voc_boxes
from PIL import Image
from planning import Project
from safetensors import safe_open
from serving import served

from weakseg.config import Network
from weakseg.model import build_model
from weakseg.paths import StudyPaths

pytestmark = pytest.mark.timeout(400)

EXPERIMENT = "em_fixed_semi_200"
"""Pixel labels beside tags, in the small field of view."""

SHRUNK = {
    "experiments": [EXPERIMENT],
    "crf": {
        "coarse": {"w": [2, 4], "sigma_xy": [10], "sigma_rgb": [5]}, "refine_rounds": 0, "iterations": 1,
        "finer": [{"w": 1, "sigma_xy": 1, "sigma_rgb": 1}],
    },
}  # fmt: skip
"""Sections of the shrunk study in place of voc's."""

SMALLER = {
    "network": {"head_channels": 4, "crop_px": 33, "test_px": 65},
    "solver": {"iterations": 2, "batch": 2, "batch_for_fov": {"small": 4}, "step_iterations": 1},
}
"""Fields of sections that are voc's otherwise."""

PAGES = ("qualitative", "table1")
"""The pages of this report: the others are drawn in the tiny study."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The archives of VOC and SBD and a file of VGG-16's weights, each with few bytes, and where they are served."""
    folder = tmp_path_factory.mktemp("served")
    layout = write_voc_boxes(write_voc(folder / "VOC2012", train=3, train_aug=6, val=3))
    lists = {name: (layout / f"ImageSets/Segmentation/{name}.txt").read_text().split() for name in ("train", "val")}
    with tarfile.open(folder / "voc.tar", "w") as voc:
        for kind in ("JPEGImages", "Annotations", "ImageSets"):
            voc.add(layout / kind, f"VOCdevkit/VOC2012/{kind}")
        for image_id in (*lists["train"], *lists["val"]):
            for kind in ("SegmentationClass", "SegmentationObject"):
                mask = layout / "SegmentationClassAug" / f"{image_id}.png"
                voc.add(mask, f"VOCdevkit/VOC2012/{kind}/{image_id}.png")
    with tarfile.open(folder / "sbd.tgz", "w:gz") as sbd:
        for mask in sorted((layout / "SegmentationClassAug").glob("*.png")):
            labels = np.array(Image.open(mask))
            for kind, variable in (("cls", "GTcls"), ("inst", "GTinst")):
                add_member(sbd, f"benchmark_RELEASE/dataset/{kind}/{mask.stem}.mat", sbd_mat(variable, labels))
    torch.manual_seed(0)
    state = build_model(Network(trunk="vgg16", head_channels=4)).trunk.state_dict()
    torch.save({re.sub(r"^(features\.)?", "features.", key): value for key, value in state.items()}, folder / "vgg.pth")
    with served(folder) as address:
        yield folder, address


@pytest.fixture(scope="module")
def project(sources: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Project:
    """The workflow with the study `voc`, of which the sizes alone differ, and with the server's addresses."""
    folder, address = sources
    project = Project(tmp_path_factory.mktemp("voc"), project_root)
    config = project.root / "config"

    datasets = yaml.safe_load((config / "datasets.yaml").read_text())
    for name, file, lengths in (("voc2012", "voc.tar", {"train": 3, "val": 3}), ("sbd", "sbd.tgz", {"train_aug": 6})):
        checksum = hashlib.md5((folder / file).read_bytes()).hexdigest()
        datasets[name] |= {"file": file, "checksum": f"md5:{checksum}", "expected": lengths, "size_mb": 1}
        datasets[name]["addresses"] = [f"{address}/{file}"]
    (config / "datasets.yaml").write_text(yaml.safe_dump(datasets))

    weights = yaml.safe_load((config / "weights.yaml").read_text())
    checksum = f"sha256-prefix:{hashlib.sha256((folder / 'vgg.pth').read_bytes()).hexdigest()[:8]}"
    file = {"file": "vgg.pth", "layout": "features", "checksum": checksum, "addresses": [f"{address}/vgg.pth"]}
    weights["vgg16-caffe"]["files"] = [file]
    (config / "weights.yaml").write_text(yaml.safe_dump(weights))

    study = yaml.safe_load((config / "studies" / "voc.yaml").read_text())
    for path in (project.root / "notebooks").glob("*.ipynb"):
        if path.stem not in PAGES:
            path.unlink()
    study |= SHRUNK | {name: study[name] | fields for name, fields in SMALLER.items()}
    (config / "studies" / "voc.yaml").write_text(yaml.safe_dump(study))
    return project


def test_from_addresses_to_the_report(project: Project) -> None:
    words = ("study=voc", "allow_cpu=true")
    project.snakemake("--cores", "1", config=words)
    paths = StudyPaths("voc", project.root / "results")

    (weights,) = (project.cache / "weights").glob("vgg16-caffe-*.safetensors")
    run = paths.run(EXPERIMENT, 0)
    assert len(pd.read_csv(run.train_log)) == 2
    with safe_open(run.model, framework="pt") as model, safe_open(weights, framework="pt") as initial:
        moved = model.get_tensor("trunk.features.0.weight") - initial.get_tensor("features.0.weight")
    assert 0 < moved.abs().max() < 1e-2
    log = (paths.root / "logs" / "train" / f"{EXPERIMENT}_seed0.log").read_text()
    assert "weights: vgg16-caffe" in log and "small field of view" in log and "fresh, scaled to" in log
    assert "2 iterations of 4 images" in log
    index = (paths.report / "index.html").read_text()
    assert "vgg16-caffe" in index and "EM-Fixed (Semi)" in index
    assert all((paths.report / f"{page}.html").stat().st_size > 10_000 for page in PAGES)
    assert project.planned(config=words) == {}
    shutil.rmtree(project.cache / "weights")  # what is finished needs no weights any more
    assert project.planned(config=words) == {}
