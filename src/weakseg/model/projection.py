"""The map of a frozen trunk on its principal axes: centred, projected, divided by its rms.

A ReLU's map has a large mean, and a few directions hold most of its variance. A head that starts fresh learns slowly
from such a map: its gradients point along the mean. Here the head sees values of mean 0 and of rms 1.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path


class Projection(nn.Module):
    """A fixed affine map of each cell, W x + b."""

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, axes: int) -> None:
        """Of `channels` of a trunk to `axes` values; all zero until a state is loaded."""
        super().__init__()
        self.register_buffer("weight", torch.zeros(axes, channels))
        self.register_buffer("bias", torch.zeros(axes))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, axes, h, w)."""
        return functional.conv2d(maps, self.weight[:, :, None, None], self.bias)


def principal_projection(maps: Iterable[Tensor], axes: int) -> tuple[Projection, float]:
    """The projection of maps on their principal axes.

    Args:
        maps: each (C, h, w); all cells count alike.
        axes: how many, C at most.

    Returns:
        The projection, whose values over these cells have mean 0 and, all together, an rms of 1; and the share of the
        variance that its axes hold. The largest weight of each axis is positive.

    Raises:
        WeaksegError: more axes than channels, no maps, or maps that do not vary.
    """
    cells, total, products = 0, torch.zeros(()), torch.zeros(())
    for values in maps:
        flat = values.flatten(1).double()
        cells += flat.shape[1]
        total = total + flat.sum(1)
        products = products + flat @ flat.T
    if not cells:
        raise WeaksegError("principal axes: there are no photos to find them on")
    mean = total / cells
    if axes > len(mean):
        raise WeaksegError(f"network.principal_axes is {axes}, and the trunk's map has {len(mean)} channels; say fewer")
    variances, vectors = torch.linalg.eigh(products / cells - torch.outer(mean, mean))
    chosen, kept = vectors[:, -axes:].flip(1).T, variances[-axes:].sum()
    if not kept > 0:
        raise WeaksegError("principal axes: the trunk gives every cell the same; are its weights those of its file?")
    largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
    chosen = chosen * largest.sign() / (kept / axes).sqrt()
    projection = Projection(len(mean), axes)
    projection.load_state_dict({"weight": chosen.float(), "bias": -(chosen @ mean).float()})
    return projection, float(kept / variances.clamp(min=0).sum())


def save_projection(path: str | Path, projection: Projection, metadata: dict[str, Any]) -> None:
    """Write a projection with JSON-able facts about what it was made of, in one step."""
    state = {name: value.contiguous() for name, value in projection.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"weakseg": json.dumps(metadata, sort_keys=True)})


def load_projection(path: str | Path) -> tuple[Projection, dict[str, Any]]:
    """A projection, and the facts that it was saved with.

    Raises:
        WeaksegError: no such file, or another one.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts = json.loads((stream.metadata() or {})["weakseg"])
            state = {name: stream.get_tensor(name) for name in ("weight", "bias")}
        axes, channels = state["weight"].shape
        projection = Projection(channels, axes)
        projection.load_state_dict(state)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such projection; make it with `weakseg projection`") from None
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeaksegError(f"{path}: not a projection ({error}); delete it and run `weakseg projection`") from error
    return projection, facts
