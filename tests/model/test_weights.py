"""Weights: input conventions, initial weights by file and checksum, trained networks that rebuild themselves."""

import json
import warnings
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from weakseg.config import FieldOfView, InitialWeights, Network, Preprocessing
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file
from weakseg.labels import VOC, LabelSet
from weakseg.model import Segmenter, build_model, load_initial_weights, load_model, preprocess, save_model
from weakseg.model import weights as weights_module
from weakseg.model.heads import FC_SHAPES, REDUCED_FC_SHAPES
from weakseg.model.weights import LoadedWeights

VGG = Preprocessing(channel_order="BGR", scale=1, mean=(103.939, 116.779, 123.68), std=(1, 1, 1))
IMAGENET = Preprocessing()
THREE = LabelSet.of_classes("own", ["cat", "dog", "lawn"], {"lawn": "#00ff00"})


@pytest.mark.parametrize(
    "convention", [VGG, IMAGENET, Preprocessing(channel_order="BGR", scale=2, mean=(1, 2, 3), std=(4, 5, 6))]
)
def test_preprocessing_pixel_by_pixel(convention: Preprocessing) -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    inputs = preprocess(image, convention)
    assert inputs.dtype == torch.float32
    assert inputs.shape == (3, 3, 4)
    for row in range(3):
        for column in range(4):
            for channel in range(3):
                value = float(image[row, column, "RGB".index(convention.channel_order[channel])])
                expected = (convention.scale * value - convention.mean[channel]) / convention.std[channel]
                assert inputs[channel, row, column].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_preprocessing_of_vgg_puts_blue_first() -> None:
    red = np.array([[[255, 0, 0]]], dtype=np.uint8)
    assert preprocess(red, VGG)[:, 0, 0].tolist() == pytest.approx([-103.939, -116.779, 255 - 123.68])


def test_preprocessing_leaves_the_photo_alone() -> None:
    image = np.asarray(Image.new("RGB", (4, 3), (9, 8, 7)))  # read-only, as Pillow gives it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocess(image, IMAGENET)
    floats = np.full((2, 2, 3), 7.0, dtype=np.float32)
    preprocess(floats, VGG)
    assert (floats == 7).all()


def tiny(**changes) -> Network:
    return Network(trunk="tiny", head_channels=8, crop_px=33, **changes)


