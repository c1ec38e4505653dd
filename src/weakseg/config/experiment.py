"""Experiments: the streams that a mini-batch draws from, and the line of a table that comes of it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weakseg.config.dataset import Role
from weakseg.config.network import FieldOfView
from weakseg.methods import METHODS, Method
from weakseg.strict import Strict

Kind = Literal["weak", "semi", "strong"]

EVERY = 1_000_000_000
"""Stands for the count of a stream that takes all images there are."""


class Stream(Strict):
    """What a mini-batch draws from: images with one annotation, and the method by which they teach."""

    annotation: Literal["strong", "image", "box"] = Field(
        description="What its images offer: pixel labels, image-level labels, or boxes."
    )
    method: str = Field(description="How they teach, by name.")
    images: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        description="How many images; all: every training image that no stream before it has taken."
    )
    dataset: str | None = Field(None, description="Name of the data set; null: that of the study.")
    share: float | None = Field(None, gt=0, le=1, description="Share of the mini-batch; null: equal shares.")
    weight: float | None = Field(None, ge=0, description="Weight of its loss; null: equal weights.")

    @model_validator(mode="after")
    def _method_fits(self) -> "Stream":
        if self.method not in METHODS:
            raise ValueError(f"there is no method {self.method!r}; there are {', '.join(sorted(METHODS))}")
        if (needed := METHODS[self.method].annotation) != self.annotation:
            raise ValueError(f"method {self.method} needs the annotation {needed!r}, not {self.annotation!r}")
        return self

    @property
    def count(self) -> int:
        """How many images, `EVERY` for all."""
        return EVERY if self.images == "all" else self.images

    @property
    def is_strong(self) -> bool:
        """Whether its images have pixel labels."""
        return self.annotation == "strong"

    @property
    def how(self) -> Method:
        """The method."""
        return METHODS[self.method]


class Experiment(Strict):
    """One line of a table."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the run folder.")
    table: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Table of the paper (table1..table6), or one's own.")
    line: int = Field(ge=1, description="Line of that table, from 1; variants share the line of their original.")
    title: str = Field(description="Name as printed in the table.")
    fov: FieldOfView = Field(description="Field of view of the head: SmallFOV or LargeFOV.")
    streams: tuple[Stream, ...] = Field(min_length=1, description="What a mini-batch draws from, strong images first.")
    variant: str | None = Field(
        None, description="What makes this a variant of the table's line; null for the line itself."
    )
    also: dict[str, int] = Field(
        default_factory=dict, description="Further tables that print this run, each with its line there."
    )

    @model_validator(mode="after")
    def _streams_make_a_batch(self) -> "Experiment":
        for name in ("share", "weight"):
            given = [getattr(stream, name) for stream in self.streams]
            if None in given and any(value is not None for value in given):
                raise ValueError(f"experiment {self.id}: give every stream a {name}, or none")
            if None not in given and abs(sum(given) - 1) > 1e-6:
                raise ValueError(f"experiment {self.id}: the {name}s of its streams must sum to 1")
        strong = [stream.is_strong for stream in self.streams]
        if strong != sorted(strong, reverse=True):
            raise ValueError(f"experiment {self.id}: streams with pixel labels come first")
        return self

    def line_in(self, table: str) -> int | None:
        """The line of a table that this experiment is, or None."""
        return self.line if table == self.table else self.also.get(table)

    @property
    def strong(self) -> int:
        """How many images have pixel labels in the paper, `EVERY` for all."""
        return min(EVERY, sum(stream.count for stream in self.streams if stream.is_strong))

    @property
    def weak_streams(self) -> tuple[Stream, ...]:
        """The streams without pixel labels."""
        return tuple(stream for stream in self.streams if not stream.is_strong)

    @property
    def weak(self) -> int:
        """How many images are weakly annotated in the paper, `EVERY` for all."""
        return min(EVERY, sum(stream.count for stream in self.weak_streams))

    @property
    def weak_annotation(self) -> Literal["none", "image", "box"]:
        """What its weak images offer; that of the first stream where there are several."""
        return next((s.annotation for s in self.weak_streams if s.annotation != "strong"), "none")

    @property
    def weak_method(self) -> str | None:
        """The method of its first stream without pixel labels."""
        return self.weak_streams[0].method if self.weak_streams else None

    @property
    def kind(self) -> Kind:
        """weak: no pixel labels; strong: only pixel labels; semi: both."""
        if not self.weak_streams:
            return "strong"
        return "semi" if self.strong else "weak"

    @property
    def estep_stream(self) -> Stream | None:
        """The first stream whose method has an E-step, of which label maps can be shown."""
        return next((stream for stream in self.streams if stream.how.estep), None)

    @property
    def label_maps(self) -> tuple[str, ...]:
        """The folders of label maps made from boxes that its streams read."""
        return tuple(sorted({stream.how.label_maps for stream in self.streams if stream.how.label_maps}))


class PaperLists(Strict):
    """Sizes of the lists that the counts of the experiments are meant for."""

    pixel_labelled: int = Field(ge=1, description="Images of VOC 2012 `train`.")
    training: int = Field(ge=1, description="Images of the augmented list `train_aug`.")
    evaluation: int = Field(ge=1, description="Images of VOC 2012 `val`.")
    held_out: int = Field(ge=1, description="Images of `val` on which the paper tunes the CRF.")

    def sizes(self) -> dict[Role, int]:
        """Size by role."""
        return {
            "pixel_labelled": self.pixel_labelled,
            "training": self.training,
            "evaluation": self.evaluation,
            "held_out": self.held_out,
        }


class ExperimentSheet(Strict):
    """The content of `experiments.yaml`."""

    lists: PaperLists
    experiments: tuple[Experiment, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "ExperimentSheet":
        ids = [row.id for row in self.experiments]
        if doubled := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"experiment ids occur twice: {', '.join(doubled)}")
        return self
