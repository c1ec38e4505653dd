"""Networks and the initial weights of their trunks."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from weakseg.strict import Strict

FieldOfView = Literal["small", "rate8", "seven", "large"]
"""Field of view of the head: SmallFOV, the 4x4 kernel at rate 8, the 7x7 kernel, or LargeFOV."""

FreshStart = Literal["measured", "he"]
"""How layers of the head start that no weights file gives."""

BOUNDED_TRUNKS = ("mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "tiny")
"""Trunks whose map lies in [0, 6], for which He's start of the head is near ln(L+1) as it is."""

TrunkName = Literal[
    "vgg16", "mobilenet_v2", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "squeezenet1_1", "tiny"
]
"""A trunk by name."""


class Preprocessing(Strict):
    """How pixels 0..255 enter a trunk: x = (scale * pixel - mean) / std, channels put in order first."""

    channel_order: Literal["RGB", "BGR"] = Field("RGB", description="Order of the input channels.")
    scale: float = Field(1 / 255, gt=0, description="Factor on pixels 0..255.")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="Subtracted, after scaling.")
    std: tuple[float, float, float] = Field((0.229, 0.224, 0.225), description="Divided by.")


class InitialWeights(Strict):
    """Initial weights of a trunk, by file and checksum, with the preprocessing they were trained with.

    A study that gives a name of `weights.yaml` in its place has what that says of them, `name` and `checksum` too.
    """

    path: str = Field(
        description="A safetensors file; `{data_root}` as in dataset.path; `{results}` is the study's result folder."
    )
    sha256: str | None = Field(
        None, description="Hex SHA-256 of the file; null only for a file that a rule of the study makes."
    )
    preprocessing: Preprocessing = Field(
        default_factory=lambda: Preprocessing(), description="The input convention of these weights."
    )
    name: SkipJsonSchema[str | None] = Field(None, description="The name in `weights.yaml` that the study gives.")
    checksum: SkipJsonSchema[str | None] = Field(None, description="Checksum of the named file, before its conversion.")

    @model_serializer(mode="wrap")
    def _without_empty_names(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Weights by path are written as they always were, so that results made of them stay valid."""
        fields = serialise(self)
        return fields if self.name is not None else {k: v for k, v in fields.items() if k not in ("name", "checksum")}

    @property
    def title(self) -> str:
        """What logs and reports call them: their name, else that of their file."""
        return self.name or self.path.replace("\\", "/").rpartition("/")[2]


NamedWeights = Callable[[str, str | None], InitialWeights]
"""Name and trunk -> the weights; given as `weights` in the context of a validation, by `load_study`."""


def _look_up(value: Any, info: ValidationInfo) -> Any:
    """The weights that a name stands for."""
    if not isinstance(value, str):
        return value
    known: NamedWeights | None = (info.context or {}).get("weights")
    if known is None:
        raise ValueError(f"the name {value!r} of weights.yaml can be used in a study's file only")
    return known(value, info.data.get("trunk"))


class Network(Strict):
    """A trunk at output stride 8 or 16 with a DeepLab head (Chen et al. 2015; DeepLab v1 release)."""

    trunk: TrunkName = Field(description="Trunk by name.")
    output_stride: Literal[8, 16] = Field(8, description="Input pixels per score cell.")
    head_channels: int | None = Field(
        None, ge=1, description="Channels of fc6 and fc7; null: the paper's (1024 large FOV, else 4096)."
    )
    fov_scale: float = Field(
        1.0, gt=0, description="Factor on fc6's rate, for photos much smaller than VOC's; rates are 1 cell at least."
    )
    skip_classifier: bool = Field(
        False,
        description="Compact networks: add a linear classifier on the trunk's last map to the head's scores, so "
        "that every pre-trained channel is seen directly.",
    )
    separable_fc6: bool = Field(
        False,
        description="Compact networks: fc6 as a 1x1 convolution followed by a dilated depthwise kernel, which keeps "
        "the field of view and makes it cheap on wide trunks.",
    )
    weights: Annotated[
        InitialWeights | None, BeforeValidator(_look_up, json_schema_input_type=InitialWeights | str | None)
    ] = Field(None, description="Initial weights: a name in `weights.yaml`, or a file; null: random.")
    fresh_start: FreshStart = Field(
        default_factory=lambda data: "he" if data.get("trunk") in BOUNDED_TRUNKS else "measured",
        description="How layers of the head start that the weights do not hold. measured: fc6 and fc7 scaled to what "
        "they see of a few training crops, classifiers so that the first loss is near ln(L+1); he: He's initialisation "
        "as it is. Default: he for trunks whose map is bounded (all but vgg16 and squeezenet), else measured.",
    )
    freeze_trunk: bool = Field(
        False, description="Keep the trunk as it is; its maps are then computed once and cached."
    )
    principal_axes: int | None = Field(
        None,
        ge=1,
        description="Frozen trunks: the map is centred, projected on so many principal axes of the training photos' "
        "cells, and divided by its rms; null: the map as it is.",
    )
    image_scale: float = Field(1.0, gt=0, le=4, description="Factor on the photo's sides before the network.")
    crop_px: int = Field(321, ge=33, description="Side of a training crop in network pixels; stride*k+1.")
    test_px: int | None = Field(
        None,
        ge=33,
        description="Side to which whole photos are padded for scoring, bottom and right with the mean pixel: "
        "stride*k+1, in the paper 513. Longer sides, and all where it is null, are padded to the next stride*k+1.",
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Elementwise dropout, of the head and of branches.")

    @model_validator(mode="after")
    def _crop_is_aligned(self) -> "Network":
        if (self.crop_px - 1) % self.output_stride:
            raise ValueError(
                f"network.crop_px {self.crop_px} is not a multiple of output_stride {self.output_stride} plus 1"
            )
        if self.test_px is not None and (self.test_px - 1) % self.output_stride:
            raise ValueError(
                f"network.test_px {self.test_px} is not a multiple of output_stride {self.output_stride} plus 1"
            )
        if self.principal_axes is not None and not self.freeze_trunk:
            raise ValueError("network.principal_axes needs network.freeze_trunk: a trunk that learns moves its axes")
        if self.test_px is not None and self.freeze_trunk:
            raise ValueError(
                "network.test_px cannot be used with network.freeze_trunk, as the maps of a frozen trunk are those of "
                "photos at their own size; leave it out"
            )
        return self
