"""Compact trunks: the dilated map holds the cells of the network at its full stride; norms keep their statistics."""

import pytest
import torch
from torch import nn

from weakseg.config import Network
from weakseg.model import build_model, load_initial_weights
from weakseg.model.compact import MobileNetV2Trunk, SqueezeNetTrunk, TinyTrunk

SHA256 = {
    "mobilenet_v2": "010c5e64ed39cf5e03739b04b1a3b1a5bc51ad251a66dcbbddadcb116b5a1866",
    "squeezenet1_1": "102fa02ec826921aae2c3408f9f154381a466f8210fead01b8aa941ee607e4e8",
}


def original_mobilenet(state: dict[str, torch.Tensor]) -> nn.Module:
    """torchvision's own network at stride 32."""
    import torchvision  # as long to import as torch itself

    model = torchvision.models.mobilenet_v2(weights=None)
    model.load_state_dict(state, strict=False)
    return model.features.eval()


def aligned_squeezenet(state: dict[str, torch.Tensor]) -> nn.Module:
    """torchvision's own layers at stride 16, padded so that cells do not drift."""
    import torchvision

    features = torchvision.models.squeezenet1_1(weights=None).features
    features[0].padding = (1, 1)
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            layer.padding, layer.ceil_mode = 1, False
    full = nn.Module()
    full.features = features
    full.load_state_dict(state)
    return features.eval()


@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_mobilenet_holds_the_cells_of_stride_32(output_stride: int) -> None:
    torch.manual_seed(0)
    trunk = MobileNetV2Trunk(output_stride=output_stride).eval()
    for layer in trunk.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.uniform_(1, 2)
            layer.bias.normal_(0, 0.1)
    x = torch.randn(1, 3, 65, 97)
    coarse = original_mobilenet(trunk.state_dict())(x)
    step = 32 // output_stride
    assert coarse.shape[2:] == (3, 4)
    assert coarse.std() > 1e-4
    torch.testing.assert_close(trunk(x)[:, :, ::step, ::step], coarse, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_squeezenet_holds_the_cells_of_stride_16() -> None:
    torch.manual_seed(0)
    fine = SqueezeNetTrunk(output_stride=8).eval()
    coarse = SqueezeNetTrunk(output_stride=16).eval()
    coarse.load_state_dict(fine.state_dict())
    x = torch.randn(1, 3, 65, 81)
    expected = aligned_squeezenet(fine.state_dict())(x)
    assert expected.shape[2:] == (5, 6)
    assert expected.std() > 1e-4
    torch.testing.assert_close(coarse(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fine(x)[:, :, ::2, ::2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trunk", ["mobilenet_v2", "squeezenet1_1"])
@torch.no_grad()
def test_imagenet_weights_load_and_give_the_original_features(shared_root, trunk: str) -> None:
    path = shared_root / "weights" / f"{trunk}.safetensors"
    model = build_model(Network(trunk=trunk, output_stride=8, head_channels=4)).eval()
    load_initial_weights(model, path, SHA256[trunk])
    build = original_mobilenet if trunk == "mobilenet_v2" else aligned_squeezenet
    torch.manual_seed(0)
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 9, 9), size=(97, 97), mode="bicubic")
    expected = build(model.trunk.state_dict())(x)
    step = 96 // (expected.shape[2] - 1) // 8
    maps = model.trunk(x)
    assert expected.std() > 0.05  # trained features answer, fresh ones hardly do
    torch.testing.assert_close(maps[:, :, ::step, ::step], expected, rtol=1e-3, atol=1e-3)


def test_batch_norms_keep_their_statistics_while_training() -> None:
    model = build_model(Network(trunk="mobilenet_v2", output_stride=16, head_channels=4, dropout=0.0))
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
    model.train()
    assert model.head.training
    assert model.trunk.training
    assert not any(norm.training for norm in norms)
    x = torch.randn(2, 3, 33, 33)
    training = model(x).detach()
    for norm, mean in zip(norms, before, strict=True):
        assert torch.equal(norm.running_mean, mean)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(training, model.eval()(x))


@pytest.mark.parametrize("trunk", [MobileNetV2Trunk, TinyTrunk])
@torch.no_grad()
def test_bounded_maps_stay_in_their_bounds(trunk) -> None:
    """The feature cache stores them in equal steps of this range."""
    torch.manual_seed(0)
    maps = trunk(output_stride=8).eval()(100 * torch.randn(1, 3, 65, 65))
    assert maps.min() >= 0
    assert 0 < maps.max() <= trunk.bound


def test_tiny_is_small() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in TinyTrunk(output_stride=8).parameters()) < 600_000
