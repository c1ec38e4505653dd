"""EM-Adapt: biases per image, so that present labels take a given share of it (Papandreou et al. 2015, section 3.2)."""

from typing import TYPE_CHECKING

from pydantic import Field

from weakseg.methods.registry import Method, Shown, register
from weakseg.strict import Strict

if TYPE_CHECKING:
    from torch import Tensor


class EMAdaptConstants(Strict):
    """Portions of EM-Adapt."""

    bg_portion: float = Field(0.4, ge=0, le=1, description="rho_bg: least share of the background where it occurs.")
    fg_portion: float = Field(0.2, ge=0, le=1, description="rho_fg: least share of each foreground label that occurs.")
    rounds: int = Field(5, ge=1, description="Rounds over the labels that occur.")


def label_map(scores: "Tensor", shown: Shown, constants: EMAdaptConstants) -> "Tensor":
    """The E-step of the images of a mini-batch; portions are of the photo alone where padding takes no part."""
    from weakseg.estep import em_adapt

    present = shown.present if shown.present_on_host is None else shown.present_on_host
    assert present is not None  # its annotation is `image`
    return em_adapt(
        scores,
        present,
        bg_portion=constants.bg_portion,
        fg_portion=constants.fg_portion,
        rounds=constants.rounds,
        keys=shown.uniform(constants.rounds, scores.shape[1]),
        valid=shown.inside if shown.valid_cells_only else None,
    )


EM_ADAPT = register(Method("em_adapt", annotation="image", constants=EMAdaptConstants, estep=label_map))
