"""EM-Fixed: fixed biases for the labels that occur (Papandreou et al. 2015, Algorithm 1)."""

from typing import TYPE_CHECKING

from pydantic import Field

from weakseg.methods.registry import Method, Shown, register
from weakseg.strict import Strict

if TYPE_CHECKING:
    from torch import Tensor


class EMFixedConstants(Strict):
    """Biases of EM-Fixed."""

    bg_bias: float = Field(3.0, ge=0, description="b_bg; published 3 with fg 5, earlier text and code 5 with 6.")
    fg_bias: float = Field(5.0, ge=0, description="b_fg.")


def label_map(scores: "Tensor", shown: Shown, constants: EMFixedConstants) -> "Tensor":
    """The E-step of the images of a mini-batch."""
    from weakseg.estep import em_fixed

    assert shown.present is not None  # its annotation is `image`
    return em_fixed(scores, shown.present, bg_bias=constants.bg_bias, fg_bias=constants.fg_bias)


EM_FIXED = register(Method("em_fixed", annotation="image", constants=EMFixedConstants, estep=label_map))
