"""Typed studies, experiments and published figures, read from YAML; unknown keys are refused.

Defaults are written once, here. The JSON schemas under `workflow/schemas/` are generated from these models
(`weakseg schemas`), and a test fails when they drift.
"""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from weakseg.errors import WeaksegError
from weakseg.files import sha256_json

DATA_ROOT_VARIABLE = "WEAKSEG_DATA_ROOT"
"""Environment variable that replaces `{data_root}` in configured paths."""


class Strict(BaseModel):
    """A model that refuses keys it does not know, so that a typing error cannot pass unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scenes(Strict):
    """Sizes of the generated data set (study `demo`)."""

    seed: int = Field(0, ge=0, description="Seed of the generator; the same seed gives the same bytes.")
    height_px: int = Field(120, ge=32, description="Height of a scene in pixels.")
    width_px: int = Field(160, ge=32, description="Width of a scene in pixels.")
    train: int = Field(60, ge=1, description="Images of `train` (pixel labels with a void border).")
    train_aug: int = Field(240, ge=2, description="Images of `train_aug`, those of `train` included.")
    val: int = Field(60, ge=1, description="Images of `val`.")
    crf_val: int = Field(10, ge=1, description="Held-out images of `val` on which the CRF is tuned.")
    classes: int = Field(20, ge=2, le=20, description="Foreground classes that occur (labels 1..classes).")
    pretrain_per_class: int = Field(60, ge=1, description="Single-object images a class for pre-training.")
    pretrain_size_px: int = Field(64, ge=32, description="Side of a pre-training image in pixels.")


class Dataset(Strict):
    """Where the images come from; whatever the source, they are read in the VOC layout."""

    name: str = Field(description="Name of the data set, printed in the report.")
    source: Literal["scenes", "path", "download"] = Field(
        description="scenes: generated; path: a VOC-layout folder of the user; download: by config/datasets.yaml."
    )
    path: str | None = Field(
        None,
        description="Folder with JPEGImages, SegmentationClassAug and ImageSets (source: path). `{data_root}` "
        f"stands for `--config data_root=...` or the environment variable {DATA_ROOT_VARIABLE}.",
    )
    scenes: Scenes | None = Field(None, description="Sizes of the generated scenes (source: scenes).")

    @model_validator(mode="after")
    def _source_has_its_field(self) -> "Dataset":
        if self.source == "path" and not self.path:
            raise ValueError("dataset.path is needed where dataset.source is 'path'")
        if self.source == "scenes" and self.scenes is None:
            raise ValueError("dataset.scenes is needed where dataset.source is 'scenes'")
        return self


class Preprocessing(Strict):
    """How pixels 0..255 enter a trunk: x = (scale * pixel - mean) / std, channels put in order first."""

    channel_order: Literal["RGB", "BGR"] = Field("RGB", description="Order of the input channels.")
    scale: float = Field(1 / 255, gt=0, description="Factor on pixels 0..255.")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="Subtracted, after scaling.")
    std: tuple[float, float, float] = Field((0.229, 0.224, 0.225), description="Divided by.")


class InitialWeights(Strict):
    """Initial weights of a trunk, by file and checksum, with the preprocessing they were trained with."""

    path: str = Field(
        description="A safetensors file; `{data_root}` as in dataset.path; `{results}` is the study's result folder."
    )
    sha256: str | None = Field(
        None, description="Hex SHA-256 of the file; null only for a file that a rule of the study makes."
    )
    preprocessing: Preprocessing = Field(
        default_factory=lambda: Preprocessing(), description="The input convention of these weights."
    )


class Network(Strict):
    """A trunk at output stride 8 or 16 with a DeepLab head (Chen et al. 2015; DeepLab v1 release)."""

    trunk: Literal["vgg16", "mobilenet_v2", "squeezenet1_1", "tiny"] = Field(description="Trunk by name.")
    output_stride: Literal[8, 16] = Field(8, description="Input pixels per score cell.")
    head_channels: int | None = Field(
        None, ge=1, description="Channels of fc6 and fc7; null: the paper's (4096 small FOV, 1024 large FOV)."
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
    weights: InitialWeights | None = Field(None, description="Initial weights; null: random.")
    freeze_trunk: bool = Field(
        False, description="Keep the trunk as it is; its maps are then computed once and cached."
    )
    image_scale: float = Field(1.0, gt=0, le=2, description="Factor on the photo's sides before the network.")
    crop_px: int = Field(321, ge=33, description="Side of a training crop in network pixels; stride*k+1.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Elementwise dropout after fc6 and fc7.")

    @model_validator(mode="after")
    def _crop_is_aligned(self) -> "Network":
        if (self.crop_px - 1) % self.output_stride:
            raise ValueError(
                f"network.crop_px {self.crop_px} is not a multiple of output_stride {self.output_stride} plus 1"
            )
        return self


class Solver(Strict):
    """SGD as in the DeepLab v1 release (solver.prototxt, train.prototxt)."""

    iterations: int = Field(6000, ge=1, description="Iterations (mini-batches).")
    batch: int = Field(30, ge=1, description="Images a mini-batch with one kind of annotation.")
    batch_strong: int = Field(15, ge=1, description="Strong images a mini-batch in semi-supervised training.")
    batch_weak: int = Field(15, ge=1, description="Weak images a mini-batch in semi-supervised training.")
    strong_weight: float = Field(0.7, ge=0, le=1, description="Weight of the strong loss; the weak has the rest.")
    lr: float = Field(0.001, gt=0, description="Base learning rate.")
    bias_lr_multiplier: float = Field(2.0, ge=0, description="Learning rate of biases relative to weights.")
    head_lr_multiplier: float = Field(
        1.0, ge=0, description="Learning rate of fc6 and fc7 relative to the base; more where they start fresh."
    )
    fc8_lr_multiplier: float = Field(10.0, ge=0, description="Learning rate of fc8 relative to the base.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, with the rate inside the velocity (Caffe).")
    weight_decay: float = Field(0.0005, ge=0, description="L2 decay of weights; biases have none.")
    schedule: Literal["step", "poly"] = Field("step", description="Learning-rate schedule.")
    step_iterations: int = Field(2000, ge=1, description="step: iterations between drops.")
    step_factor: float = Field(0.1, gt=0, le=1, description="step: factor of a drop.")
    poly_power: float = Field(0.9, gt=0, description="poly: (1 - iteration / iterations) ** power.")
    fixed_map_iterations: int = Field(
        0,
        ge=0,
        description="Bbox-EM-Fixed: so many iterations at the start train on Bbox-Rect's maps themselves, before the "
        "E-step decides. 0 in the paper; a head that starts fresh learns first how frequent the background is, and an "
        "E-step that believes it never finds an object again.",
    )
    checkpoint_iterations: int = Field(200, ge=1, description="Iterations between resume states.")
    estep_pictures_every: int = Field(0, ge=0, description="Iterations between pictures of E-step maps; 0: none.")


class EStep(Strict):
    """Constants of the E-steps (Papandreou et al. 2015, Alg. 1 and section 3.2)."""

    bg_bias: float = Field(3.0, description="EM-Fixed b_bg; published 3 with fg 5, earlier text and code 5 with 6.")
    fg_bias: float = Field(5.0, description="EM-Fixed b_fg.")
    box_bg_bias: float = Field(5.0, description="Bbox-EM-Fixed background bias (released code).")
    box_fg_bias: float = Field(6.0, description="Bbox-EM-Fixed foreground bias (released code).")
    bg_portion: float = Field(0.4, ge=0, le=1, description="EM-Adapt rho_bg.")
    fg_portion: float = Field(0.2, ge=0, le=1, description="EM-Adapt rho_fg.")
    rounds: int = Field(5, ge=1, description="EM-Adapt rounds over the present labels.")
    valid_cells_only: bool = Field(
        False,
        description="Leave cells of padding out of the E-step and the weak loss; the release counts them in.",
    )


class Sampling(Strict):
    """How training images are drawn."""

    repeat_factor_threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Repeat-factor sampling by image-level labels: a class in a share f of the images makes its "
        "images count max(1, sqrt(threshold / f)) times. 0: every image once an epoch, as in the paper.",
    )


class CrfGrid(Strict):
    """Values of one parameter grid."""

    w: tuple[float, ...] = Field((5.0, 10.0), min_length=1, description="Weight of the bilateral kernel.")
    sigma_xy: tuple[float, ...] = Field(
        tuple(float(s) for s in range(50, 101, 10)), min_length=1, description="Bilateral position sigma, pixels."
    )
    sigma_rgb: tuple[float, ...] = Field(
        tuple(float(s) for s in range(3, 11)), min_length=1, description="Bilateral colour sigma, of 0..255."
    )


class CrfSearch(Strict):
    """The search for the CRF's parameters on the held-out images (Chen et al. 2015, section 4)."""

    coarse: CrfGrid = Field(default_factory=lambda: CrfGrid(), description="First grid; the default is the paper's.")
    refine_rounds: int = Field(1, ge=0, description="Finer grids around the best, halving the distances.")
    w_pos: float = Field(3.0, ge=0, description="Weight of the position kernel, fixed.")
    sigma_pos: float = Field(3.0, gt=0, description="Sigma of the position kernel in pixels, fixed.")
    iterations: int = Field(10, ge=1, description="Mean-field iterations.")
    images: int | None = Field(None, ge=1, description="Use the first so many held-out images; null: all.")


