"""Pre-training: the trunk learns to tell objects apart, the same way every time, and its file fits the study."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from weakseg.config import Study
from weakseg.config.dataset import Dataset
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet
from weakseg.model import build_model, load_initial_weights
from weakseg.paths import StudyPaths
from weakseg.scenes.write import write_scenes
from weakseg.train import pretrain

COLOURS = {"aeroplane": (200, 60, 60), "bicycle": (60, 190, 60), "bird": (60, 70, 210)}


def make_study(**network) -> Study:
    scenes = {"height_px": 32, "width_px": 32, "train": 1, "train_aug": 2, "val": 1, "crf_val": 1, "classes": 3}
    weights = {"path": "{results}/weights/trunk.safetensors", "preprocessing": {"channel_order": "BGR"}}
    return Study.model_validate(
        {
            "name": "singles",
            "description": "Coloured discs.",
            "dataset": {
                "name": "discs",
                "source": "scenes",
                "scenes": {**scenes, "pretrain_per_class": 2, "pretrain_size_px": 32},
            },
            "network": {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "weights": weights, **network},
        }
    )


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    paths = StudyPaths("singles", tmp_path)
    write_scenes(paths.images, make_study().dataset.scenes)
    return paths


def write_discs(paths: StudyPaths, per_class: int) -> None:
    """One disc of the class's colour on grey, anywhere."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for name, colour in COLOURS.items():
        folder = paths.images / "pretrain" / name
        shutil.rmtree(folder)
        folder.mkdir()
        for index in range(per_class):
            image = rng.normal(120, 20, (32, 32, 3))
            centre = rng.integers(8, 24, 2)
            inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 49
            image[inside] = np.array(colour) + rng.normal(0, 20, (inside.sum(), 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index:04d}.png")


def facts(paths: StudyPaths) -> dict:
    with safe_open(paths.pretrained, framework="pt") as stream:
        return json.loads(stream.metadata()["weakseg"])


def test_the_trunk_learns_and_its_file_loads(paths: StudyPaths) -> None:
    write_discs(paths, 40)
    study = make_study()
    pretrain.pretrain_trunk(study, paths, epochs=8, batch=16)
    found = facts(paths)
    assert found["images"] == 108
    assert found["accuracy"] >= 0.8  # chance: a third
    assert found["preprocessing"]["channel_order"] == "BGR"
    log = pd.read_csv(paths.pretrained.with_name("pretrain_log.csv"))
    assert list(log.columns) == ["epoch", "loss", "lr", "seconds"]
    assert list(log.epoch) == list(range(1, 9))
    assert log.loss.iloc[-1] < 0.6 * log.loss.iloc[0]
    assert log.lr.iloc[-1] < 1e-4 < log.lr.max()
    model = build_model(study.network)
    load_initial_weights(model, paths.pretrained, None)
    stored = load_file(paths.pretrained)
    assert all(torch.equal(value, stored[key]) for key, value in model.trunk.state_dict().items())


def test_twice_gives_the_same_bytes_and_fewer_images_than_a_batch_are_one(paths: StudyPaths) -> None:
    study = make_study()
    torch.manual_seed(0)
    fresh = build_model(study.network).trunk.state_dict()
    pretrain.pretrain_trunk(study, paths, epochs=2)
    first = paths.pretrained.read_bytes()
    torch.rand(7)  # what happened before makes no difference
    pretrain.pretrain_trunk(study, paths, epochs=2)
    assert paths.pretrained.read_bytes() == first
    assert facts(paths)["accuracy"] is None  # six images: none is held out
    assert facts(paths)["images"] == 6
    trained = load_file(paths.pretrained)
    assert not all(torch.equal(trained[key], value) for key, value in fresh.items())
    left = {p.name for p in paths.pretrained.parent.iterdir()}
    assert left == {"trunk.safetensors", "pretrain_log.csv"}


@pytest.mark.parametrize("names", [None, ["bird", "bicycle", "aeroplane"]], ids=["voc", "own"])
def test_labels_are_the_study_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names) -> None:
    labels = VOC if names is None else LabelSet.of_classes("own", names)
    study = make_study()
    if names is not None:
        study = study.model_copy(update={"dataset": Dataset(**{**study.dataset.model_dump(), "labels": names})})
    paths = StudyPaths("singles", tmp_path)
    write_scenes(paths.images, study.dataset.scenes, labels)
    seen: set[int] = set()
    original = pretrain.functional.cross_entropy

    def spy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.update(targets.tolist())
        assert scores.shape == (len(targets), len(labels))
        return original(scores, targets)

    monkeypatch.setattr(pretrain.functional, "cross_entropy", spy)
    pretrain.pretrain_trunk(study, paths, epochs=1)
    assert seen == {labels.index(name) for name in COLOURS}


def test_augmented_images_are_moved_copies() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(40, 3, 32, 32)
    moved = pretrain._augment(ramp)
    assert moved.shape == ramp.shape
    slopes = moved[:, 0, 16, 8:24].diff(dim=1)
    assert torch.allclose(slopes, slopes[:, :1].expand_as(slopes), atol=1e-4)
    sizes = slopes[:, 0].abs()
    assert sizes.min() >= 0.8 - 1e-4
    assert sizes.max() <= 1.2 + 1e-4
    assert 5 < (slopes[:, 0] < 0).sum() < 35  # mirrored by halves
    one = torch.zeros(1, 3, 32, 32)
    one[:, :, 16, 16] = 1
    places = {
        tuple(divmod(int((a - a.median()).abs()[0].argmax()), 32)) for a in pretrain._augment(one.repeat(40, 1, 1, 1))
    }
    assert len(places) > 10
    assert all(abs(row - 16) <= 4 and (abs(column - 16) <= 4 or abs(column - 15) <= 4) for row, column in places)


def test_what_cannot_be_pretrained_is_named(paths: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(WeaksegError, match=r"singles.*below \{results\}"):
        pretrain.pretrain_trunk(make_study(weights={"path": "/elsewhere/vgg.safetensors"}), paths)
    with pytest.raises(WeaksegError, match=r"singles.*below \{results\}"):
        pretrain.pretrain_trunk(make_study(weights=None), paths)
    with pytest.raises(WeaksegError, match="weakseg scenes"):
        pretrain.pretrain_trunk(make_study(), StudyPaths("nothing", tmp_path))
    shutil.rmtree(paths.images / "pretrain")
    with pytest.raises(WeaksegError, match="no images"):
        pretrain.pretrain_trunk(make_study(), paths)


def test_a_loss_that_is_not_finite_leaves_no_weights(paths: StudyPaths) -> None:
    with pytest.raises(WeaksegError, match=r"study singles: the loss of the pre-training is not finite in epoch"):
        pretrain.pretrain_trunk(make_study(), paths, epochs=4, lr=1e30)
    assert not paths.pretrained.exists()
