"""Files of initial weights as others publish them: reading, checking, and writing them in the trunks' own names.

A converted file is safetensors with the trunk's keys. VGG-16's fully connected layers stand beside them, either as its
own (`FC_SHAPES`, to be decimated for a head) or as the reduced ones of DeepLab-LargeFOV (`REDUCED_FC_SHAPES`).
"""

import json
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from weakseg.config import Network, TrunkName
from weakseg.config.weights import Layout
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.model.heads import FC_SHAPES, REDUCED_FC_SHAPES
from weakseg.model.segmenter import build_model

Names = Callable[[str, Collection[str]], dict[str, str]]
"""A trunk's name and its keys -> our name of each tensor and the file's name for it."""

# Norms of the original VGG-16's first kernels by input channel, blue first. They tell in which order a file has them.
_FIRST_KERNELS_BGR = (4.3978, 5.4642, 4.9638)


def read_weights(
    path: str | Path, trunk: str, layout: Layout, *, channel_order: Literal["RGB", "BGR"]
) -> dict[str, Tensor]:
    """The tensors of a published file by our names, checked.

    The first kernels of the original VGG-16 are turned to `channel_order` where the file has them in the other one: of
    the files in circulation some were made for RGB.

    Args:
        path: a file of `torch.save`, of which tensors alone are read, or safetensors.
        trunk: the trunk that it is for.
        layout: how it names its tensors.
        channel_order: in which order the trunk will be given the channels.

    Returns:
        Every tensor of the trunk, without batch counters, and those of fc6 and fc7 if the layout has them; in the
        file's precision.

    Raises:
        WeaksegError: no such file, damaged, holds code, a key that is missing or unknown, another shape, or a value
            that is not finite; file and key are named.
    """
    path = Path(path)
    stored = read_tensors(path)
    shapes = {**FC_SHAPES, **REDUCED_FC_SHAPES, **(of_trunk := _trunk_shapes(trunk))}
    names = _LAYOUTS[layout](trunk, of_trunk)
    if missing := [old for old in names.values() if old not in stored]:
        raise WeaksegError(
            f"{path}: {len(missing)} of {len(names)} weights of {trunk} are missing, {missing[0]} the first; "
            f"is it another network's file, or of another layout than {layout}?"
        )
    known = set(names.values())
    if unknown := sorted(key for key in stored if key not in known and not _is_passed_over(key)):
        raise WeaksegError(
            f"{path}: {len(unknown)} weights are none of {trunk}'s in the layout {layout}, {unknown[0]} the first; "
            "is it another network's file?"
        )
    state = {new: stored[old] for new, old in names.items()}
    for new, value in state.items():
        if value.shape != shapes[new]:
            raise WeaksegError(f"{path}: {names[new]} is {tuple(value.shape)}, {trunk} has {shapes[new]}")
        if not value.is_floating_point():
            raise WeaksegError(f"{path}: {names[new]} holds {value.dtype} in place of floating-point numbers")
        require_finite(path, names[new], value)
    if trunk == "vgg16":
        _turn_first_kernels(state, channel_order, path)
    return state