class Boxes(Strict):
    """Label maps from bounding boxes, and the search for their parameters on the held-out images (section 3.3)."""

    alphas: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8), min_length=1, description="Bbox-Seg: shares of a box tried as its core."
    )
    search: CrfSearch = Field(
        default_factory=lambda: CrfSearch(
            coarse=CrfGrid(w=(41.0, 45.0), sigma_xy=(33.0, 37.0), sigma_rgb=(3.0, 4.0)),
            refine_rounds=0,
            w_pos=15.0,
            sigma_pos=3.0,
        ),
        description="Bbox-Seg: CRF parameters tried with each alpha; the default holds the released ones.",
    )
    occluder_bias: float = Field(
        0.0, ge=0, description="Bbox-Seg: the k-th box from large to small gets so much times k in its core; 0: off."
    )
    quality_images: int | None = Field(
        500,
        ge=1,
        description="Training images on which label maps are held against the truth, at even distances; null: all. "
        "Bbox-EM-Fixed is looked at while it trains, and its run made again when this changes.",
    )

    @model_validator(mode="after")
    def _alphas_are_shares(self) -> "Boxes":
        if not all(0 < alpha < 1 for alpha in self.alphas):
            raise ValueError("boxes.alphas must lie between 0 and 1")
        return self


class Report(Strict):
    """What the report shows."""

    qualitative_images: int = Field(8, ge=1, description="Images on the qualitative page, half of them failures.")
    box_images: int = Field(6, ge=1, description="Training images of Figure 4 and of the page on boxes.")


