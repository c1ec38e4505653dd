"""Published files of weights: every layout on a file of its structure; what is wrong with a file is named."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from weakseg.config import Network
from weakseg.errors import WeaksegError
from weakseg.model import build_model
from weakseg.model.weight_files import read_tensors, read_weights, write_weights

VGG_CHANNELS = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256), *[(512, 256)]]
VGG_CHANNELS += [(512, 512)] * 5
NAN, INF = torch.tensor(float("nan")), torch.tensor(float("inf"))
VGG_PLACES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def number(value: float, *shape: int) -> Tensor:
    """A tensor of one number that takes no memory and no place in a file."""
    return torch.tensor(float(value)).expand(shape)


def convolutions(prefix: str = "features.") -> dict[str, Tensor]:
    """VGG-16's convolutions; each holds the number of its place."""
    state = {}
    for place, (out, channels) in zip(VGG_PLACES, VGG_CHANNELS, strict=True):
        state[f"{prefix}{place}.weight"] = number(place, out, channels, 3, 3)
        state[f"{prefix}{place}.bias"] = number(-place, out)
    return state


def fully_connected(fc6: str, fc7: str, fc8: str | None = None) -> dict[str, Tensor]:
    state = {
        f"{fc6}.weight": number(6, 4096, 25088), f"{fc6}.bias": number(60, 4096),
        f"{fc7}.weight": number(7, 4096, 4096), f"{fc7}.bias": number(70, 4096),
    }  # fmt: skip
    return state if fc8 is None else {**state, f"{fc8}.weight": number(8, 1000, 4096), f"{fc8}.bias": number(80, 1000)}


def reduced(fc6: str, fc7: str) -> dict[str, Tensor]:
    return {
        f"{fc6}.weight": number(6, 1024, 512, 3, 3), f"{fc6}.bias": number(60, 1024),
        f"{fc7}.weight": number(7, 1024, 1024, 1, 1), f"{fc7}.bias": number(70, 1024),
    }  # fmt: skip


PUBLISHED = {
    "jcjohnson": {**convolutions(), **fully_connected("classifier.1", "classifier.4", "classifier.6")},
    "torchvision": {**convolutions(), **fully_connected("classifier.0", "classifier.3", "classifier.6")},
    "amdegroot": {**convolutions(""), **reduced("31", "33")},
    "openmmlab": {**convolutions(), **reduced("features.31", "features.33")},
    # As published: what its classifier holds is no number.
    "features": {**convolutions(), "classifier.0.weight": number(float("nan"), 4096, 25088)},
}
FULL = {
    "classifier.0.weight": (6, (4096, 25088)), "classifier.0.bias": (60, (4096,)),
    "classifier.3.weight": (7, (4096, 4096)), "classifier.3.bias": (70, (4096,)),
}  # fmt: skip
REDUCED = {
    "fc6.weight": (6, (1024, 512, 3, 3)), "fc6.bias": (60, (1024,)),
    "fc7.weight": (7, (1024, 1024, 1, 1)), "fc7.bias": (70, (1024,)),
}  # fmt: skip
BESIDE = {"jcjohnson": FULL, "torchvision": FULL, "amdegroot": REDUCED, "openmmlab": REDUCED, "features": {}}


