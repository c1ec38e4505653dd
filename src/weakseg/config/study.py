"""A study: one file under `config/studies/`, with the experiments that it runs."""

import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, create_model

from weakseg.config.compute import Compute
from weakseg.config.crf import Boxes, CrfSearch
from weakseg.config.dataset import Dataset, OtherDataset
from weakseg.config.experiment import Experiment, ExperimentSheet
from weakseg.config.network import InitialWeights, Network
from weakseg.config.reading import SEEDS_VARIABLE, explain, parse_yaml, read_text, read_yaml
from weakseg.config.solver import Sampling, Solver
from weakseg.config.weights import load_weights, named_weights
from weakseg.errors import WeaksegError
from weakseg.methods import METHODS
from weakseg.strict import Strict

KINDS = ("weak", "semi", "strong", "joint", "test_stage", "multi_scale")
"""Keys of `solver_for` and `methods_for` that are no experiments, general ones first."""

if TYPE_CHECKING:
    Methods = Strict
else:
    Methods = create_model(
        "Methods",
        __base__=Strict,
        __doc__="The constants of each method.",
        **{
            name: (method.constants, Field(default_factory=method.constants, description=f"Constants of {name}."))
            for name, method in sorted(METHODS.items())
            if method.constants.model_fields
        },
    )


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice")
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)]
"""Seeds of an experiment, all different."""


class AnnotationPrices(Strict):
    """What the annotation of one image costs, in one unit for all."""

    pixel_labels: float = Field(15, gt=0, description="Pixel labels; 15 times boxes is what the paper quotes.")
    boxes: float = Field(1, gt=0, description="Boxes.")
    image_level: float = Field(0.2, gt=0, description="Image-level labels; the default is an assumption.")


class Report(Strict):
    """What the report shows."""

    tables: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Tables of which the report tells; null: all that the study can fill. The others are made when "
        "they are asked for.",
    )
    qualitative_images: int = Field(8, ge=1, description="Images on the qualitative page, half of them failures.")
    box_images: int = Field(6, ge=1, description="Training images of Figure 4 and of the page on boxes.")
    prices: AnnotationPrices = Field(
        default_factory=AnnotationPrices, description="What annotation costs, for the page that sets IOU against it."
    )


class Study(Strict):
    """One file under config/studies/."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name of the study and of its result folder.")
    description: str = Field(description="One sentence for the report.")
    dataset: Dataset = Field(description="The study's own data set, in whose labels everything is scored.")
    other_datasets: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], OtherDataset] = Field(
        default_factory=dict,
        description="Further data sets by the name that the streams of experiments.yaml give them. Experiments that "
        "draw from one that is not there are left out.",
    )
    counts: Literal["paper", "images"] = Field(
        "paper",
        description="How the experiments' counts are meant. paper: n of the paper's lists become the same share of the "
        "study's; images: as they stand.",
    )
    needs_gpu: bool = Field(
        False,
        description="Training and scoring stop where there is no GPU, unless told otherwise (--allow-cpu): on a CPU "
        "they would take weeks.",
    )
    network: Network
    solver: Solver = Field(default_factory=lambda: Solver())
    solver_for: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Solver fields that differ: by experiment id, by kind `weak`, `semi`, `strong`, or for runs on "
        "several data sets (`joint`), of stage `test` (`test_stage`) and with branches (`multi_scale`).",
    )
    methods: Methods = Field(default_factory=lambda: Methods(), description="Constants by method.")
    methods_for: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="Constants that differ: by experiment id or kind, then by method.",
    )
    sampling: Sampling = Field(default_factory=lambda: Sampling())
    crf: CrfSearch = Field(default_factory=lambda: CrfSearch())
    compute: Compute = Field(default_factory=lambda: Compute())
    seeds: Seeds = Field((0,), description="Seeds of every experiment.")
    seeds_for: dict[str, Seeds] = Field(
        default_factory=dict, description="Seeds of single experiments, in place of `seeds`."
    )
    experiments: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Ids of the experiments that the study runs; null: all of config/experiments.yaml.",
    )
    boxes: Boxes | None = Field(
        default_factory=lambda: Boxes(),
        description="Label maps from boxes; null: the data set has none, and experiments with boxes are left out.",
    )
    report: Report = Field(default_factory=lambda: Report())

    def solver_of(self, experiment: Experiment) -> Solver:
        """The solver with the study's changes for this experiment's kind, then for its id.

        `batch` is that of the experiment's field of view, where `batch_for_fov` names one and no later change names
        `batch`; `batch_for_fov` itself is empty.
        """
        fields = self.solver.model_dump()
        for key in experiment.settings_for:
            changes = self.solver_for.get(key, {})
            if "batch" in changes:
                fields["batch_for_fov"] = {}
            fields.update(changes)
        fields["batch"] = fields.pop("batch_for_fov").get(experiment.fov, fields["batch"])
        return Solver.model_validate(fields)

    def constants_of(self, experiment: Experiment, method: str) -> Strict:
        """The constants of a method in an experiment: the study's, then those of its kind and of its id."""
        model = METHODS[method].constants
        known = getattr(self.methods, method, None)
        fields = known.model_dump() if known is not None else {}
        for key in experiment.settings_for:
            fields.update(self.methods_for.get(key, {}).get(method, {}))
        return model.model_validate(fields)

    def of_dataset(self, name: str | None) -> "Study":
        """The study as it is for one of its other data sets, whose images lie below `StudyPaths.of_dataset`."""
        if name is None:
            return self
        return self.model_copy(update={"dataset": self.other_datasets[name], "boxes": None})

    def seeds_of(self, experiment_id: str) -> tuple[int, ...]:
        """The seeds that this experiment runs with."""
        return self.seeds_for.get(experiment_id, self.seeds)