class Study(Strict):
    """One file under config/studies/."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the study and of its result folder.")
    description: str = Field(description="One sentence for the report.")
    dataset: Dataset
    network: Network
    solver: Solver = Field(default_factory=lambda: Solver())
    solver_for: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Solver fields that differ: by experiment id, or by kind `weak`, `semi`, `strong`.",
    )
    estep: EStep = Field(default_factory=lambda: EStep())
    sampling: Sampling = Field(default_factory=lambda: Sampling())
    crf: CrfSearch = Field(default_factory=lambda: CrfSearch())
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Seeds of every experiment.")
    seeds_for: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="Seeds of single experiments, in place of `seeds`."
    )
    experiments: tuple[str, ...] | None = Field(
        None, description="Ids of the experiments that the study runs; null: all of config/experiments.yaml."
    )
    boxes: Boxes | None = Field(
        default_factory=lambda: Boxes(),
        description="Label maps from boxes; null: the data set has none, and experiments with boxes are left out.",
    )
    report: Report = Field(default_factory=lambda: Report())

    def solver_of(self, experiment: "Experiment") -> Solver:
        """The solver with the study's changes for this experiment's kind, then for its id."""
        fields = self.solver.model_dump()
        for key in (experiment.kind, experiment.id):
            fields.update(self.solver_for.get(key, {}))
        return Solver.model_validate(fields)

    def seeds_of(self, experiment_id: str) -> tuple[int, ...]:
        """The seeds that this experiment runs with."""
        return self.seeds_for.get(experiment_id, self.seeds)


class Experiment(Strict):
    """One line of a table of the paper, at the paper's sizes."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the run folder.")
    table: str = Field(pattern=r"^table[1-6]$", description="Table of the paper.")
    line: int = Field(ge=1, description="Line of that table, from 1; variants share the line of their original.")
    method: str = Field(description="Name as printed in the table.")
    strong: int = Field(0, ge=0, description="Strong images (pixel labels) in the paper.")
    weak: int = Field(0, ge=0, description="Weakly annotated images in the paper.")
    weak_annotation: Literal["none", "image", "box"] = Field("none", description="What a weak image offers.")
    estep: Literal["none", "em_fixed", "em_adapt", "bbox_rect", "bbox_seg", "bbox_em_fixed"] = Field(
        "none", description="How weak annotation becomes a label map."
    )
    fov: Literal["small", "large"] = Field(description="Field of view of the head: SmallFOV or LargeFOV.")
    variant: str | None = Field(
        None, description="What makes this a variant of the table's line; null for the line itself."
    )
    also: dict[str, int] = Field(
        default_factory=dict, description="Further tables that print this run, each with its line there."
    )

    def line_in(self, table: str) -> int | None:
        """The line of a table that this experiment is, or None."""
        return self.line if table == self.table else self.also.get(table)

    @property
    def kind(self) -> Literal["weak", "semi", "strong"]:
        """weak: no pixel labels; strong: only pixel labels; semi: both."""
        if self.weak == 0:
            return "strong"
        return "semi" if self.strong else "weak"

    @property
    def box_maps(self) -> Literal["bbox_rect", "bbox_seg"] | None:
        """The label maps that weak images come with; None without boxes. Bbox-EM-Fixed starts from Bbox-Rect's."""
        if self.weak_annotation != "box":
            return None
        return "bbox_seg" if self.estep == "bbox_seg" else "bbox_rect"

    @property
    def watched(self) -> bool:
        """Whether its E-step is looked at while it trains: Bbox-EM-Fixed on boxes alone, for Figure 4."""
        return self.estep == "bbox_em_fixed" and self.kind == "weak"

    @model_validator(mode="after")
    def _weak_is_whole(self) -> "Experiment":
        if self.strong + self.weak == 0:
            raise ValueError(f"experiment {self.id}: strong and weak are both 0")
        if (self.weak > 0) != (self.weak_annotation != "none") or (self.weak > 0) != (self.estep != "none"):
            raise ValueError(f"experiment {self.id}: weak, weak_annotation and estep must be given together")
        by_box = self.estep in ("bbox_rect", "bbox_seg", "bbox_em_fixed")
        if self.weak and by_box != (self.weak_annotation == "box"):
            raise ValueError(
                f"experiment {self.id}: estep {self.estep} does not go with weak_annotation {self.weak_annotation}"
            )
        return self