def stored(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def read(path: Path, layout: str, trunk: str = "vgg16", channel_order="BGR") -> dict[str, Tensor]:
    return read_weights(path, trunk, layout, channel_order=channel_order)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_a_vgg_file_of_each_layout_gives_our_names(layout: str, tmp_path: Path) -> None:
    state = read(stored(PUBLISHED[layout], tmp_path / "vgg.pth"), layout)
    trunk = build_model("vgg16-largefov").trunk.state_dict()
    assert state.keys() == {*trunk, *BESIDE[layout]}
    for place in VGG_PLACES:
        assert state[f"features.{place}.weight"].shape == trunk[f"features.{place}.weight"].shape
        assert state[f"features.{place}.weight"].unique().tolist() == [place]
        assert state[f"features.{place}.bias"].unique().tolist() == [-place]
    for key, (value, shape) in BESIDE[layout].items():
        assert state[key].shape == shape and state[key].flatten()[0] == value


def test_a_mobilenet_file_gives_its_trunk_without_classifier_and_counters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = build_model(Network(trunk="mobilenet_v2", head_channels=4)).trunk.state_dict()
    published = {**trunk, "classifier.1.weight": torch.zeros(1000, 1280), "classifier.1.bias": torch.zeros(1000)}
    state = read(stored(published, tmp_path / "m.pth"), "torchvision", "mobilenet_v2", "RGB")
    assert state.keys() == {key for key in trunk if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(value, trunk[key]) for key, value in state.items())


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("jcjohnson", lambda s: s.pop("classifier.4.bias"), r"1 of 30 weights .* missing, classifier\.4\.bias"),
        ("amdegroot", lambda s: s.pop("31.weight"), r"1 of 30 weights .* missing, 31\.weight"),
        ("amdegroot", lambda s: s.update({"35.weight": number(0, 2)}), r"1 weights are none .*, 35\.weight"),
        ("openmmlab", lambda s: s.update({"l2.weight": number(0, 2)}), r"1 weights are none .*, l2\.weight"),
        ("amdegroot", lambda s: s.update({"5.bias": number(0, 2)}), r" 5\.bias is \(2,\), vgg16 has \(128,\)"),
        ("features", lambda s: s.update({"features.5.bias": NAN.expand(128)}), r" features\.5\.bias .* finite"),
        ("jcjohnson", lambda s: s.update({"classifier.1.bias": -INF.expand(4096)}), r" classifier\.1\.bias .* finite"),
        ("amdegroot", lambda s: s.update({"5.bias": torch.zeros(128).long()}), r" 5\.bias holds torch\.int64"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_by_its_own_key(layout: str, change, message: str, tmp_path: Path) -> None:
    state = dict(PUBLISHED[layout])
    change(state)
    path = stored(state, tmp_path / "wrong.pth")
    with pytest.raises(WeaksegError, match=rf"wrong\.pth: ?{message}"):
        read(path, layout)


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeaksegError, match=r"classifier\.1\.bias|classifier\.1\.weight"):
        read(stored(PUBLISHED["torchvision"], tmp_path / "vgg.pth"), "jcjohnson")
    with pytest.raises(WeaksegError, match=r"of 245 weights of efficientnet_lite0 are missing, _conv_stem\.weight"):
        read(stored(PUBLISHED["torchvision"], tmp_path / "vgg.pth"), "efficientnet", "efficientnet_lite0", "RGB")


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("as_wanted", [True, False])
def test_the_original_networks_first_kernels_are_turned_to_the_wanted_order(
    shared_root, order: str, as_wanted: bool, tmp_path: Path
) -> None:
    original = load_file(shared_root / "weights" / "vgg16_features.safetensors")
    first = original["features.0.weight"]  # for BGR
    wanted = first if order == "BGR" else first.flip(1)
    published = {**convolutions(), "features.0.weight": wanted if as_wanted else wanted.flip(1).contiguous()}
    state = read(stored(published, tmp_path / "vgg.pth"), "features", channel_order=order)
    assert torch.equal(state["features.0.weight"], wanted)


def test_kernels_of_another_training_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = torch.randn(64, 3, 3, 3)
    path = stored({**convolutions(), "features.0.weight": first}, tmp_path / "vgg.pth")
    for order in ("BGR", "RGB"):
        assert torch.equal(read(path, "features", channel_order=order)["features.0.weight"], first)


def test_safetensors_and_older_files_and_nested_ones_are_read(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.float16)}
    save_file(state, tmp_path / "new.safetensors")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, tmp_path / "nested.pth")
    for name in ("new.safetensors", "old.pth", "nested.pth"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in state.items())


class Harm:
    """A pickle of it would make a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["torch", "pickle", "old torch"])
def test_code_in_a_pickle_is_not_run(how: str, tmp_path: Path) -> None:
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    content = {"features.0.weight": torch.zeros(2), "more": Harm(made)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(WeaksegError, match=r"weights\.pth: cannot be read as a file of tensors alone"):
        read_tensors(path)
    assert not made.exists()
    with path.open("rb") as stream:
        torch.load(stream, weights_only=False) if how != "pickle" else pickle.load(stream)
    assert made.exists()  # it would have been


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"<!DOCTYPE html><html>log in</html>", "a web page in place of weights"),
        ("w.pth", b"\n <HTML>log in</HTML>", "a web page in place of weights"),
        ("w.pth", b"", "cannot be read"),
        ("w.pth", b"PK\x03\x04 and so on", "cannot be read"),
        ("w.pth", bytes(range(256)) * 9, "cannot be read"),
        ("w.safetensors", b"<html>", "not a safetensors file"),
    ],
)
def test_files_that_hold_no_weights_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeaksegError, match=rf"{name}: {message}"):
        read_tensors(path)


@pytest.mark.parametrize("content", [torch.zeros(2), [torch.zeros(2)], {"a": 1}, {"state_dict": {"a": "b"}}])
def test_what_is_no_state_dict_is_refused(content, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeaksegError, match=r"w\.pth: no state dict"):
        read_tensors(tmp_path / "w.pth")


def test_truncated_files_are_named(tmp_path: Path) -> None:
    path = stored({"a": torch.randn(1000)}, tmp_path / "w.pth")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeaksegError, match=r"w\.pth: cannot be read"):
        read_tensors(path)
    with pytest.raises(WeaksegError, match=r"gone\.pth: no such weights file"):
        read_tensors(tmp_path / "gone.pth")


def test_written_weights_say_where_they_come_from_and_leave_nothing_half_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "w.safetensors"
    write_weights(path, {"a": torch.ones(4)[::2], "b": number(3, 2, 2)}, {"name": "w", "source": {"sha256": "00"}})
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    assert load_file(path)["b"].tolist() == [[3, 3], [3, 3]] and path.stat().st_mode & 0o777 == 0o644
    with safe_open(path, framework="pt") as stream:
        assert '"sha256": "00"' in stream.metadata()["weakseg"]
    with pytest.raises(TypeError):
        write_weights(path, {"a": torch.zeros(2)}, {"not": "JSON", "at": path})
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"] and load_file(path)["a"].tolist() == [1, 1]
