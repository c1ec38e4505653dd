"""The start of trainings on real photos: the loss begins near ln(L+1) for each trunk and kind of weights, and falls."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from fabricate import make_experiment, make_study, write_voc

from train.runs import network as tiny_network
from train.runs import ready, same
from weakseg.config import load_study
from weakseg.model import load_initial_weights
from weakseg.model.fresh_layers import PROTOCOL_BROKEN
from weakseg.train import setup as preparing
from weakseg.train.loop import taught, train_run
from weakseg.train.mstep import joined_loss
from weakseg.train.setup import Setup, prepare_run

LN_21 = math.log(21)
METHODS = [
    make_experiment("all", strong=10582),
    make_experiment("fixed", weak=10582, method="em_fixed"),
    make_experiment("adapt", weak=10582, method="em_adapt"),
]
VGG_FILE, VGG = "vgg16_features", load_study("voc").network


@pytest.fixture(scope="module")
def photos(shared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of VOC with their masks: eight to train on, four more."""
    real = shared_root / "data" / "voc2012-subset" / "VOCdevkit" / "VOC2012"
    root = tmp_path_factory.mktemp("photos") / "VOC2012"
    ids = (real / "ImageSets" / "Segmentation" / "train.txt").read_text().split()[::60][:12]
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClassAug", "png")):
        (root / folder).mkdir(parents=True)
        for image_id in ids:
            shutil.copy(real / folder / f"{image_id}.{suffix}", root / folder)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, chosen in (("train", ids[:8]), ("train_aug", ids[:8]), ("val", ids[8:])):
        (lists / f"{name}.txt").write_text("\n".join(chosen) + "\n")
    return root


def study_of(photos: Path, network: dict, **solver):
    return make_study(
        photos,
        network={"crop_px": 49, **network},
        solver={"batch": 4, "iterations": 10, **solver},
        boxes=None,
    )


def vgg(shared_root: Path, **changes) -> dict:
    weights = {"path": str(shared_root / "weights" / f"{VGG_FILE}.safetensors")}
    weights["preprocessing"] = VGG.weights.preprocessing.model_dump()
    return {**VGG.model_dump(), "crop_px": 49, "weights": weights, **changes}


def compact(shared_root: Path, trunk: str, **changes) -> dict:
    return {"trunk": trunk, "weights": {"path": str(shared_root / "weights" / f"{trunk}.safetensors")}, **changes}


OWN_STD = {"fc6.weight": 0.005, "fc7.weight": 0.01}
"""Scale of the original fc6 and fc7."""


def pretend_loaded(monkeypatch: pytest.MonkeyPatch, *layers: str) -> None:
    """Let layers of the head count as those of the weights file, at the scale of VGG-16's."""

    def load(model, path, sha256):
        loaded = load_initial_weights(model, path, sha256)
        for name, std in OWN_STD.items():
            if name.startswith(layers):
                torch.nn.init.normal_(model.head.get_parameter(name), 0, std)
        pretended = {f"head.{n}" for n, _ in model.head.named_parameters() if n.startswith(layers)}
        return replace(loaded, from_file=loaded.from_file | pretended)

    monkeypatch.setattr(preparing, "load_initial_weights", load)


def first_loss(setup: Setup) -> float:
    """The loss of the second mini-batch, on which nothing was measured, before any update."""
    batch = setup.batches[1]
    with torch.no_grad():
        scores = setup.trained.train()(setup.inputs.batch(batch.inputs, batch.visible, setup.device))
        losses, _ = taught(setup, batch, scores, 0)
    return float(joined_loss(losses, [teaching.weight for teaching in setup.teachings]))


SUBSET_HEAD = {"head_channels": 128, "skip_classifier": True, "separable_fc6": True, "output_stride": 16}
NARROW = {"head_channels": 128, "skip_classifier": True}
STRONG, FIXED, ADAPT = METHODS
FIRST = {
    "vgg16 large": (lambda root: vgg(root), "large", STRONG, ()),
    "vgg16 small": (lambda root: vgg(root, crop_px=33), "small", ADAPT, ()),
    "vgg16 with its own fc6": (lambda root: vgg(root), "large", FIXED, ("fc6.",)),
    "vgg16 with its own fc6 and fc7": (lambda root: vgg(root), "large", ADAPT, ("fc6.", "fc7.")),
    "vgg16, narrow": (lambda root: vgg(root, **NARROW), "large", FIXED, ()),
    "vgg16, random": (lambda root: vgg(root, weights=None, **NARROW), "small", STRONG, ()),
    "squeezenet": (lambda root: compact(root, "squeezenet1_1"), "large", ADAPT, ()),
    "squeezenet, narrow": (lambda root: compact(root, "squeezenet1_1", **NARROW), "small", STRONG, ()),
    "mobilenet of voc-subset": (lambda root: compact(root, "mobilenet_v2", **SUBSET_HEAD), "large", STRONG, ()),
    "mobilenet of voc-subset, fixed": (lambda root: compact(root, "mobilenet_v2", **SUBSET_HEAD), "small", FIXED, ()),
    "mobilenet, measured": (
        lambda root: compact(root, "mobilenet_v2", fresh_start="measured", **NARROW), "large", ADAPT, ()
    ),
    "tiny, random": (lambda root: {"trunk": "tiny", **NARROW}, "large", FIXED, ()),
}  # fmt: skip
"""Network, field of view, how images teach, and layers that count as the file's."""