class PaperFigure(Strict):
    """A published figure: one line of a table."""

    table: str = Field(pattern=r"^table[1-6]$")
    line: int = Field(ge=1)
    method: str
    strong: str = Field("", description="Strong images as printed.")
    weak: str = Field("", description="Weak images as printed.")
    iou: float = Field(ge=0, le=100, description="Mean IOU in percent.")
    fov: Literal["small", "large", "unknown", "none"] = Field(
        "none", description="Field of view, inferred from the text's versions."
    )


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WeaksegError(f"{path}: no such file; name a study of config/studies or a YAML file") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WeaksegError(f"{path}: not valid YAML: {error}") from error


def _explain(path: Path, error: ValidationError) -> WeaksegError:
    lines = [f"  {'.'.join(str(p) for p in item['loc']) or '(file)'}: {item['msg']}" for item in error.errors()]
    return WeaksegError(f"{path}: {len(lines)} field(s) cannot be used:\n" + "\n".join(lines))


def load_study(study: str | Path, config_dir: str | Path = "config") -> Study:
    """Read a study by name (`config/studies/{name}.yaml`) or by path.

    Raises:
        WeaksegError: no such file, not YAML, an unknown key or a value out of range; each field is named.
    """
    path = Path(study) if str(study).endswith((".yaml", ".yml")) else Path(config_dir) / "studies" / f"{study}.yaml"
    try:
        loaded = Study.model_validate(_read_yaml(path))
        experiments = {e.id: e for e in load_experiments(config_dir)}
        for chosen in (*(loaded.experiments or ()), *loaded.seeds_for):
            if chosen not in experiments:
                raise WeaksegError(f"{path}: no experiment named {chosen!r} in {config_dir}/experiments.yaml")
        for key in loaded.solver_for:
            if key not in experiments and key not in ("weak", "semi", "strong"):
                raise WeaksegError(f"{path}: solver_for.{key} is neither a kind nor an experiment")
        for experiment in experiments.values():
            loaded.solver_of(experiment)
        for chosen in loaded.experiments or ():
            if loaded.boxes is None and experiments[chosen].weak_annotation == "box":
                raise WeaksegError(
                    f"{path}: experiment {chosen} needs boxes, but the study says `boxes: null`; take the experiment "
                    "out of `experiments`, or that line"
                )
    except ValidationError as error:
        raise _explain(path, error) from error
    return loaded


