"""The solver, and how training images are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from weakseg.config.network import FieldOfView
from weakseg.strict import Strict


class Solver(Strict):
    """SGD as in the DeepLab v1 release (solver.prototxt, train.prototxt)."""

    iterations: int = Field(6000, ge=1, description="Iterations (mini-batches).")
    batch: int = Field(30, ge=1, description="Images a mini-batch; streams have their share of it.")
    batch_for_fov: dict[FieldOfView, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Images a mini-batch by field of view of the head, in place of `batch`; the release has 20 for the "
        "small one and 30 for the large one.",
    )
    lr: float = Field(0.001, gt=0, description="Base learning rate.")
    bias_lr_multiplier: float = Field(2.0, ge=0, description="Learning rate of biases relative to weights.")
    head_lr_multiplier: float = Field(
        1.0,
        ge=0,
        description="Learning rate of fc6 and fc7 relative to the base, where they start fresh; 1 where they come from "
        "the weights.",
    )
    fc8_lr_multiplier: float = Field(10.0, ge=0, description="Learning rate of fc8 relative to the base.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, with the rate inside the velocity (Caffe).")
    weight_decay: float = Field(0.0005, ge=0, description="L2 decay of weights; biases have none.")
    schedule: Literal["step", "poly"] = Field("step", description="Learning-rate schedule.")
    step_iterations: int = Field(2000, ge=1, description="step: iterations between drops.")
    step_factor: float = Field(0.1, gt=0, le=1, description="step: factor of a drop.")
    poly_power: float = Field(0.9, gt=0, description="poly: (1 - iteration / iterations) ** power.")
    checkpoint_iterations: int = Field(200, ge=1, description="Iterations between resume states.")


class Sampling(Strict):
    """How training images are drawn."""

    repeat_factor_threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Repeat-factor sampling by image-level labels: a class in a share f of the images makes its "
        "images count max(1, sqrt(threshold / f)) times. 0: every image once an epoch, as in the paper.",
    )
    valid_cells_only: bool = Field(
        False,
        description="Leave cells of padding out of the E-step and the weak loss; the release counts them in.",
    )