def write_weights(path: str | Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors as safetensors in one step, with JSON-able facts on where they come from."""
    with atomic_path(path) as temporary:
        tensors = {key: value.contiguous() for key, value in state.items()}
        save_file(tensors, temporary, metadata={"weakseg": json.dumps(dict(facts), sort_keys=True)})
        temporary.chmod(0o644)  # safetensors leaves it to its owner, and a cache may be a group's


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a file by its own keys; code in a pickle is not run.

    Raises:
        WeaksegError: no such file, neither safetensors nor a file of `torch.save`, or more in it than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise WeaksegError(f"{path}: no such weights file; see docs/weights.md on how to get one")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeaksegError(f"{path}: not a safetensors file ({error}); fetch the file again") from error
    if _begins_as_a_page(path):
        raise WeaksegError(f"{path}: a web page in place of weights; fetch the file again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, RuntimeError, ValueError, LookupError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeaksegError(
            f"{path}: cannot be read as a file of tensors alone ({reason}). It is damaged, not made by torch.save, or "
            "holds code, which is never run here; fetch the file again, or save its state dict anew"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeaksegError(f"{path}: no state dict (tensors by name); save `model.state_dict()` and give that file")
    return {str(key): value.detach() for key, value in content.items()}


def require_finite(path: Path, key: str, value: Tensor) -> None:
    """Raise WeaksegError if a tensor holds NaN or infinite values."""
    if not torch.isfinite(value).all():
        raise WeaksegError(f"{path}: {key} holds values that are not finite; the file is spoilt, fetch another one")


def _begins_as_a_page(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(512).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def _trunk_shapes(trunk: str) -> dict[str, tuple[int, ...]]:
    if trunk not in get_args(TrunkName):
        raise WeaksegError(f"no trunk named {trunk!r}")
    with torch.device("meta"):
        state = build_model(Network.model_validate({"trunk": trunk})).trunk.state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if not _is_counter(key)}


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _is_passed_over(key: str) -> bool:
    """Whether a key is of no use for segmentation: a classifier of ImageNet's classes, or a batch counter."""
    return key.startswith(("classifier.", "_fc.")) or _is_counter(key)


def _turn_first_kernels(state: dict[str, Tensor], channel_order: str, path: Path) -> None:
    kernels = state["features.0.weight"]
    norms = kernels.double().pow(2).sum((0, 2, 3)).sqrt()
    wanted = torch.tensor(_FIRST_KERNELS_BGR, dtype=torch.double)
    if channel_order == "RGB":
        wanted = wanted.flip(0)
    if torch.allclose(norms, wanted.flip(0), rtol=2e-3):
        print(f"{path}: made for the other order of channels; its first kernels are turned to {channel_order}")
        state["features.0.weight"] = kernels.flip(1)


# The layouts: our name of each tensor, and the file's name for it.


def _torchvision(trunk: str, keys: Collection[str]) -> dict[str, str]:
    fully_connected = FC_SHAPES if trunk == "vgg16" else {}
    return {key: key for key in (*keys, *fully_connected)}


def _features(trunk: str, keys: Collection[str]) -> dict[str, str]:
    """torchvision's names; the classifier, if there is one, is not to be used."""
    return {key: key for key in keys}


def _jcjohnson(trunk: str, keys: Collection[str]) -> dict[str, str]:
    """A layer that flattens stands before fc6, so that the classifier's numbers are one higher than torchvision's."""
    return _torchvision(trunk, keys) | {
        key: key.replace("classifier.0", "classifier.1").replace("classifier.3", "classifier.4") for key in FC_SHAPES
    }


def _openmmlab(trunk: str, keys: Collection[str]) -> dict[str, str]:
    """One sequence of layers: the trunk's, pool5, fc6 at 31, ReLU, fc7 at 33."""
    reduced = {key: key.replace("fc6", "features.31").replace("fc7", "features.33") for key in REDUCED_FC_SHAPES}
    return _features(trunk, keys) | reduced


def _amdegroot(trunk: str, keys: Collection[str]) -> dict[str, str]:
    """The same sequence by its numbers alone."""
    return {new: old.removeprefix("features.") for new, old in _openmmlab(trunk, keys).items()}


def _efficientnet(trunk: str, keys: Collection[str]) -> dict[str, str]:
    """`_conv_stem`, `_blocks.N._expand_conv` and so on; each batch norm stands beside its convolution."""
    last = max(int(key.split(".")[1]) for key in keys)
    ends = {"0.0": "_conv_stem", "0.1": "_bn0", f"{last}.0": "_conv_head", f"{last}.1": "_bn1"}
    parts = {
        "expand.0": "_expand_conv",
        "expand.1": "_bn0",
        "depthwise.0": "_depthwise_conv",
        "depthwise.1": "_bn1",
        "project.0": "_project_conv",
        "project.1": "_bn2",
    }

    def old(key: str) -> str:
        place, _, value = key.removeprefix("features.").rpartition(".")
        number, _, part = place.partition(".")
        return f"{ends[place]}.{value}" if place in ends else f"_blocks.{int(number) - 1}.{parts[part]}.{value}"

    return {key: old(key) for key in keys}


_LAYOUTS: dict[Layout, Names] = {
    "torchvision": _torchvision,
    "features": _features,
    "jcjohnson": _jcjohnson,
    "amdegroot": _amdegroot,
    "openmmlab": _openmmlab,
    "efficientnet": _efficientnet,
}