@pytest.mark.parametrize("name", FIRST)
def test_the_first_loss_is_near_that_of_equal_scores(name, photos, shared_root, tmp_path, monkeypatch):
    network, fov, row, loaded = FIRST[name]
    study, row = study_of(photos, network(shared_root)), row.model_copy(update={"fov": fov})
    paths = ready(study, tmp_path, [row])
    pretend_loaded(monkeypatch, *loaded)
    setup = prepare_run(study, row, 0, paths)
    assert first_loss(setup) == pytest.approx(LN_21, abs=0.3)
    assert setup.start.breaks_protocol == (name.startswith("vgg16") and len(loaded) < 2)


def test_a_measured_start_of_vgg16_falls_at_the_paper_s_rates(photos, shared_root, tmp_path, capsys):
    """With He's start the first loss of this run is above 5, and later ones are higher."""
    study = study_of(photos, vgg(shared_root, crop_px=33), iterations=9, lr=0.001)
    paths = ready(study, tmp_path, METHODS[:1])
    train_run(study, METHODS[0], 0, paths)
    losses = pd.read_csv(paths.run("all", 0).train_log)["loss"]
    assert abs(losses[0] - LN_21) < 0.3
    assert losses.max() < losses[0] + 1 and losses[5:].mean() < losses[0] - 0.5
    assert PROTOCOL_BROKEN in capsys.readouterr().out
    start = json.loads(paths.run("all", 0).config.read_text())["start"]
    assert start["layers"] == ["fc6", "fc7", "fc8"] == list(start["factors"]) and start["breaks_protocol"]


def multipliers(setup: Setup) -> dict[str, float]:
    """Multiplier of the rate by parameter."""
    names = {id(p): name for name, p in setup.model.named_parameters()}
    return {names[id(p)]: multiplier for group, multiplier, _ in setup.optimiser.groups for p in group}


@pytest.mark.parametrize("frozen", [False, True])
def test_fc_layers_from_the_weights_learn_at_multiplier_1_and_fresh_ones_at_the_configured_one(
    frozen, tmp_path, monkeypatch
):
    root = write_voc(tmp_path / "VOC2012")
    study = make_study(
        root, network=tiny_network(tmp_path, frozen=frozen), solver={"batch": 4, "head_lr_multiplier": 7}
    )
    paths = ready(study, tmp_path / "results", METHODS[:1])
    every = {"head.fc8.weight": 10, "head.fc8.bias": 20, "head.skip.weight": 10, "head.skip.bias": 20}
    if not frozen:
        every |= {"trunk.features.0.weight": 1, "trunk.features.0.bias": 2}
    for loaded, fc6, fc7 in (((), 7, 7), (("fc6.",), 1, 7), (("fc6.", "fc7."), 1, 1)):
        with monkeypatch.context() as patch:
            pretend_loaded(patch, *loaded)
            setup = prepare_run(study, METHODS[0], 0, paths)
        found = multipliers(setup)
        fc = {"head.fc6.weight": fc6, "head.fc6.bias": 2 * fc6, "head.fc7.weight": fc7, "head.fc7.bias": 2 * fc7}
        assert {**found, **every, **fc} == found
        assert ("trunk.features.0.weight" in found) != frozen
        assert set(setup.start.layers) == {"fc6", "fc7", "fc8", "skip"} - {name.strip(".") for name in loaded}
        assert not setup.start.breaks_protocol  # a tiny trunk follows no paper


def test_the_start_depends_on_the_seed_and_draws_nothing(tmp_path):
    root = write_voc(tmp_path / "VOC2012")
    states = {}
    for start in ("measured", "he"):
        study = make_study(root, network=tiny_network(tmp_path, fresh_start=start))
        paths = ready(study, tmp_path / "results", METHODS[:1])
        setups = [prepare_run(study, METHODS[0], seed, paths) for seed in (0, 0, 1)]
        states[start] = torch.get_rng_state()
        first, second, other = (setup.model.head.state_dict() for setup in setups)
        assert same(first, second) and not same(first, other)
        assert bool(setups[0].start.factors) == (start == "measured")
        assert len({setup.decided_by["hash"] for setup in setups}) == 2
    assert torch.equal(states["measured"], states["he"])
