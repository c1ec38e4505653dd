"""Weights by file and checksum: initial ones with their preprocessing, trained ones with all that rebuilds them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from weakseg.config import Network, Preprocessing
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, sha256_file
from weakseg.labels import LabelSet
from weakseg.model.heads import GEOMETRY, FieldOfView, Head, decimate_fc
from weakseg.model.segmenter import Segmenter, build_model
from weakseg.model.vgg16 import Vgg16Trunk

FC_SHAPES = {
    "classifier.0.weight": (4096, 512 * 7 * 7),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
}
"""VGG-16's fc6 and fc7 in torchvision's layout, in the order of `decimate_fc`'s arguments."""


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """Pixels as a trunk's weights expect them: channels in order, then (scale * pixel - mean) / std.

    Args:
        image: (H, W, 3) RGB, uint8 or float, 0..255.

    Returns:
        (3, H, W) float32.
    """
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)
    if preprocessing.channel_order == "BGR":
        pixels = pixels.flip(0)
    mean = torch.tensor(preprocessing.mean)[:, None, None]
    std = torch.tensor(preprocessing.std)[:, None, None]
    return (pixels * preprocessing.scale - mean) / std


def load_initial_weights(model: Segmenter, path: str | Path, sha256: str | None) -> frozenset[str]:
    """Load a trunk's weights (torchvision's `features.*` keys); VGG-16 files with `classifier.*` also give fc6 and fc7.

    Other keys of a classifier are passed over. fc6 and fc7 stay fresh where the head is none of the paper's two: other
    channels or a separable fc6.

    Args:
        model: takes the weights; what the file does not hold stays fresh.
        path: a safetensors file, float32 or float16.
        sha256: its checksum, or None for a file that the study made itself.

    Returns:
        The model's parameters and buffers that came from the file, by name, such as `head.fc6.weight`.

    Raises:
        WeaksegError: missing file, other checksum, not safetensors, a key missing, unknown or of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise WeaksegError(f"{path}: no such weights file; see the README on initial weights")
    if sha256 is not None and (found := sha256_file(path)) != sha256:
        raise WeaksegError(f"{path}: SHA-256 is {found}, the study names {sha256}; fetch the file again")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise WeaksegError(f"{path}: not a safetensors file ({error})") from error
    known = set(model.trunk.state_dict())
    own = {key for key in known if not key.endswith("num_batches_tracked")}
    if missing := sorted(own - set(state)):
        raise WeaksegError(f"{path}: {len(missing)} weights of the trunk are missing, {missing[0]} the first")
    if unknown := sorted(key for key in set(state) - known if not key.startswith("classifier.")):
        raise WeaksegError(
            f"{path}: {len(unknown)} weights are not the trunk's, {unknown[0]} the first; is it another network's file?"
        )
    _copy(model.trunk, {key: value for key, value in state.items() if key in own}, path)
    loaded = {f"trunk.{key}" for key in own}
    if isinstance(model.trunk, Vgg16Trunk) and all(key in state for key in FC_SHAPES):
        loaded |= {f"head.{key}" for key in _load_fc(model.head, {key: state[key] for key in FC_SHAPES}, path)}
    return frozenset(loaded)


def _load_fc(head: Head, state: dict[str, Tensor], path: Path) -> set[str]:
    """Load fc6 and fc7 where the head is one of the paper's two; returns the names of what it took."""
    for key, shape in FC_SHAPES.items():
        if state[key].shape != shape:
            raise WeaksegError(f"{path}: {key} is {tuple(state[key].shape)}, VGG-16 has {shape}")
    fov: FieldOfView
    for fov in ("small", "large"):
        geometry = GEOMETRY[fov]
        kernel = (geometry.channels, 512, geometry.kernel, geometry.kernel)
        if isinstance(head.fc6, torch.nn.Conv2d) and head.fc6.weight.shape == kernel:
            fc6_weight, fc6_bias, fc7_weight, fc7_bias = (state[key] for key in FC_SHAPES)
            decimated = decimate_fc(fc6_weight, fc6_bias, fc7_weight, fc7_bias, fov)
            _copy(head, decimated, path)
            return set(decimated)
    return set()


def _copy(module: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    for key, value in state.items():
        if own[key].shape != value.shape:
            raise WeaksegError(f"{path}: {key} is {tuple(value.shape)}, the network needs {tuple(own[key].shape)}")
    module.load_state_dict(state, strict=False)


def save_model(
    path: str | Path,
    model: Segmenter,
    *,
    network: Network,
    fov: FieldOfView,
    preprocessing: Preprocessing,
    labels: LabelSet,
    metadata: dict[str, Any],
) -> None:
    """Write a trained network with all that rebuilds it, in one step."""
    facts = {
        **metadata,
        "network": network.model_dump(mode="json"),
        "fov": fov,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "labels": labels.to_json(),
    }
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"weakseg": json.dumps(facts, sort_keys=True)})


def load_model(path: str | Path) -> tuple[Segmenter, dict[str, Any]]:
    """Rebuild a trained network, in eval mode, with the facts it was saved with.

    Returns:
        The network, and its metadata: `network` and `preprocessing` as config models, `labels` as a label set, `fov`
        and what else was saved.

    Raises:
        WeaksegError: no such file, or not a network saved by this package.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})["weakseg"])
        facts["network"] = Network.model_validate(facts["network"])
        facts["preprocessing"] = Preprocessing.model_validate(facts["preprocessing"])
        facts["labels"] = LabelSet.from_json(facts["labels"])
        model = build_model(facts["network"], fov=facts["fov"], num_labels=len(facts["labels"]))
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such network; train the run first") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeaksegError(f"{path}: not a network saved by this package ({error})") from error
    return model.eval(), facts