@pytest.fixture
def trunk_file(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "trunk.safetensors"
    save_file(build_model(tiny()).trunk.state_dict(), path)
    return path


def rewrite(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, path)
    return path


def test_initial_weights_go_into_the_trunk_alone(trunk_file: Path) -> None:
    model = build_model(tiny())
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    load_initial_weights(model, trunk_file, sha256_file(trunk_file))
    stored = load_file(trunk_file)
    assert all(torch.equal(value, stored[key]) for key, value in model.trunk.state_dict().items())
    assert all(torch.equal(value, head[key]) for key, value in model.head.state_dict().items())


def test_half_precision_and_other_classifiers_are_taken_as_they_come(trunk_file: Path) -> None:
    state = {key: value.half() for key, value in load_file(trunk_file).items()}
    rewrite(trunk_file, {**state, "classifier.1.weight": torch.zeros(3, 3)})
    model = build_model(tiny())
    load_initial_weights(model, trunk_file, None)
    for key, value in model.trunk.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


def test_another_checksum_is_refused_and_changes_nothing(trunk_file: Path) -> None:
    model = build_model(tiny())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeaksegError, match=rf"{trunk_file}.*SHA-256.*{'0' * 64}"):
        load_initial_weights(model, trunk_file, "0" * 64)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeaksegError, match=r"nowhere\.safetensors: no such weights file"):
        load_initial_weights(build_model(tiny()), tmp_path / "nowhere.safetensors", None)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("not weights")
    with pytest.raises(WeaksegError, match=r"text\.safetensors: not a safetensors file"):
        load_initial_weights(build_model(tiny()), path, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("features.0.weight"), r"trunk\.safetensors: 1 weights .* missing, features\.0\.weight"),
        (lambda s: s.update({"features.99.bias": torch.zeros(2)}), r"trunk\.safetensors: 1 .* features\.99\.bias"),
        (lambda s: s.update({"features.0.bias": torch.zeros(2)}), r"features\.0\.bias is \(2,\), .* needs \(32,\)"),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_named(trunk_file: Path, change, message: str) -> None:
    state = load_file(trunk_file)
    change(state)
    with pytest.raises(WeaksegError, match=message):
        load_initial_weights(build_model(tiny()), rewrite(trunk_file, state), None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(trunk_file: Path, value: float) -> None:
    state = load_file(trunk_file)
    state["features.0.weight"][0, 0, 0, 0] = value
    with pytest.raises(WeaksegError, match=r"trunk\.safetensors: features\.0\.weight holds values .* not finite"):
        load_initial_weights(build_model(tiny()), rewrite(trunk_file, state), None)


def test_what_comes_from_the_file_and_what_is_fresh_is_told(trunk_file: Path) -> None:
    model = build_model(tiny(skip_classifier=True))
    loaded = load_initial_weights(model, trunk_file, None)
    names = {name for name, _ in model.named_parameters()}
    assert loaded.from_file == {name for name in names if name.startswith("trunk.")}
    assert loaded.fresh == {name for name in names if name.startswith("head.")} and "head.skip.bias" in loaded.fresh


def test_another_networks_file_is_refused(trunk_file: Path) -> None:
    with pytest.raises(WeaksegError, match="missing"):
        load_initial_weights(build_model(Network(trunk="squeezenet1_1", head_channels=4)), trunk_file, None)


def full_vgg(model: Segmenter) -> dict[str, torch.Tensor]:
    """A complete VGG-16 file's content; fc6 and fc7 hold their filter's number, without taking its memory."""
    number = torch.arange(4096.0)
    return {
        **model.trunk.state_dict(),
        "classifier.0.weight": number[:, None].expand(4096, 512 * 49),
        "classifier.0.bias": number + 0.5,
        "classifier.3.weight": number[:, None].expand(4096, 4096),
        "classifier.3.bias": -number,
        "classifier.6.weight": torch.zeros(1000, 1),
        "classifier.6.bias": torch.zeros(1000),
    }


def load_state(
    model: Segmenter, state: dict[str, torch.Tensor], path: Path, monkeypatch: pytest.MonkeyPatch
) -> LoadedWeights:
    """Load what a file of half a gigabyte would hold."""
    path.touch()
    monkeypatch.setattr(weights_module, "load_file", lambda _: state)
    return load_initial_weights(model, path, None)


FC = {f"head.{layer}.{kind}" for layer in ("fc6", "fc7") for kind in ("weight", "bias")}
FC8 = {"head.fc8.weight", "head.fc8.bias"}


def reduced_vgg(model: Segmenter) -> dict[str, torch.Tensor]:
    """The content of a file with the fc-reduced VGG-16."""
    torch.manual_seed(1)
    return {
        **model.trunk.state_dict(),
        "fc6.weight": torch.randn(1024, 512, 3, 3),
        "fc6.bias": torch.randn(1024),
        "fc7.weight": torch.randn(1024, 1024, 1, 1),
        "fc7.bias": torch.randn(1024),
    }


def test_reduced_fc6_and_fc7_load_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("vgg16-largefov")
    state = reduced_vgg(model)
    loaded = load_state(model, state, tmp_path / "vgg.safetensors", monkeypatch)
    assert loaded.fresh == FC8 and loaded.from_file >= FC
    for key in ("fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"):
        assert torch.equal(model.head.state_dict()[key], state[key])


@pytest.mark.parametrize(("fov", "channels"), [("small", None), ("large", 8)])
def test_reduced_fc6_and_fc7_fit_no_other_head(fov, channels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(Network(trunk="vgg16", head_channels=channels), fov=fov)
    before = {key: value.clone() for key, value in model.head.state_dict().items()}
    loaded = load_state(model, reduced_vgg(model), tmp_path / "vgg.safetensors", monkeypatch)
    assert loaded.fresh == FC | FC8
    assert all(torch.equal(value, before[key]) for key, value in model.head.state_dict().items())


def test_reduced_fc_is_no_part_of_another_trunk(trunk_file: Path) -> None:
    state = {**load_file(trunk_file), "fc6.weight": torch.zeros(2)}
    with pytest.raises(WeaksegError, match=r"1 weights are not the trunk's, fc6\.weight"):
        load_initial_weights(build_model(tiny()), rewrite(trunk_file, state), None)


def test_fc6_and_fc7_come_from_a_complete_vgg_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("vgg16-largefov")
    fc8 = model.head.fc8.weight.clone()
    loaded = load_state(model, full_vgg(model), tmp_path / "vgg.safetensors", monkeypatch)
    assert loaded.fresh == FC8 and loaded.from_file >= FC
    kept = torch.arange(0, 4096, 4.0)
    state = model.head.state_dict()
    assert torch.equal(state["fc6.weight"], kept[:, None, None, None].expand(1024, 512, 3, 3))
    assert torch.equal(state["fc6.bias"], kept + 0.5)
    assert torch.equal(state["fc7.weight"], kept[:, None, None, None].expand(1024, 1024, 1, 1))
    assert torch.equal(state["fc7.bias"], -kept)
    assert torch.equal(model.head.fc8.weight, fc8)


@pytest.mark.parametrize("fov", get_args(FieldOfView))
def test_every_head_of_the_papers_takes_fc6_and_fc7_of_a_complete_file(fov, tmp_path: Path) -> None:
    """On no device, as the heads have up to half a gigabyte; which entries they take is tested beside `decimate_fc`."""
    with torch.device("meta"):
        head = build_model(Network(trunk="vgg16"), fov=fov).head
        full = {key: torch.empty(shape) for key, shape in FC_SHAPES.items()}
        reduced = {key: torch.empty(shape) for key, shape in REDUCED_FC_SHAPES.items()}
        taken = weights_module._fully_connected(head, full, tmp_path)
        assert {key: v.shape for key, v in taken.items()} == {key: p.shape for key, p in head.fc_parameters()}
        assert bool(weights_module._fully_connected(head, reduced, tmp_path)) == (fov == "large")


@pytest.mark.parametrize(
    "changes", [{"head_channels": 8}, {"head_channels": 8, "separable_fc6": True}, {"separable_fc6": True}]
)
def test_heads_that_are_not_the_papers_stay_fresh(changes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(Network(trunk="vgg16", **changes))
    before = {key: value.clone() for key, value in model.head.state_dict().items()}
    loaded = load_state(model, full_vgg(model), tmp_path / "vgg.safetensors", monkeypatch)
    assert loaded.fresh == {f"head.{name}" for name, _ in model.head.named_parameters()}
    assert all(torch.equal(value, before[key]) for key, value in model.head.state_dict().items())


def test_fc_weights_of_another_shape_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("vgg16-largefov")
    state = {**full_vgg(model), "classifier.3.bias": torch.zeros(10)}
    with pytest.raises(WeaksegError, match=r"vgg\.safetensors: classifier\.3\.bias is \(10,\)"):
        load_state(model, state, tmp_path / "vgg.safetensors", monkeypatch)


@pytest.mark.parametrize(
    ("network", "fov"),
    [
        (tiny(skip_classifier=True, freeze_trunk=True, weights=InitialWeights(path="gone.safetensors")), "small"),
        (tiny(separable_fc6=True, output_stride=16), "large"),
        (Network(trunk="mobilenet_v2", output_stride=16, head_channels=4), "large"),
        (Network(trunk="squeezenet1_1", head_channels=4), "small"),
    ],
)
def test_a_saved_network_rebuilds_itself(network: Network, fov, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(network, fov=fov, num_labels=4).eval()
    path = tmp_path / "new" / "model.safetensors"
    facts = {"experiment": "em_adapt_weak", "seed": 2}
    save_model(path, model, network=network, fov=fov, preprocessing=VGG, labels=THREE, metadata=facts)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    torch.manual_seed(4)  # what is not in the file would differ
    loaded, metadata = load_model(path)
    assert metadata["network"] == network
    assert metadata["preprocessing"] == VGG
    assert metadata["labels"] == THREE
    assert (metadata["fov"], metadata["experiment"], metadata["seed"]) == (fov, "em_adapt_weak", 2)
    assert not loaded.training
    assert loaded.output_stride == network.output_stride
    x = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("fov", ["rate8", "seven"])
@torch.no_grad()
def test_a_saved_network_keeps_its_branches(fov, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(tiny(), fov=fov, num_labels=4, multi_scale=True).eval()
    for _, parameter in model.branch_parameters():
        parameter.normal_(0, 0.1)
    path = tmp_path / "model.safetensors"
    save_model(path, model, network=tiny(), fov=fov, preprocessing=VGG, labels=THREE, metadata={"multi_scale": False})
    loaded, metadata = load_model(path)
    assert (metadata["fov"], metadata["multi_scale"]) == (fov, True)
    assert loaded.branches is not None and not loaded.training
    x = torch.randn(1, 3, 33, 33)
    assert not torch.allclose(model(x), model.head(model.features(x)), rtol=1e-2)
    assert torch.equal(loaded(x), model(x))


def test_a_file_that_says_nothing_of_branches_has_none(tmp_path: Path) -> None:
    model, path = build_model(tiny(), num_labels=4).eval(), tmp_path / "model.safetensors"
    save_model(path, model, network=tiny(), fov="large", preprocessing=VGG, labels=THREE, metadata={})
    with safe_open(path, framework="pt") as stream:
        facts = json.loads(stream.metadata()["weakseg"])
    assert facts.pop("multi_scale") is False
    save_file(load_file(path), path, metadata={"weakseg": json.dumps(facts)})
    loaded, metadata = load_model(path)
    assert loaded.branches is None and metadata["multi_scale"] is False
    facts["multi_scale"] = True
    save_file(load_file(path), path, metadata={"weakseg": json.dumps(facts)})
    with pytest.raises(WeaksegError, match=r"(?s)not a network saved by this package .*branches"):
        load_model(path)


def test_metadata_cannot_replace_what_rebuilds_the_network(tmp_path: Path) -> None:
    model = build_model(tiny(), num_labels=4)
    path = tmp_path / "model.safetensors"
    facts = {"labels": VOC.to_json(), "fov": "small"}
    save_model(path, model, network=tiny(), fov="large", preprocessing=VGG, labels=THREE, metadata=facts)
    loaded, metadata = load_model(path)
    assert loaded.head.fc8.out_channels == 4
    assert (metadata["labels"], metadata["fov"]) == (THREE, "large")


def test_networks_that_cannot_be_read_are_named(trunk_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeaksegError, match=r"none\.safetensors: no such network"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(WeaksegError, match=r"trunk\.safetensors: not a network"):
        load_model(trunk_file)
    model = build_model(tiny())
    path = tmp_path / "model.safetensors"
    save_model(path, model, network=tiny(), fov="large", preprocessing=VGG, labels=VOC, metadata={})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeaksegError, match=r"model\.safetensors: not a network"):
        load_model(path)
    facts = {
        "network": tiny().model_dump(mode="json"),
        "fov": "large",
        "labels": VOC.to_json(),
        "preprocessing": VGG.model_dump(),
    }
    save_file({"odd": torch.zeros(1)}, path, metadata={"weakseg": json.dumps(facts)})
    with pytest.raises(WeaksegError, match=r"model\.safetensors: not a network"):
        load_model(path)