def study_path(study: str | Path, config_dir: str | Path = "config") -> Path:
    """The file of a study, by its name or path."""
    return Path(study) if str(study).endswith((".yaml", ".yml")) else Path(config_dir) / "studies" / f"{study}.yaml"


def load_study(study: str | Path, config_dir: str | Path = "config") -> Study:
    """Read a study by name (`config/studies/{name}.yaml`) or by path.

    If the environment variable WEAKSEG_SEEDS is a number n, all experiments have the seeds 0 to n - 1, whatever the
    file says of them.

    Raises:
        WeaksegError: no such file, not YAML, an unknown key or a value out of range; each field is named.
    """
    path = study_path(study, config_dir)

    def weights(name: str, trunk: str | None) -> InitialWeights:
        return named_weights(name, load_weights(config_dir), trunk).of_study(name)

    try:
        fields = read_yaml(path)
        if number := os.environ.get(SEEDS_VARIABLE):
            fields = {**fields, "seeds": _first_seeds(number), "seeds_for": {}}
        loaded = Study.model_validate(fields, context={"weights": weights})
    except ValidationError as error:
        raise explain(path, error) from error
    experiments = {row.id: row for row in load_sheet(config_dir).experiments}
    for chosen in (*(loaded.experiments or ()), *loaded.seeds_for):
        if chosen not in experiments:
            raise WeaksegError(f"{path}: no experiment named {chosen!r} in {config_dir}/experiments.yaml")
    for field in ("solver_for", "methods_for"):
        for key in getattr(loaded, field):
            if key not in experiments and key not in KINDS:
                raise WeaksegError(f"{path}: {field}.{key} is neither a kind nor an experiment")
    _check_overrides(loaded, path)
    for chosen in loaded.experiments or ():
        _check_chosen(loaded, experiments[chosen], path)
    for chosen in loaded.experiments or ():
        if loaded.boxes is None and experiments[chosen].label_maps:
            raise WeaksegError(
                f"{path}: experiment {chosen} needs boxes, but the study says `boxes: null`; take the experiment "
                "out of `experiments`, or that line"
            )
    return loaded


def _first_seeds(number: str) -> tuple[int, ...]:
    if not re.fullmatch("[1-9][0-9]?", number):
        raise WeaksegError(f"seeds={number} (environment variable {SEEDS_VARIABLE}): say a number from 1 to 99")
    return tuple(range(int(number)))


def _check_overrides(study: Study, path: Path) -> None:
    """Raise WeaksegError for a field of `solver_for` or `methods_for` that cannot be used, with its full path."""
    for key, fields in study.solver_for.items():
        try:
            Solver.model_validate({**study.solver.model_dump(), **fields})
        except ValidationError as error:
            raise explain(path, error, f"solver_for.{key}.") from error
    for key, methods in study.methods_for.items():
        for method, fields in methods.items():
            if method not in METHODS:
                raise WeaksegError(f"{path}: methods_for.{key}.{method}: there is no such method")
            try:
                METHODS[method].constants.model_validate(fields)
            except ValidationError as error:
                raise explain(path, error, f"methods_for.{key}.{method}.") from error


