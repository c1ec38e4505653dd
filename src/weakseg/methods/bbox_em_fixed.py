"""Bbox-EM-Fixed: fixed biases by the box at each cell (Papandreou et al. 2015, section 3.3)."""

from typing import TYPE_CHECKING

from pydantic import Field

from weakseg.methods.registry import Method, Shown, register
from weakseg.strict import Strict

if TYPE_CHECKING:
    from torch import Tensor


class BboxEMFixedConstants(Strict):
    """Biases of Bbox-EM-Fixed."""

    bg_bias: float = Field(5.0, ge=0, description="Bias of the background (released code).")
    fg_bias: float = Field(6.0, ge=0, description="Bias of a box's class within the box (released code).")
    fixed_map_iterations: int = Field(
        0,
        ge=0,
        description="So many iterations at the start train on Bbox-Rect's maps themselves, before the E-step decides. "
        "0 in the paper; a head that starts fresh learns first how frequent the background is, and an E-step that "
        "believes it never finds an object again.",
    )


def label_map(scores: "Tensor", shown: Shown, constants: BboxEMFixedConstants) -> "Tensor":
    """The E-step of the images of a mini-batch, or Bbox-Rect's maps in the first iterations."""
    from weakseg.estep import bbox_em_fixed

    assert shown.label_map is not None  # its annotation is `box`
    if shown.iteration < constants.fixed_map_iterations:
        return shown.label_map
    return bbox_em_fixed(scores, shown.label_map, bg_bias=constants.bg_bias, fg_bias=constants.fg_bias)


BBOX_EM_FIXED = register(
    Method("bbox_em_fixed", annotation="box", constants=BboxEMFixedConstants, label_maps="bbox_rect", estep=label_map)
)
