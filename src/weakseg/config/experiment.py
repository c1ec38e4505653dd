"""Experiments: the streams that a mini-batch draws from, and the line of a table that comes of it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weakseg.config.dataset import Role
from weakseg.config.network import FieldOfView
from weakseg.methods import METHODS, Method
from weakseg.strict import Strict

Kind = Literal["weak", "semi", "strong"]

Stage = Literal["val", "test"]
"""val: trained on the training list, scored on val. test: trained on that and val together, scored on the test list,
with the CRF of the run that it goes on from."""

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
    dataset: str | None = Field(
        None, description="Name under which the study has the data set in `other_datasets`; null: its own."
    )
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
    fov: FieldOfView = Field(description="Field of view of the head: small, rate8, seven or large.")
    streams: tuple[Stream, ...] = Field(min_length=1, description="What a mini-batch draws from, strong images first.")
    variant: str | None = Field(
        None, description="What makes this a variant of the table's line; null for the line itself."
    )
    also: dict[str, int] = Field(
        default_factory=dict, description="Further tables that print this run, each with its line there."
    )
    stage: Stage = Field(
        "val",
        description="val: trained on the training list and scored on val; test: on both together, scored on the test "
        "list.",
    )
    pixel_labels_of_val: bool = Field(
        False, description="Stage test: strong images are taken from val too, as the paper's 2.9k."
    )
    init_from: str | None = Field(
        None, description="Id of the experiment whose trained network, of the same seed, this one starts from."
    )
    fresh_classifier: bool = Field(
        False, description="Of that network all but the classifiers is taken, for a label set of its own."
    )
    multi_scale: bool = Field(
        False,
        description="Add a classifier on each stage of the trunk (MSc); with `init_from` these branches alone learn.",
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

    @model_validator(mode="after")
    def _start_fits(self) -> "Experiment":
        if self.fresh_classifier and self.init_from is None:
            raise ValueError(f"experiment {self.id}: fresh_classifier says what is not taken from `init_from`; name it")
        if self.stage == "test" and self.init_from is None:
            raise ValueError(
                f"experiment {self.id}: stage test goes on from a run of stage val; name it in `init_from`"
            )
        if self.pixel_labels_of_val and self.stage != "test":
            raise ValueError(
                f"experiment {self.id}: pixel_labels_of_val needs `stage: test`; else val is what is scored"
            )
        return self

    def line_in(self, table: str) -> int | None:
        """The line of a table that this experiment is, or None."""
        return self.line if table == self.table else self.also.get(table)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that print it."""
        return (self.table, *self.also)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The study's other data sets that it draws from."""
        return tuple(dict.fromkeys(stream.dataset for stream in self.streams if stream.dataset is not None))

    @property
    def settings_for(self) -> tuple[str, ...]:
        """The keys of a study's `solver_for` and `methods_for` that speak of it, general ones first."""
        joint = len({stream.dataset for stream in self.streams}) > 1
        special = {"joint": joint, "test_stage": self.stage == "test", "multi_scale": self.multi_scale}
        return (self.kind, *(key for key, holds in special.items() if holds), self.id)

    @property
    def scored(self) -> Role:
        """The list on which it is scored."""
        return "test" if self.stage == "test" else "evaluation"

    @property
    def counted_streams(self) -> tuple[Stream, ...]:
        """The streams whose images its table counts: those of the other data set, where there is one."""
        return tuple(s for s in self.streams if s.dataset is not None) or self.streams

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

    other: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Training images of other data sets by name; all have pixel labels."
    )
    pixel_labelled: int = Field(ge=1, description="Images of VOC 2012 `train`.")
    training: int = Field(ge=1, description="Images of the augmented list `train_aug`.")
    evaluation: int = Field(ge=1, description="Images of VOC 2012 `val`.")
    held_out: int = Field(ge=1, description="Images of `val` on which the paper tunes the CRF.")

    def of(self, dataset: str | None, *, stage: Stage = "val", pixel_labels_of_val: bool = False) -> "PaperLists":
        """The lists that the streams of a data set draw from.

        Args:
            dataset: one of `other`, or None for the paper's own.
            stage, pixel_labels_of_val: as the experiment says.
        """
        if dataset is not None:
            return self.model_copy(update={"pixel_labelled": self.other[dataset], "training": self.other[dataset]})
        if stage == "val":
            return self
        pixel_labelled = self.pixel_labelled + (self.evaluation if pixel_labels_of_val else 0)
        return self.model_copy(update={"pixel_labelled": pixel_labelled, "training": self.training + self.evaluation})

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

    @model_validator(mode="after")
    def _starts_are_there(self) -> "ExperimentSheet":
        rows = {row.id: row for row in self.experiments}
        before: set[str] = set()
        for row in self.experiments:
            if (start := row.init_from) is not None and start not in before:
                known = f"{start} comes after it" if start in rows else f"there is no experiment {start}"
                raise ValueError(f"experiment {row.id}: init_from: {known}; a start stands before those that need it")
            for dataset in row.datasets:
                if dataset not in self.lists.other:
                    raise ValueError(
                        f"experiment {row.id}: lists.other does not say how many training images {dataset!r} has"
                    )
            before.add(row.id)
        return self