def load_experiments(config_dir: str | Path = "config") -> list[Experiment]:
    """Read `experiments.yaml`: one row per line of a table; ids are unique."""
    path = Path(config_dir) / "experiments.yaml"
    listed = _read_yaml(path)
    if not isinstance(listed, list):
        raise WeaksegError(f"{path}: not a list of experiments; write one row `- {{id: ..., ...}}` an experiment")
    try:
        rows = [Experiment.model_validate(row) for row in listed]
    except ValidationError as error:
        raise _explain(path, error) from error
    ids = [row.id for row in rows]
    if doubled := sorted({i for i in ids if ids.count(i) > 1}):
        raise WeaksegError(f"{path}: experiment ids occur twice: {', '.join(doubled)}")
    return rows


def load_paper(config_dir: str | Path = "config") -> list[PaperFigure]:
    """Read `paper.yaml`: the published figures, by table and line."""
    path = Path(config_dir) / "paper.yaml"
    listed = _read_yaml(path)
    if not isinstance(listed, dict):
        raise WeaksegError(f"{path}: not a mapping of tables to their lines")
    try:
        return [
            PaperFigure.model_validate({"table": table, "line": number, **row})
            for table, rows in listed.items()
            for number, row in enumerate(rows, start=1)
        ]
    except ValidationError as error:
        raise _explain(path, error) from error


def study_experiments(study: Study, config_dir: str | Path = "config") -> list[Experiment]:
    """The experiments that a study runs, in the order of `experiments.yaml`; without boxes, those that need none."""
    rows = load_experiments(config_dir)
    chosen = rows if study.experiments is None else [row for row in rows if row.id in study.experiments]
    return chosen if study.boxes else [row for row in chosen if row.weak_annotation != "box"]


def watched_run(study: Study, experiments: list[Experiment]) -> tuple[str, int] | None:
    """Id and first seed of the experiment whose E-step is looked at; None where none of these is."""
    return next(((row.id, study.seeds_of(row.id)[0]) for row in experiments if row.watched), None)


def study_tables(experiments: list[Experiment]) -> list[str]:
    """The tables that a study fills: those to which one of its experiments belongs first of all."""
    return sorted({row.table for row in experiments})


def resolve_path(configured: str, *, data_root: str | Path | None = None, results: str | Path | None = None) -> Path:
    """Replace `{data_root}` and `{results}` in a configured path.

    `data_root` defaults to the environment variable WEAKSEG_DATA_ROOT.

    Raises:
        WeaksegError: the path needs a data root and none is configured.
    """
    root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if "{data_root}" in configured and not root:
        raise WeaksegError(
            f"path {configured!r} needs a data root: pass --config data_root=FOLDER to snakemake (--data-root FOLDER "
            f"to weakseg) or set {DATA_ROOT_VARIABLE}"
        )
    return Path(configured.replace("{data_root}", str(root)).replace("{results}", str(results)))


def config_hash(*models: BaseModel) -> str:
    """SHA-256 over the resolved values of models: two configurations with one hash give the same result."""
    return sha256_json([model.model_dump(mode="json") for model in models])
