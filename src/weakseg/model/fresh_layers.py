"""Layers that no weights file gave, scaled to what they see before the first iteration.

He's start keeps the scale of a map and does not set it. VGG-16's pool5 has a root mean square (rms) of 17 to 19 on
photos, so that scores of a He start are so far off that training diverges. Here each fresh layer of the head is
scaled, in order, to the map that a few training photos give it (as in layer-sequential unit-variance initialisation,
Mishkin and Matas 2016), whatever the trunk and whichever layers came from a file.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakseg.errors import WeaksegError
from weakseg.model.heads import Head
from weakseg.model.segmenter import Segmenter

CELL_LENGTH = 10.0
"""Length |h| of a cell (rms over cells) after the ReLU of a fresh fc7, whatever its channels.

A step of fc8 moves the scores of a cell by its rate times |h|^2. At the paper's rates, .01 for fc8, a length of 32 (an
rms of 1 over 1024 channels) overshoots.
"""

SCORE_RMS = 0.1
"""Largest rms of a fresh classifier's scores, so that the first loss is ln(L+1) to a few tenths at most.

It is what the release's Gaussian of .01 gives of cells of length `CELL_LENGTH`, so that fc8 after a fresh fc7 stays
nearly as it is.
"""

CROPS = 8
"""How many training crops a run measures its maps on."""


PROTOCOL_BROKEN = (
    "the paper starts fc6 and fc7 from VGG-16's own, decimated, which the initial weights do not hold for this head"
)
"""What a run and its report say where fresh layers break the paper's protocol."""


@dataclass(frozen=True)
class FreshStart:
    """How the layers of the head start that the weights file does not hold.

    Attributes:
        layers: of fc6, fc7, fc8 and skip, those that are fresh.
        factors: on what He's initialisation, or the classifiers' Gaussian, gave each; empty where nothing was measured.
        breaks_protocol: fc6 or fc7 of a VGG-16 is fresh, which the paper starts from the original.
    """

    layers: tuple[str, ...]
    factors: dict[str, float]
    breaks_protocol: bool

    def text(self) -> str:
        """What is fresh, and where that matters, in a line."""
        how = ", ".join(f"{name} x {factor:g}" for name, factor in self.factors.items())
        said = f"start: {', '.join(self.layers) or 'no layer'} fresh" + (
            f", scaled to training crops ({how})" if how else ""
        )
        return f"{said}; {PROTOCOL_BROKEN}" if self.breaks_protocol else said


def fresh_layers(model: Segmenter, loaded: Collection[str]) -> tuple[str, ...]:
    """The layers of the head (of fc6, fc7, fc8, skip) with a parameter that is not among `loaded`, in order.

    Args:
        model: the network.
        loaded: names of its parameters that came from a file, as `load_initial_weights` gives them.
    """
    fresh = {
        name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("head.") and name not in loaded
    }
    return tuple(name for name in ("fc6", "fc7", "fc8", "skip") if name in fresh)


@torch.no_grad()
def scale_fresh_layers(head: Head, maps: Sequence[Tensor], fresh: Iterable[str]) -> dict[str, float]:
    """Scale the fresh layers of the head to what they see, without dropout and without drawing random numbers.

    fc7 is scaled so that a cell of its map after the ReLU has length `CELL_LENGTH` (rms over cells), fc6 so that its
    cells have the geometric mean of that and of the length of a window of what it sees. A step moves fc6's map, in
    proportion, by window^2 / fc6^2, and fc7's by fc6^2 / fc7^2, so that neither then runs ahead of the other.
    Classifiers are scaled so that their scores have an rms of `SCORE_RMS` at most, and stay as they are below it.
    Factors are rounded to three digits, so that they are the same on machines that round sums differently.

    Args:
        head: changed in place.
        maps: what the trunk gives of some photos or crops, each (N, C, h, w).
        fresh: layers to scale, as `fresh_layers` gives them; others stay as they are.

    Returns:
        The factor on the weights of each fresh layer, by name.

    Raises:
        WeaksegError: a layer gives nothing but zeros, or values that are not finite.
    """
    fresh = tuple(fresh)
    factors: dict[str, float] = {}
    seen: Sequence[Tensor] = maps
    for name, length in (("fc6", (_window_length(head, maps) * CELL_LENGTH) ** 0.5), ("fc7", CELL_LENGTH)):
        layer = getattr(head, name)
        outputs = [head.relu(layer(x)) for x in seen]
        if name in fresh:
            wanted = length / outputs[0].shape[1] ** 0.5
            factors[name] = _rounded(wanted / _rms(outputs, f"layer {name}"))
            _scale(layer, factors[name])
            outputs = [x * factors[name] for x in outputs]  # what the scaled layer gives
        seen = outputs
    for name, inputs in (("fc8", seen), ("skip", maps)):
        if name in fresh:
            layer = getattr(head, name)
            factors[name] = _rounded(min(1.0, SCORE_RMS / _rms([layer(x) for x in inputs], f"layer {name}")))
            _scale(layer, factors[name])
    return factors


def _window_length(head: Head, maps: Sequence[Tensor]) -> float:
    """Length of the values that one output of fc6 sums over; of a separable fc6, of one cell."""
    first = next(module for module in head.fc6.modules() if isinstance(module, nn.Conv2d))
    return _rms(maps, "the trunk") * first.weight[0].numel() ** 0.5


def _rms(values: Sequence[Tensor], name: str) -> float:
    total = sum(float(v.double().square().sum()) for v in values)
    rms = (total / sum(v.numel() for v in values)) ** 0.5
    if not 0 < rms < float("inf"):
        raise WeaksegError(
            f"{name}: the rms of what it gives of {len(values)} training photos is {rms:g}; the trunk's weights "
            "are not those of this network, or they are damaged"
        )
    return rms


def _rounded(factor: float) -> float:
    return float(f"{factor:.3g}")


def _scale(layer: nn.Module, factor: float) -> None:
    """Scale what a layer gives: the weights of its first convolution and all biases (a separable fc6 has two)."""
    convolutions = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    convolutions[0].weight.mul_(factor)
    for convolution in convolutions:
        if convolution.bias is not None:
            convolution.bias.mul_(factor)