def _check_chosen(study: Study, row: Experiment, path: Path) -> None:
    """Raise WeaksegError for an experiment that the study names and cannot run."""
    for name in row.datasets:
        if name not in study.other_datasets:
            known = ", ".join(study.other_datasets) or "none"
            raise WeaksegError(
                f"{path}: experiment {row.id} draws from the data set {name!r}; the study's other_datasets has {known}"
            )
    if row.init_from is not None and study.experiments is not None and row.init_from not in study.experiments:
        raise WeaksegError(
            f"{path}: experiment {row.id} starts from {row.init_from}, which `experiments` does not name; add it"
        )


def load_sheet(config_dir: str | Path = "config") -> ExperimentSheet:
    """Read `experiments.yaml`: the sizes of the paper's lists, and a row a line of a table.

    Raises:
        WeaksegError: no such file, not YAML, or a field that cannot be used; it is named.
    """
    path = Path(config_dir) / "experiments.yaml"
    return _sheet(path, read_text(path))


@functools.lru_cache(maxsize=8)
def _sheet(path: Path, text: str) -> ExperimentSheet:
    """The sheet with this text: a plan asks for it half a dozen times, and nobody can change what it is given."""
    try:
        return ExperimentSheet.model_validate(parse_yaml(path, text))
    except ValidationError as error:
        raise explain(path, error) from error


def study_experiments(study: Study, config_dir: str | Path = "config") -> list[Experiment]:
    """The experiments that a study runs, in the order of `experiments.yaml`.

    Those that read what the study has not got are left out: boxes, another data set, a list of test images, or a start
    that is itself left out.
    """
    chosen: dict[str, Experiment] = {}
    for row in load_sheet(config_dir).experiments:
        wanted = study.experiments is None or row.id in study.experiments
        can = (study.boxes is not None or not row.label_maps) and study.other_datasets.keys() >= set(row.datasets)
        can = (
            can
            and (row.stage == "val" or study.dataset.has_test)
            and (row.init_from is None or row.init_from in chosen)
        )
        if wanted and can:
            chosen[row.id] = row
    return list(chosen.values())


def reported_experiments(study: Study, config_dir: str | Path = "config") -> list[Experiment]:
    """The experiments of which the report tells: those of the tables that the study names for it."""
    rows, tables = study_experiments(study, config_dir), study.report.tables
    return [row for row in rows if tables is None or not set(tables).isdisjoint(row.tables)]


def shown_run(study: Study, experiments: list[Experiment]) -> tuple[str, int] | None:
    """Id and first seed of the run whose E-step Figure 4 shows, Bbox-EM-Fixed on boxes alone; None without one."""
    rows = (r for r in experiments if r.kind == "weak" and r.weak_method == "bbox_em_fixed" and r.stage == "val")
    return next(((row.id, study.seeds_of(row.id)[0]) for row in rows), None)


def estep_runs(study: Study, experiments: list[Experiment]) -> list[tuple[str, int]]:
    """Id and first seed of the runs of which E-step maps are drawn, in the order of the experiments.

    It is one run a method that has an E-step: the first experiment without pixel labels, else the first.
    """
    chosen: dict[str, Experiment] = {}
    plain = [row for row in experiments if row.stage == "val" and not row.datasets and not row.multi_scale]
    for row in sorted(plain, key=lambda row: row.kind != "weak"):
        if row.estep_stream is not None:
            chosen.setdefault(row.estep_stream.method, row)
    ids = {row.id for row in chosen.values()}
    return [(row.id, study.seeds_of(row.id)[0]) for row in experiments if row.id in ids]


def crf_run(experiment: Experiment, experiments: list[Experiment]) -> str:
    """Id of the experiment whose search gives the CRF's parameters: itself, or of stage `test` what it goes back to."""
    rows = {row.id: row for row in experiments}
    while experiment.stage == "test" and experiment.init_from is not None:
        experiment = rows[experiment.init_from]
    return experiment.id


def study_tables(experiments: list[Experiment]) -> list[str]:
    """The tables that a study fills: those to which one of its experiments belongs first of all."""
    return sorted({row.table for row in experiments})
