"""Names of the result files, so that rules, commands and notebooks agree on them."""

from dataclasses import dataclass
from pathlib import Path

DATASETS = "datasets"
"""Folder of a study's other data sets, each with images, annotation and feature maps of its own."""


@dataclass(frozen=True)
class StudyPaths:
    """Files of a study below `{results}/{study}`; `study` may be `{study}/datasets/{name}`, see `of_dataset`."""

    study: str
    results: Path = Path("results")

    def of_dataset(self, name: str | None) -> "StudyPaths":
        """The files of one of the study's other data sets; its own for None."""
        return self.own if name is None else StudyPaths(f"{self.own.study}/{DATASETS}/{name}", self.results)

    @property
    def own(self) -> "StudyPaths":
        """The files of the study itself."""
        return StudyPaths(self.study.partition(f"/{DATASETS}/")[0], self.results)

    @property
    def dataset(self) -> str | None:
        """The other data set whose files these are; None for the study's own."""
        return self.study.partition(f"/{DATASETS}/")[2] or None

    @property
    def root(self) -> Path:
        return Path(self.results) / self.study

    @property
    def manifest(self) -> Path:
        return self.root / "data" / "manifest.json"

    @property
    def contents(self) -> Path:
        """Hashes of the data set's files, as they were when it was prepared."""
        return self.root / "data" / "contents.json"

    @property
    def images(self) -> Path:
        """The images of a study that generates or downloads them."""
        return self.root / "images"

    @property
    def converted_coco(self) -> Path:
        """The VOC layout that is made of MS-COCO."""
        return self.images / "coco"

    @property
    def image_labels(self) -> Path:
        """Image-level labels of the training images: what the E-step is told, also after an edit by hand."""
        return self.root / "annotations" / "image_labels.csv"

    @property
    def crop_labels(self) -> Path:
        """Which of these labels each crop of a photo shows, where its pixel labels tell."""
        return self.root / "annotations" / "crop_labels.safetensors"

    @property
    def boxes(self) -> Path:
        return self.root / "annotations" / "boxes.json"

    def box_maps(self, method: str) -> Path:
        """Folder of label maps made from boxes by `bbox_rect` or `bbox_seg`, one palette PNG an image with boxes."""
        return self.root / "annotations" / method

    @property
    def bbox_seg_grid(self) -> Path:
        """Every alpha and CRF parameter set tried for Bbox-Seg."""
        return self.root / "annotations" / "bbox_seg_grid.csv"

    @property
    def bbox_seg_params(self) -> Path:
        """The winner, with which Bbox-Seg's maps are made."""
        return self.root / "annotations" / "bbox_seg.json"

    @property
    def label_quality(self) -> Path:
        """IOU of the training labels of each box method against the truth, by class."""
        return self.root / "annotations" / "label_quality.csv"

    @property
    def pretrained(self) -> Path:
        return self.root / "weights" / "trunk.safetensors"

    @property
    def projection(self) -> Path:
        """The principal axes of a frozen trunk's map, those of the study's own photos for all of its data sets."""
        return self.own.root / "features" / "projection.safetensors"

    def features(self, role: str) -> Path:
        """Cached feature maps of a frozen trunk, of the images for `training`, `evaluation` or `test`."""
        return self.root / "features" / f"{role}.safetensors"

    def table(self, name: str) -> Path:
        return self.root / "tables" / f"{name}.csv"

    @property
    def findings(self) -> Path:
        """What the paper found, with this study's figures and a verdict for each claim."""
        return self.root / "tables" / "findings.csv"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def picture(self, page: str, number: int) -> Path:
        """A picture with photos of a page, from 1 in their order, kept where the photos themselves are not."""
        return self.report / "pictures" / f"{page}_{number}.jpg"

    @property
    def provenance(self) -> Path:
        """What was noted of results that were kept, in place of the machine and the code that show them."""
        return self.root / "provenance.json"

    def run(self, experiment: str, seed: int) -> "RunPaths":
        return RunPaths(self.root / "runs" / experiment / f"seed{seed}")


@dataclass(frozen=True)
class RunPaths:
    """Files of one run (study, experiment, seed)."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model.safetensors"

    @property
    def train_log(self) -> Path:
        return self.root / "train_log.csv"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def resume(self) -> Path:
        """Folder of resume states, keyed inside by configuration hash; no rule's output."""
        return self.root / "resume"

    @property
    def snapshots(self) -> Path:
        """What was learnt before the first update, half-way and at the end; empty where no method has an E-step."""
        return self.root / "snapshots"

    @property
    def estep_maps(self) -> Path:
        """E-step maps of a few whole training images at these moments."""
        return self.root / "estep_maps.safetensors"

    @property
    def estep_confusion(self) -> Path:
        """Confusion of the E-step's labels with the truth at these moments."""
        return self.root / "estep_confusion.csv"

    @property
    def scores(self) -> Path:
        return self.root / "scores.safetensors"

    @property
    def crf_grid(self) -> Path:
        return self.root / "crf_grid.csv"

    @property
    def crf(self) -> Path:
        return self.root / "crf.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def per_class(self) -> Path:
        return self.root / "per_class.csv"

    def confusion(self, *, crf: bool) -> Path:
        return self.root / ("confusion.csv" if crf else "confusion_dcnn.csv")

    def labels(self, *, crf: bool) -> Path:
        """Folder of palette PNGs, one an evaluated image."""
        return self.root / ("labels" if crf else "labels_dcnn")

    @property
    def submission(self) -> Path:
        """Label maps of the test photos as the server of PASCAL VOC takes them (runs of stage `test`)."""
        return self.root / "submission.tgz"
