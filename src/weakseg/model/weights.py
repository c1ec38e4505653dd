"""Weights by file and checksum: initial ones with their preprocessing, trained ones with all that rebuilds them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from weakseg.config import FieldOfView, Network, Preprocessing
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, sha256_file
from weakseg.joint_labels import LabelView
from weakseg.labels import LabelSet
from weakseg.model.heads import FC_SHAPES, GEOMETRY, REDUCED_FC_SHAPES, Head, decimate_fc
from weakseg.model.segmenter import Segmenter, build_model
from weakseg.model.vgg16 import Vgg16Trunk
from weakseg.model.weight_files import require_finite


@dataclass(frozen=True)
class LoadedWeights:
    """What a file of initial weights gave a network.

    Attributes:
        from_file: names of parameters that come from the file, as `model.named_parameters()` has them.
        fresh: names of the others, which are still as they were made.
    """

    from_file: frozenset[str]
    fresh: frozenset[str]


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


def load_initial_weights(model: Segmenter, path: str | Path, sha256: str | None) -> LoadedWeights:
    """Load a trunk's weights (torchvision's `features.*` keys); some VGG-16 files also give fc6 and fc7.

    VGG-16's own fully connected layers (`classifier.*`) are decimated for the head; those of the fc-reduced VGG-16
    (`fc6.*`, `fc7.*`) fit the large field of view as they are, and no other. fc6 and fc7 stay fresh where the head is
    none of the paper's: other channels or a separable fc6. Other keys of a classifier are passed over.

    Args:
        model: takes the weights; what the file does not hold stays fresh.
        path: a safetensors file, float32 or float16.
        sha256: its checksum, or None for a file that the study or `weakseg weights` made itself.

    Returns:
        Which parameters come from the file, and which are fresh.

    Raises:
        WeaksegError: missing file, other checksum, not safetensors, a key missing, unknown or of another shape, or a
            value that is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise WeaksegError(f"{path}: no such weights file; see docs/weights.md on how to get one")
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
    if isinstance(model.trunk, Vgg16Trunk):
        known |= REDUCED_FC_SHAPES.keys()
    if unknown := sorted(key for key in set(state) - known if not key.startswith("classifier.")):
        raise WeaksegError(
            f"{path}: {len(unknown)} weights are not the trunk's, {unknown[0]} the first; is it another network's file?"
        )
    _copy(model.trunk, {key: value for key, value in state.items() if key in own}, path)
    from_file = {f"trunk.{key}" for key in own}
    if isinstance(model.trunk, Vgg16Trunk):
        fully_connected = _fully_connected(model.head, state, path)
        _copy(model.head, fully_connected, path)
        from_file |= {f"head.{key}" for key in fully_connected}
    parameters = {name for name, _ in model.named_parameters()}
    return LoadedWeights(frozenset(parameters & from_file), frozenset(parameters - from_file))


def _fully_connected(head: Head, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """fc6 and fc7 as a head takes them, of those that a VGG-16 file holds; empty where none fit."""
    shapes: dict[str, tuple[int, ...]]
    for shapes in (FC_SHAPES, REDUCED_FC_SHAPES):
        if shapes.keys() <= state.keys():
            break
    else:
        return {}
    for key, shape in shapes.items():
        if state[key].shape != shape:
            raise WeaksegError(f"{path}: {key} is {tuple(state[key].shape)}, VGG-16 has {shape}")
    fov = _papers_fov(head)
    if shapes is REDUCED_FC_SHAPES:
        return {key: state[key] for key in shapes} if fov == "large" else {}
    if fov is None:
        return {}
    fc6_weight, fc6_bias, fc7_weight, fc7_bias = (state[key] for key in FC_SHAPES)
    return decimate_fc(fc6_weight, fc6_bias, fc7_weight, fc7_bias, fov)


def _papers_fov(head: Head) -> FieldOfView | None:
    """The field of view of a head that is one of the paper's on VGG-16; `small` for both 4x4 ones, of one shape."""
    for fov, geometry in GEOMETRY.items():
        kernel = (geometry.channels, 512, geometry.kernel, geometry.kernel)
        if isinstance(head.fc6, torch.nn.Conv2d) and head.fc6.weight.shape == kernel:
            return fov
    return None


def _copy(module: torch.nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    for key, value in state.items():
        if own[key].shape != value.shape:
            raise WeaksegError(f"{path}: {key} is {tuple(value.shape)}, the network needs {tuple(own[key].shape)}")
        require_finite(path, key, value)
    module.load_state_dict(state, strict=False)


def save_model(
    path: str | Path,
    model: Segmenter,
    *,
    network: Network,
    fov: FieldOfView,
    preprocessing: Preprocessing,
    labels: LabelSet,
    joint: LabelSet | None = None,
    metadata: dict[str, Any],
) -> None:
    """Write a trained network with all that rebuilds it, in one step.

    Args:
        path: the file.
        model: the network.
        network, fov, preprocessing: its description.
        labels: in which it is scored.
        joint: the labels of its classifier, where these are those of several data sets.
        metadata: further JSON-able facts.
    """
    facts = {
        **metadata,
        "network": network.model_dump(mode="json"),
        "fov": fov,
        "multi_scale": model.branches is not None,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "labels": labels.to_json(),
    }
    if joint is not None:
        facts["joint_labels"] = joint.to_json()
        facts["view"] = model.view and model.view.to_json()
    state = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"weakseg": json.dumps(facts, sort_keys=True)})


def load_model(path: str | Path) -> tuple[Segmenter, dict[str, Any]]:
    """Rebuild a trained network, in eval mode, with the facts it was saved with.

    Returns:
        The network, and its metadata: `network` and `preprocessing` as config models, `labels` (in which it is scored)
        and `joint_labels` (of its classifier) as label sets, `fov`, `multi_scale` (False where a file does not say) and
        what else was saved.

    Raises:
        WeaksegError: no such file, or not a network saved by this package.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})["weakseg"])
        facts["network"] = Network.model_validate(facts["network"])
        facts["preprocessing"] = Preprocessing.model_validate(facts["preprocessing"])
        facts["labels"] = LabelSet.from_json(facts["labels"])
        joint = facts.get("joint_labels")
        facts["joint_labels"] = facts["labels"] if joint is None else LabelSet.from_json(joint)
        facts.setdefault("multi_scale", False)
        model = build_model(
            facts["network"],
            fov=facts["fov"],
            num_labels=len(facts["joint_labels"]),
            multi_scale=facts["multi_scale"],
        )
        model.view = LabelView.from_json(facts["view"]) if facts.get("view") else None
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such network; train the run first") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeaksegError(f"{path}: not a network saved by this package ({error})") from error
    return model.eval(), facts
