"""Multi-scale branches: the paper's table, a plain loop over a branch, aligned cells, and branches that learn alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from weakseg.config import Network
from weakseg.model import Segmenter, build_model
from weakseg.model.compact import MobileNetV2Trunk, SqueezeNetTrunk, TinyTrunk
from weakseg.model.efficientnet import EfficientNetLiteTrunk
from weakseg.model.multi_scale import Branch, freeze_all_but_branches
from weakseg.model.taps import Tap

COMPACT = ("mobilenet_v2", "efficientnet_lite2", "squeezenet1_1", "tiny")
CASES = [("vgg16", 8), *((trunk, stride) for trunk in COMPACT for stride in (8, 16))]


def network(trunk: str, stride: int = 8, **changes) -> Network:
    return Network(trunk=trunk, output_stride=stride, head_channels=8, crop_px=321, **changes)


def loud(model: Segmenter) -> Segmenter:
    """Branches whose scores are as large as the head's."""
    assert model.branches is not None
    for layer in model.branches.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, 0, 0.1)
    return model


def test_vgg16s_branches_are_those_of_the_table() -> None:
    with torch.device("meta"):
        model = build_model("vgg16-largefov", num_labels=21, multi_scale=True).eval()
        for side, cells in ((321, 41), (513, 65)):
            maps, taps = model.trunk.with_taps(torch.empty(2, 3, side, side))
            sides = (side, 4 * cells - 3, 2 * cells - 1, cells, cells)
            assert maps.shape == (2, 512, cells, cells)
            assert [tuple(tap.shape[1:3]) for tap in taps] == list(zip((3, 64, 128, 256, 512), sides, strict=True))
            assert model(torch.empty(2, 3, side, side)).shape == (2, 21, cells, cells)
    assert model.branches is not None
    rows = [(b.conv_a.in_channels, b.conv_a.stride[0], b.conv_a.kernel_size[0]) for b in model.branches.branches]
    assert rows == [(3, 8, 3), (64, 4, 3), (128, 2, 3), (256, 1, 3), (512, 1, 3)]
    a_branch = 128 + (128 * 128 + 128) + (128 * 21 + 21)  # and the kernels of its first convolution
    expected = 9 * 128 * (3 + 64 + 128 + 256 + 512) + 5 * a_branch
    assert expected == 1_206_121
    assert sum(p.numel() for _, p in model.branch_parameters()) == expected
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 21.7


