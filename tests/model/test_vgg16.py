"""The VGG-16 trunk and the paper's networks: layers, maps, parameter counts, weights by torchvision's names."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from weakseg.config import Network
from weakseg.errors import WeaksegError
from weakseg.model import build_model, load_initial_weights
from weakseg.model.vgg16 import Vgg16Trunk


@pytest.mark.parametrize(
    ("name", "millions"),
    [("vgg16-smallfov", 65.1), ("vgg16-rate8", 65.1), ("vgg16-7x7", 134.3), ("vgg16-largefov", 20.5)],
)
def test_the_papers_networks(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = build_model(name, num_labels=21).eval()
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
        assert model.output_stride == 8
        for side, cells in ((321, 41), (513, 65)):
            maps = model.trunk(torch.empty(1, 3, side, side))
            assert maps.shape == (1, 512, cells, cells)
            assert model.head(maps).shape == (1, 21, cells, cells)


def test_trunk_has_torchvisions_names_and_shapes() -> None:
    import torchvision  # as long to import as torch itself

    with torch.device("meta"):
        ours = Vgg16Trunk(average_pool5a=True).state_dict()
        theirs = torchvision.models.vgg16(weights=None).state_dict()
    features = {key: value.shape for key, value in theirs.items() if key.startswith("features.")}
    assert {key: value.shape for key, value in ours.items()} == features


def plain_trunk(state: dict[str, torch.Tensor], x: torch.Tensor, *, average: bool) -> torch.Tensor:
    """The layer table of the DeepLab v1 release, line by line."""
    keys = iter(sorted({int(key.split(".")[1]) for key in state}))

    def conv(x: torch.Tensor, padding: int, dilation: int) -> torch.Tensor:
        key = next(keys)
        weight, bias = state[f"features.{key}.weight"], state[f"features.{key}.bias"]
        return functional.conv2d(x, weight, bias, 1, padding, dilation).clamp(min=0)

    for convolutions in (2, 2, 3):
        for _ in range(convolutions):
            x = conv(x, 1, 1)
        x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for _ in range(3):
        x = conv(x, 1, 1)
    x = functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)
    for _ in range(3):
        x = conv(x, 2, 2)
    x = functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)
    if average:  # padding counts in the denominator: always nine
        ones = torch.ones(512, 1, 3, 3)
        x = functional.conv2d(x, ones, padding=1, groups=512) / 9
    return x


@pytest.mark.parametrize("average", [False, True])
def test_trunk_is_the_table(average: bool) -> None:
    torch.manual_seed(0)
    trunk = Vgg16Trunk(average_pool5a=average).eval()
    x = torch.randn(1, 3, 33, 41)
    with torch.no_grad():
        maps, expected = trunk(x), plain_trunk(trunk.state_dict(), x, average=average)
    assert maps.shape == (1, 512, 5, 6)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_pool5a_counts_the_padding_and_is_large_fovs_alone() -> None:
    with torch.device("meta"):
        large = build_model("vgg16-largefov")
        others = [build_model(f"vgg16-{name}") for name in ("smallfov", "rate8", "7x7")]
    pooled = large.trunk.pool5a(torch.ones(1, 1, 4, 4))[0, 0]
    assert pooled[0, 0] == pytest.approx(4 / 9)
    assert pooled[0, 1] == pytest.approx(6 / 9)
    assert pooled[1, 1] == pytest.approx(1)
    plain = torch.rand(1, 1, 4, 4)
    assert all(torch.equal(model.trunk.pool5a(plain), plain) for model in others)


def test_output_stride_16_is_refused() -> None:
    with pytest.raises(WeaksegError, match="stride 16"):
        build_model(Network(trunk="vgg16", output_stride=16, crop_px=321))


def test_the_original_weights_load(shared_root) -> None:
    path = shared_root / "weights" / "vgg16_features.safetensors"
    model = build_model(Network(trunk="vgg16", head_channels=4)).eval()
    load_initial_weights(model, path, "213d3352b117816bb3678614d59b7e4c4feb0b19d415de0bcfaa4665a172a639")
    file = load_file(path)
    own = model.trunk.state_dict()
    assert set(own) == set(file)
    assert all(own[key].dtype == torch.float32 and torch.equal(own[key], file[key].float()) for key in file)
    with torch.no_grad():
        assert torch.isfinite(model(torch.full((1, 3, 33, 33), 20.0))).all()
