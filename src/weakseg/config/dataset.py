"""What a study says of its data set: where the images come from, its labels and its lists."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from weakseg.config.reading import DATA_ROOT_VARIABLE
from weakseg.labels import KNOWN, LabelSet
from weakseg.strict import Strict

Role = Literal["pixel_labelled", "training", "evaluation", "held_out", "test"]
"""What a list of images is for: images with pixel labels, of which the strong ones are taken first; all training
images; images that are scored; those of them on which the CRF is tuned; and, where a study has them, images that a
second training stage is scored on, which may have no labels here."""

Fetched = Literal["voc", "coco"]
"""A data set that is fetched: VOC 2012 with SBD, or MS-COCO 2014."""

ARCHIVES: dict[Fetched, tuple[str, ...]] = {
    "voc": ("voc2012", "sbd"),
    "coco": ("coco2014_annotations", "coco2014_train", "coco2014_val"),
}
"""Rows of `datasets.yaml` of which each is made."""

SCENES_VERSION = 3
"""Raised when the generator no longer gives the same images for the same sizes and seed."""


class Scenes(Strict):
    """Sizes of the generated data set (study `demo`)."""

    seed: int = Field(0, ge=0, description="Seed of the generator; the same seed gives the same bytes.")
    height_px: int = Field(120, ge=32, description="Height of a scene in pixels.")
    width_px: int = Field(160, ge=32, description="Width of a scene in pixels.")
    train: int = Field(60, ge=1, description="Images of `train` (pixel labels with a void border).")
    train_aug: int = Field(240, ge=2, description="Images of `train_aug`, those of `train` included.")
    val: int = Field(60, ge=0, description="Images of `val`; 0: none, in a data set that is only trained on.")
    crf_val: int = Field(
        10, ge=0, description="Held-out images of `val` on which the CRF is tuned; 0 where `val` may be."
    )
    test: int = Field(0, ge=0, description="Images of `test`, on which runs of the second stage are scored; 0: none.")
    classes: int = Field(20, ge=2, description="Foreground classes that occur (labels 1..classes).")
    pretrain_per_class: int = Field(60, ge=0, description="Single-object images a class for pre-training; 0: none.")
    pretrain_size_px: int = Field(64, ge=32, description="Side of a pre-training image in pixels.")

    def recipe(self) -> dict[str, int]:
        """All that decides the images. Without images for `test` it is what it was before there could be any."""
        fields: dict[str, int] = self.model_dump(mode="json")
        return fields if self.test else {name: value for name, value in fields.items() if name != "test"}


class Lists(Strict):
    """Names of the data set's lists, files of `ImageSets/Segmentation` without `.txt`."""

    pixel_labelled: str = Field("train", description="Images of which the strong ones are taken first, sorted.")
    training: str = Field("train_aug", description="All training images, those of `pixel_labelled` included.")
    evaluation: str = Field("val", description="Images that are scored.")
    held_out: str = Field(
        "crf_val", description="Those of `evaluation` on which the CRF is tuned; made by rule where there is no list."
    )
    test: str | None = Field(
        None,
        description="Images on which runs of the second stage are scored; they need no labels. null: there are none, "
        "and experiments of that stage are left out.",
    )
    test_of_val: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="In place of `test`: this share of the images of `evaluation` stands in for it, by rule. They are "
        "scored in the first stage as ever, and the second stage does not train on them. None is one of `held_out`.",
    )

    def names(self) -> list[str]:
        """The names of the lists that there are."""
        return [name for name in self.model_dump(exclude={"test_of_val"}).values() if name is not None]

    @model_validator(mode="after")
    def _one_test(self) -> "Lists":
        if self.test is not None and self.test_of_val is not None:
            raise ValueError("lists.test and lists.test_of_val: give one of them")
        return self


