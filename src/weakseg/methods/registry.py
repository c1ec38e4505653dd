"""What a method is, what it is shown, and the table of all methods by name."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weakseg.errors import WeaksegError
from weakseg.strict import Strict

if TYPE_CHECKING:
    from torch import Generator, Tensor

Annotation = Literal["strong", "image", "box"]
"""What a training image offers: pixel labels, image-level labels, or bounding boxes."""


@dataclass(frozen=True)
class Shown:
    """What a method is shown of the N images that its stream has in a mini-batch, besides the network's scores.

    Attributes:
        present: (N, L+1) bool image-level labels of the crops; None unless the annotation is `image`.
        label_map: (N, h, w) int64 at the score cells, 255 for void and padding: the pixel labels of strong images, the
            map made from its boxes for others; None where the annotation is `image`.
        inside: (N, h, w) bool, whether a cell lies within the photo.
        iteration: number of the update, from 0.
        generator: source of a method's own randomness, on the CPU; its state is kept with the resume states. Draw by
            `uniform`.
        valid_cells_only: whether the study leaves cells of padding out of E-step and loss.
        present_on_host: `present` in the machine's memory, for what a method decides there: looking at the values of
            a tensor on a GPU waits for all that the GPU has to do.
        images: how many images the stream has in the whole mini-batch, if several processes share it; 0: N.
        first: which of them is the first of these N.
        summed: sums a tensor over the processes that share the mini-batch; None: one process has all of it.
    """

    present: "Tensor | None"
    label_map: "Tensor | None"
    inside: "Tensor"
    iteration: int
    generator: "Generator"
    valid_cells_only: bool = False
    present_on_host: "Tensor | None" = None
    images: int = 0
    first: int = 0
    summed: "Callable[[Tensor], Tensor] | None" = None

    def uniform(self, *shape: int) -> "Tensor":
        """Random numbers (N, *shape) in [0, 1), float32 on the CPU; an image has the same in whichever process."""
        import torch

        count = len(self.inside)
        drawn = torch.rand(self.images or count, *shape, generator=self.generator)
        return drawn[self.first : self.first + count]


class NoConstants(Strict):
    """The constants of a method that has none."""


@dataclass(frozen=True)
class Method:
    """How a stream teaches.

    A method has an E-step, or a loss of its own, or neither: then the label map that comes with its images is the
    target as it stands. With an E-step the loss is the cross-entropy of the unbiased scores against its label map.

    Attributes:
        name: what `experiments.yaml` calls it.
        annotation: what its images must offer.
        constants: its typed constants, set in a study under `methods.{name}`.
        label_maps: folder of label maps made from boxes that its images come with: `bbox_rect` or `bbox_seg`.
        estep: (scores (N, L+1, h, w) without gradient, shown, constants) -> label map (N, h, w) int64.
        loss: (scores (N, L+1, h, w), shown, constants) -> loss, a scalar.
    """

    name: str
    annotation: Annotation
    constants: type[Strict] = NoConstants
    label_maps: Literal["bbox_rect", "bbox_seg"] | None = None
    estep: "Callable[[Tensor, Shown, Any], Tensor] | None" = None
    loss: "Callable[[Tensor, Shown, Any], Tensor] | None" = None

    def __post_init__(self) -> None:
        """Raise WeaksegError for a method that could not teach."""
        if self.estep and self.loss:
            raise WeaksegError(f"method {self.name}: it has an E-step and a loss of its own; one of them decides")
        if (self.annotation == "box") != (self.label_maps is not None):
            raise WeaksegError(f"method {self.name}: label_maps go with the annotation `box`, and with no other")
        if self.annotation == "image" and not (self.estep or self.loss):
            raise WeaksegError(f"method {self.name}: image-level labels need an E-step or a loss of its own")


METHODS: dict[str, Method] = {}
"""Every method by name."""


def register(method: Method) -> Method:
    """Add a method to the table.

    Raises:
        WeaksegError: there is one of this name.
    """
    if method.name in METHODS:
        raise WeaksegError(f"method {method.name}: there are two of this name")
    METHODS[method.name] = method
    return method


def register_all() -> None:
    """Import every module of this folder, each of which registers its methods."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"weakseg.methods.{module.name}")
