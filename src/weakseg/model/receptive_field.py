"""How many pixels a score depends on, and the field of view of fc6, by the arithmetic of kernels.

A layer of kernel k, stride t and dilation d, whose input has cells s pixels apart, widens the field by (k - 1) d s
pixels, and its own cells are s t pixels apart (Araujo, Norris and Sim 2019, equation 2).
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from weakseg.model.heads import Head
from weakseg.model.segmenter import Segmenter

_SPATIAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)

POOL5_STRIDE = 32
"""Pixels from one cell of VGG-16's own pool5 to the next."""


class _Window(NamedTuple):
    kernel: int
    stride: int
    dilation: int


def receptive_field(model: Segmenter) -> int:
    """Side in pixels of the square that a score of the head depends on, where no border cuts it.

    Branches see less, so they do not count; nor do the statistics of a group norm (trunk `tiny`), which are those of
    the whole map. The head's skip classifier and the short path of a block lie within what the others see.
    """
    side, step = 1, 1
    for part in (model.trunk, model.head.fc6):
        for window in _windows(part):
            side += (window.kernel - 1) * window.dilation * step
            step *= window.stride
    return side


def fc6_window(head: Head, output_stride: int) -> int:
    """Side in pixels of fc6's window, its taps taken as cells of `output_stride` pixels: ((k - 1) rate + 1) stride.

    At output stride 8 these are 104 for `small` and 200 for the three others.
    """
    return _fc6_reach(head, output_stride) + output_stride


def nominal_field(head: Head, output_stride: int) -> int:
    """The field of view as Chen et al. (2015) print it: 128 for `small`, 224 for the three others.

    They print no formula. (k - 1) rate stride + 32 gives all four figures: the span of fc6's taps, the last of which
    counts as a cell of VGG-16's own pool5, on which the 7x7 kernel has 7 * 32 = 224 pixels.
    """
    return _fc6_reach(head, output_stride) + POOL5_STRIDE


def fc6_rate(head: Head) -> int:
    """Cells from one tap of fc6 to the next."""
    return max(window.dilation for window in _windows(head.fc6))


def _fc6_reach(head: Head, output_stride: int) -> int:
    """Pixels from the first to the last tap of fc6."""
    return sum((window.kernel - 1) * window.dilation for window in _windows(head.fc6)) * output_stride


def _windows(module: nn.Module) -> Iterator[_Window]:
    """Kernel, stride and dilation of each convolution and pool in order; shortcuts run beside their block's layers."""
    if isinstance(module, _SPATIAL):
        yield _Window(_side(module.kernel_size), _side(module.stride), _side(getattr(module, "dilation", 1)))
        return
    for name, child in module.named_children():
        if name != "shortcut":
            yield from _windows(child)


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