class OwnClass(Strict):
    """A class of a study's own label set."""

    name: str = Field(min_length=1, description="Name of the class, as the annotation writes it.")
    colour: str | None = Field(None, pattern=r"^#[0-9a-fA-F]{6}$", description="#rrggbb; null: that of VOC's palette.")


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Dataset(Strict):
    """Where the images come from; whatever the source, they are read in the VOC layout."""

    scored: ClassVar[bool] = True
    """Whether images of it are scored, so that there must be some."""

    name: str = Field(description="Name of the data set, printed in the report.")
    source: Literal["scenes", "path", "coco", "download"] = Field(
        description="scenes: generated; path: a VOC-layout folder of the user; coco: the user's folder of MS-COCO; "
        "download: by config/datasets.yaml, MS-COCO 2014 where `labels` is `coco`, else VOC 2012 and SBD."
    )
    path: str | None = Field(
        None,
        description="Folder with JPEGImages, ImageSets and what annotation there is (source: path), or with MS-COCO's "
        "annotations and photos (source: coco). `{data_root}` "
        f"stands for `--config data_root=...` or the environment variable {DATA_ROOT_VARIABLE}.",
    )
    annotations: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Files of MS-COCO's annotation, relative to `path` (source: coco). null: instances_train and "
        "instances_val of 2014, else of 2017, else instances.json, all in `annotations`.",
    )
    scenes: Scenes | None = Field(None, description="Sizes of the generated scenes (source: scenes).")
    labels: (
        Literal["voc", "coco", "scenes28"]
        | Annotated[tuple[Annotated[OwnClass, BeforeValidator(_named)], ...], Field(min_length=1)]
    ) = Field(
        "voc",
        description="The labels: `voc`, `coco`, `scenes28` (all that the generator draws), or the names of one's own "
        "foreground classes in order. With source coco they are `coco`.",
    )
    lists: Lists = Field(default_factory=lambda: Lists(), description="Which list is for what.")
    image_labels: str | None = Field(
        None,
        description="CSV with image-level labels by hand (source: path); `{data_root}` as in `path`. null: the file "
        "image_labels.csv of the folder, where there is one.",
    )

    test_photos: str | None = Field(
        None,
        description="Folder with JPEGImages and ImageSets/Segmentation of the photos of `lists.test`, where the data "
        "set's own folder has none; `{data_root}` as in `path`. While it is not there, all but the test stage can run.",
    )

    @model_validator(mode="before")
    @classmethod
    def _labels_of_source(cls, fields: Any) -> Any:
        of_coco = isinstance(fields, dict) and fields.get("source") == "coco"
        return {"labels": "coco", **fields} if of_coco else fields

    @model_validator(mode="after")
    def _source_has_its_field(self) -> "Dataset":
        if self.source in ("path", "coco") and not self.path:
            raise ValueError(f"dataset.path is needed where dataset.source is {self.source!r}")
        if self.source == "coco" and self.labels != "coco":
            raise ValueError("dataset.labels must be `coco`, or not be there, where dataset.source is 'coco'")
        if self.test_photos is not None and self.lists.test is None:
            raise ValueError("dataset.test_photos needs dataset.lists.test, which names the list of these photos")
        if self.annotations is not None and self.source != "coco":
            raise ValueError("dataset.annotations is for dataset.source 'coco'")
        if self.source == "scenes" and self.scenes is None:
            raise ValueError("dataset.scenes is needed where dataset.source is 'scenes'")
        if self.scenes is not None and (self.scenes.test > 0) != (self.lists.test is not None):
            raise ValueError("dataset.scenes.test says how many images dataset.lists.test has; give both or neither")
        if self.scored and self.scenes is not None and not (self.scenes.val and self.scenes.crf_val):
            raise ValueError(
                "dataset.scenes.val and crf_val must be 1 at least: a study scores images of its own data set and "
                "tunes the CRF on some of them; only one of other_datasets can be without"
            )
        classes = len(self.label_set().classes)
        if self.scenes is not None and self.scenes.classes > classes:
            raise ValueError(f"dataset.scenes.classes is more than the {classes} of the labels")
        return self

    @property
    def of_coco(self) -> bool:
        """Whether the images are MS-COCO's own, the user's or fetched, which are converted into the VOC layout."""
        return self.source == "coco" or (self.source == "download" and self.labels == "coco")

    @property
    def fetched(self) -> Fetched | None:
        """What is fetched; None where the images come from elsewhere."""
        return None if self.source != "download" else "coco" if self.of_coco else "voc"

    def list_names(self) -> list[str]:
        """Names of the lists that are read."""
        return self.lists.names()

    @property
    def has_test(self) -> bool:
        """Whether there are images for the second stage's scores."""
        return self.lists.test is not None or self.lists.test_of_val is not None

    def label_set(self) -> LabelSet:
        """The labels, with names and colours."""
        if isinstance(self.labels, str):
            return KNOWN[self.labels]
        colours = {own.name: own.colour for own in self.labels if own.colour}
        return LabelSet.of_classes("own", [own.name for own in self.labels], colours)


class OtherDataset(Dataset):
    """A further data set of a study, with labels of its own; its images teach, and are not scored."""

    scored: ClassVar[bool] = False

    shared: dict[str, str] | None = Field(
        None,
        description="Classes that are the same: name in the study's own data set -> name here. null: classes of one "
        "name, and VOC's in MS-COCO as they are known.",
    )
    images_for: dict[int, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Counts of experiments.yaml -> images taken here, where the paper's proportion would be too few.",
    )

    def list_names(self) -> list[str]:
        """Those of training images; none is scored."""
        return list(dict.fromkeys([self.lists.training, self.lists.pixel_labelled]))