@pytest.mark.parametrize(
    "build",
    [
        lambda: MobileNetV2Trunk(output_stride=32),
        lambda: EfficientNetLiteTrunk("efficientnet_lite0", output_stride=32),
        lambda: EfficientNetLiteTrunk("efficientnet_lite2", output_stride=32),
        lambda: SqueezeNetTrunk(output_stride=16),
        lambda: TinyTrunk(output_stride=16),
    ],
)
def test_a_compact_trunk_taps_the_last_map_before_each_stride(build) -> None:
    """Held against the sizes of all maps at the network's full stride."""
    with torch.device("meta"):
        trunk, x = build().eval(), torch.empty(1, 3, 321, 321)
        _, taps = trunk.with_taps(x)
        expected = []
        for position, layer in enumerate(trunk.features):
            before, x = x, layer(x)
            if x.shape[2] < before.shape[2]:
                expected.append(Tap(position - 1, before.shape[1], 320 // (before.shape[2] - 1)))
    assert trunk.taps == tuple(expected)
    assert [tuple(maps.shape[1:3]) for maps in taps] == [(tap.channels, 320 // tap.stride + 1) for tap in expected]


@torch.no_grad()
def test_scores_are_single_precision_whatever_the_layers_before() -> None:
    model = loud(build_model(network("tiny"), num_labels=4, multi_scale=True).eval())
    assert model.branches is not None
    with torch.autocast("cpu", torch.bfloat16):
        maps, taps = model.trunk.with_taps(torch.randn(1, 3, 33, 33))
        assert maps.dtype == taps[1].dtype == torch.bfloat16
        scores = model.branches(taps)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


@pytest.mark.parametrize(("trunk", "stride"), CASES)
def test_branches_give_cells_for_every_trunk(trunk: str, stride: int) -> None:
    with torch.device("meta"):
        model = build_model(network(trunk, stride), fov="small", num_labels=5, multi_scale=True).eval()
        for cells in ((1, 1), (3, 4), (8, 5)):
            x = torch.empty(2, 3, *(stride * (n - 1) + 1 for n in cells))
            maps, taps = model.trunk.with_taps(x)
            assert maps.shape == model.trunk(x).shape
            assert model.branches is not None
            for branch, tap in zip(model.branches.branches, taps, strict=True):
                assert branch(tap).shape == (2, 5, *cells)
            assert model(x).shape == (2, 5, *cells)


@pytest.mark.parametrize(("trunk", "stride"), [("vgg16", 8), ("mobilenet_v2", 16), ("squeezenet1_1", 8), ("tiny", 8)])
@torch.no_grad()
def test_taps_are_the_maps_of_the_pass_itself(trunk: str, stride: int) -> None:
    """No later layer changes them in place, and the last map is the trunk's own."""
    torch.manual_seed(0)
    model = build_model(network(trunk, stride)).trunk.eval()
    x = torch.randn(1, 3, 33, 33)
    given = x.clone()
    maps, taps = model.with_taps(x)
    assert torch.equal(maps, model(x)) and torch.equal(x, given)
    for tap, seen in zip(model.taps, taps, strict=True):
        expected = given if tap.layer < 0 else model.features[: tap.layer + 1](given.clone())
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("stride", [1, 2, 8])
@torch.no_grad()
def test_a_branch_is_a_plain_loop(stride: int) -> None:
    torch.manual_seed(0)
    branch = Branch(3, stride=stride, num_labels=4).eval()
    for parameter in branch.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    x = torch.randn(2, 3, 2 * stride + 1, stride + 1)
    padded = functional.pad(x, (1, 1, 1, 1)).double()
    kernel, others = branch.conv_a.weight.double(), (branch.conv_b, branch.classifier)
    expected = torch.empty(2, 4, 3, 2, dtype=torch.double)
    for image in range(2):
        for row in range(3):
            for column in range(2):
                cell = branch.conv_a.bias.double().clone()  # type: ignore[union-attr]
                for i in range(3):
                    for j in range(3):
                        cell += kernel[:, :, i, j] @ padded[image, :, stride * row + i, stride * column + j]
                for layer in others:
                    cell = layer.weight[:, :, 0, 0].double() @ cell.clamp(min=0) + layer.bias.double()  # type: ignore[union-attr]
                expected[image, :, row, column] = cell
    torch.testing.assert_close(branch(x), expected.float(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scores_of_all_branches_and_the_head_are_summed() -> None:
    torch.manual_seed(0)
    model = loud(build_model(network("tiny", skip_classifier=True), num_labels=4, multi_scale=True).eval())
    x = torch.randn(1, 3, 33, 41)
    _, taps = model.trunk.with_taps(x)
    assert model.branches is not None
    parts = [branch(tap) for branch, tap in zip(model.branches.branches, taps, strict=True)]
    assert len(parts) == 4 and all(part.std() > 0.1 for part in parts)
    torch.testing.assert_close(model(x), model.head(model.trunk(x)) + sum(parts))


@torch.no_grad()
def test_with_a_projection_the_head_sees_the_projected_map() -> None:
    torch.manual_seed(0)
    model = build_model(network("tiny", freeze_trunk=True, principal_axes=5), num_labels=4, multi_scale=True).eval()
    assert model.projection is not None and model.branches is not None
    nn.init.normal_(model.projection.weight)
    loud(model)
    x = torch.randn(1, 3, 33, 33)
    maps, taps = model.trunk.with_taps(x)
    torch.testing.assert_close(model(x), model.head(model.projection(maps)) + model.branches(taps))
    assert torch.equal(model.features(x), model.projection(maps))


@pytest.mark.parametrize(("trunk", "stride"), CASES)
@torch.no_grad()
def test_fresh_branches_hardly_change_the_scores(trunk: str, stride: int) -> None:
    torch.manual_seed(0)
    plain = build_model(network(trunk, stride), num_labels=5).eval()
    torch.manual_seed(0)
    model = build_model(network(trunk, stride), num_labels=5, multi_scale=True).eval()
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    x = torch.randn(1, 3, 65, 65)
    before, after = plain(x), model(x)
    assert model.branches is not None
    assert 0 < model.branches(model.trunk.with_taps(x)[1]).abs().max() < 0.01 * max(1.0, float(before.abs().max()))
    torch.testing.assert_close(after, before, rtol=0, atol=0.01 * max(1.0, float(before.abs().max())))
    for branch in model.branches.branches:
        assert branch.conv_b.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert branch.conv_a.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert branch.classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
        assert not any(layer.bias.any() for layer in (branch.conv_a, branch.conv_b, branch.classifier))


@pytest.mark.parametrize(("trunk", "stride"), CASES)
@torch.no_grad()
def test_a_translation_by_the_stride_moves_every_branch_by_one_cell(trunk: str, stride: int) -> None:
    """And mirrored kernels mirror each branch's scores, borders included: cell i is centred at pixel stride * i."""
    torch.manual_seed(1)
    model = loud(build_model(network(trunk, stride), num_labels=3, multi_scale=True).eval())
    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.GroupNorm):  # sees the whole map, so that no cell is away from its border
                setattr(layer, name, nn.Identity())
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = (layer.weight + layer.weight.flip(2)) / 2
        if isinstance(layer, nn.BatchNorm2d) and trunk == "mobilenet_v2":  # whose fresh layers let signals fade
            layer.running_var.fill_(0.1)
    assert model.branches is not None
    clear = -(-200 // stride)  # taps see less than half of this
    x = torch.randn(1, 3, stride * (2 * clear + 6) + 1, 9 if stride == 8 else 17)

    def scores(part: torch.Tensor) -> list[torch.Tensor]:
        taps = model.trunk.with_taps(part)[1]
        return [branch(tap) for branch, tap in zip(model.branches.branches, taps, strict=True)]  # type: ignore[union-attr]

    for first, second, whole, mirrored in zip(
        scores(x[:, :, :-stride]), scores(x[:, :, stride:]), scores(x), scores(x.flip(2)), strict=True
    ):
        inner = first[:, :, clear + 1 : -clear]
        assert inner.shape[2] >= 3 and (inner.amax(2) - inner.amin(2)).max() > 1e-3
        torch.testing.assert_close(inner, second[:, :, clear : -clear - 1], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(mirrored.flip(2), whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("trunk", ["tiny", "mobilenet_v2"])
def test_only_branches_learn_when_all_else_is_frozen(trunk: str) -> None:
    torch.manual_seed(0)
    model = build_model(network(trunk, 16, skip_classifier=True), num_labels=4, multi_scale=True)
    freeze_all_but_branches(model)
    model.train()
    trunk_and_head = [module for part in (model.trunk, model.head) for module in part.modules()]
    assert model.branches is not None and model.training
    assert not any(module.training for module in trunk_and_head)
    assert all(module.training for module in model.branches.modules())
    learnt = dict(model.branch_parameters())
    assert {f"branches.{name}" for name in learnt} == {n for n, p in model.named_parameters() if p.requires_grad}
    loud(model)  # so that a few steps move every layer
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        loss = functional.cross_entropy(model(torch.randn(2, 3, 33, 33)), torch.randint(4, (2, 3, 3)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = model.state_dict()
    assert set(after) == set(before)
    for key, value in before.items():
        assert torch.equal(after[key], value) != key.startswith("branches."), key
    model.eval()
    assert not any(module.training for module in model.modules())


def test_dropout_of_branches_is_active_in_training_alone() -> None:
    torch.manual_seed(0)
    model = loud(build_model(network("tiny"), num_labels=4, multi_scale=True))
    freeze_all_but_branches(model.eval())
    assert not any(module.training for module in model.modules())  # the mode is kept
    x = torch.randn(1, 3, 33, 33)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    assert model.branches is not None and all(branch.dropout.p == 0.5 for branch in model.branches.branches)
    assert torch.equal(model.head(model.features(x)), model.head(model.features(x)))


def test_parameters_of_branches_by_role_are_all_and_apart() -> None:
    with torch.device("meta"):
        model = build_model(network("tiny"), multi_scale=True)
        plain = build_model(network("tiny"))
    assert model.branches is not None
    convolutions = dict(model.branches.convolution_parameters())
    classifiers = dict(model.branches.classifier_parameters())
    assert not set(convolutions) & set(classifiers) and len(classifiers) == 2 * 4 and len(convolutions) == 4 * 4
    assert {**convolutions, **classifiers}.keys() == dict(model.branch_parameters()).keys()
    assert not list(plain.branch_parameters())
    with pytest.raises(ValueError, match="nothing left to learn"):
        freeze_all_but_branches(plain)
