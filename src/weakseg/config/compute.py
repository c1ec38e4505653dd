"""How a run computes: precision, and where what it needs is kept."""

from typing import Literal

from pydantic import Field

from weakseg.strict import Strict

Precision = Literal["fp32", "tf32", "bf16"]
"""Precision of convolutions and matrix products."""


class Compute(Strict):
    """How a run computes on the device that it finds; what it computes is said by the other sections."""

    precision: Precision = Field(
        "fp32",
        description="Precision of a training's convolutions. fp32: IEEE single precision, the reference. tf32: factors "
        "of ten-bit mantissas on GPUs that have them. bf16: forward and backward pass in bfloat16 but for the last "
        "layer; parameters, E-step, loss and update stay in single precision.",
    )
    photos: Literal["files", "host", "device"] = Field(
        "files",
        description="Where the decoded photos of a network that trains whole are kept. files: a crop reads its photo "
        "again. host, device: all of them in the machine's or in the GPU's memory, three bytes a pixel (the "
        "10,582 of train_aug: 6 GB). The mini-batches are the same.",
    )
    crf: Literal["cores", "device"] = Field(
        "cores",
        description="Where the CRF runs that is searched and evaluated. cores: the compiled engine. device: operations "
        "on whole tensors, on the GPU; about a label in a thousand differs.",
    )
