"""What the rules share: the settings of `--config`, the study sheets, file names, input and parameter functions."""

import functools
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from weakseg.config import (
    DATA_ROOT_VARIABLE,
    config_hash,
    load_experiments,
    load_paper,
    load_study,
    resolve_path,
    study_experiments,
    study_tables,
    watched_run,
)
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.paths import StudyPaths
from weakseg.report.pages import pages_of

NOTEBOOKS = "notebooks"
TEMPLATES = "src/weakseg/report"
SETTINGS = {
    "study": "demo",
    "results": "results",
    "config_dir": "config",
    "data_root": None,
}


def read_settings(given):
    """The settings of `--config`, with defaults; a misspelt one is refused."""
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise WorkflowError(
            f"--config: no setting named {', '.join(unknown)}; there are {', '.join(SETTINGS)}"
        )
    return {**SETTINGS, **given}


def find_studies(config_dir, chosen):
    """Name -> what to call the study by (its name, or the path of a YAML file from elsewhere)."""
    names = {path.stem: path.stem for path in sorted(Path(config_dir, "studies").glob("*.yaml"))}
    if str(chosen).endswith((".yaml", ".yml")):
        name = load_study(chosen, config_dir).name
        if Path(chosen).resolve() != Path(config_dir, "studies", f"{name}.yaml").resolve():
            names[name] = str(chosen)
    elif chosen not in names:
        raise WorkflowError(
            f"--config study={chosen}: no such study in {config_dir}/studies; there are {', '.join(names)}. Name one of "
            "them, or a YAML file"
        )
    return names


def attempt(function, *arguments):
    """Call a function; what a user must mend is shown as Snakemake shows its own errors, without a traceback."""
    try:
        return function(*arguments)
    except WeaksegError as error:
        raise WorkflowError(str(error)) from None


def use_environment(data_root):
    """Find `weakseg`, `papermill` and `jupyter` beside this Python first; hand the data root to every command."""
    os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    # A study starts Python a hundred times; where no bytecode is kept, it compiles its libraries each time, for seconds.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if data_root:
        os.environ.update({DATA_ROOT_VARIABLE: str(data_root)})


settings = read_settings(config)
RESULTS, CONFIG_DIR = str(settings["results"]), str(settings["config_dir"])
use_environment(settings["data_root"])
STUDIES = attempt(find_studies, CONFIG_DIR, settings["study"])
STUDY = attempt(load_study, settings["study"], CONFIG_DIR)
EXPERIMENTS = attempt(study_experiments, STUDY, CONFIG_DIR)
ALL_EXPERIMENTS = [row.id for row in attempt(load_experiments, CONFIG_DIR)]
WATCHED = [row.id for row in attempt(load_experiments, CONFIG_DIR) if row.watched]
NOT_WATCHED = [name for name in ALL_EXPERIMENTS if name not in WATCHED]
TABLES = study_tables(EXPERIMENTS)
PAGES = sorted(path.stem for path in Path(NOTEBOOKS).glob("*.ipynb"))
SHOWN_PAGES = pages_of(PAGES, EXPERIMENTS)

# File names with wildcards, and those of the configured study.
FILES = StudyPaths("{study}", RESULTS)
RUN = FILES.run("{experiment}", "{seed}")
LOGS = FILES.root / "logs"
BENCHMARKS = FILES.root / "benchmarks"
CHOSEN = StudyPaths(STUDY.name, RESULTS)


def named_by(names):
    """A pattern of just these names; of none where there are none."""
    return "|".join(names) or "none"


wildcard_constraints:
    study="|".join(STUDIES),
    experiment=named_by(ALL_EXPERIMENTS),
    seed="[0-9]+",
    split="train_aug|val",
    table="table[1-6]",
    page=named_by(PAGES),


@functools.cache
def read_study(name):
    """A typed study by name, read once."""
    return attempt(load_study, STUDIES[name], CONFIG_DIR)


def study_of(wildcards):
    """The typed study of a file."""
    return read_study(wildcards.study)


def experiment_of(wildcards):
    """The row of the experiment sheet of a file."""
    rows = attempt(load_experiments, CONFIG_DIR)
    return next(row for row in rows if row.id == wildcards.experiment)


def files_of(wildcards):
    """The file names of a study."""
    return StudyPaths(wildcards.study, RESULTS)


def study_options(wildcards):
    """Options of `weakseg` that name the study and where its files are."""
    return f"--study {STUDIES[wildcards.study]} --results {RESULTS} --config-dir {CONFIG_DIR}"


def run_options(wildcards):
    """Options of `weakseg` that name a run."""
    return f"{study_options(wildcards)} --experiment {wildcards.experiment} --seed {wildcards.seed}"


# Input functions: files that a study needs or not, by its configuration.


def initial_weights(wildcards):
    """The weights that a rule of the study makes; none where they are a user's file, known by its checksum."""
    weights = study_of(wildcards).network.weights
    if weights is None or "{results}" not in weights.path:
        return []
    return [resolve_path(weights.path, data_root=".", results=files_of(wildcards).root)]


def cached_maps(split):
    """Input function: the maps of a list, where the trunk is frozen."""

    def maps(wildcards):
        return [files_of(wildcards).features(split)] if study_of(wildcards).network.freeze_trunk else []

    return maps


def maps_from_boxes(wildcards):
    """The folder of label maps that a run with boxes is trained with, and the boxes; nothing for other runs."""
    files, row = files_of(wildcards), experiment_of(wildcards)
    return [files.box_maps(row.box_maps), files.boxes] if row.box_maps else []


def experiments_of(wildcards):
    """The rows of the experiment sheet that a study runs."""
    return attempt(study_experiments, study_of(wildcards), CONFIG_DIR)


def runs_of(wildcards, table=None):
    """The files of every run of a study, or of those that a table shows, in the order of the sheet."""
    study, files = study_of(wildcards), files_of(wildcards)
    rows = [row for row in experiments_of(wildcards) if table is None or row.line_in(table)]
    return [files.run(row.id, seed) for row in rows for seed in study.seeds_of(row.id)]


def watched_runs(wildcards, name):
    """A file of the run whose E-step is looked at, of its first seed; none where the study has no such run."""
    run = watched_run(study_of(wildcards), experiments_of(wildcards))
    return [getattr(files_of(wildcards).run(*run), name)] if run else []


def watched_confusion(wildcards):
    """What the E-step's labels of that run were, against the truth."""
    return watched_runs(wildcards, "estep_confusion")


def table_input(wildcards):
    """The metrics that a table gathers."""
    return [run.metrics for run in runs_of(wildcards, wildcards.table)]


def box_input(wildcards):
    """What the pages on boxes read; nothing where a study trains with none."""
    files = files_of(wildcards)
    if not any(row.weak_annotation == "box" for row in experiments_of(wildcards)):
        return []
    maps = [files.box_maps(method) for method in ("bbox_rect", "bbox_seg")]
    return [files.boxes, files.bbox_seg_grid, files.bbox_seg_params, files.label_quality, *maps]


def all_input(wildcards):
    """The tables, the small files of every run, and those on boxes."""
    tables = [files_of(wildcards).table(name) for name in study_tables(experiments_of(wildcards))]
    small = [
        path
        for run in runs_of(wildcards)
        for path in (run.metrics, run.per_class, run.crf_grid, run.train_log)
    ]
    return tables + small + box_input(wildcards)


def page_input(wildcards):
    """What the notebook of a page reads."""
    if wildcards.page == "boxes":
        return box_input(wildcards)
    if wildcards.page == "figure4":
        return [*box_input(wildcards), *watched_runs(wildcards, "estep_maps")]
    return all_input(wildcards)


def index_input(wildcards):
    """The tables and runs, and the pages that the index links to."""
    folder = files_of(wildcards).report
    pages = pages_of(PAGES, experiments_of(wildcards))
    return all_input(wildcards) + [folder / f"{page}.html" for page in pages]


def notebook_parameters(wildcards):
    """Parameters of the notebooks, as options of papermill."""
    return f"-p study {STUDIES[wildcards.study]} -p results {RESULTS} -p config_dir {CONFIG_DIR}"


def run_threads(wildcards):
    """Cores of a job of one run: generated scenes are small, so runs go side by side; photos get two cores a run."""
    return 1 if study_of(wildcards).dataset.source == "scenes" else 2


# Parameters that decide a result. A job runs again when their values change, and only then. Neither the date of a YAML
# file nor a key that the job does not read counts.

# What training reads but its result does not depend on, and what it reads of an experiment.
UNDECIDING = {"checkpoint_iterations", "estep_pictures_every"}
DECIDING = {"strong", "weak", "weak_annotation", "estep", "fov"}

# The constants that each E-step reads; maps that are made before training have none.
BIASES = {"bg_bias", "fg_bias", "valid_cells_only"}
PORTIONS = {"bg_portion", "fg_portion", "rounds", "valid_cells_only"}
BOX_BIASES = {"box_bg_bias", "box_fg_bias", "valid_cells_only"}
CONSTANTS = {
    "none": set(),
    "em_fixed": BIASES,
    "em_adapt": PORTIONS,
    "bbox_rect": set(),
    "bbox_seg": set(),
    "bbox_em_fixed": BOX_BIASES,
}


def images_of(study):
    """The part of the configuration that decides which images there are."""
    return study.dataset.model_dump(mode="json", exclude={"name"})


def decides_data(wildcards):
    """The data set and the folder it is read from, as configured now or, where no data root is, as last used."""
    study, manifest = study_of(wildcards), files_of(wildcards).manifest
    folder = study.dataset.path
    if folder is not None:
        try:
            folder = resolve_path(folder).resolve()
        except WeaksegError:
            if manifest.is_file():
                folder = Path(json.loads(manifest.read_text(encoding="utf-8"))["root"]).resolve()
    return sha256_json([study.dataset.model_dump(mode="json"), str(folder)])


def decides_annotation(wildcards):
    """The images."""
    return sha256_json(images_of(study_of(wildcards)))


def decides_maps(wildcards):
    """The images, the trunk and its input."""
    study = study_of(wildcards)
    fields = {"trunk", "output_stride", "weights", "image_scale"}
    return sha256_json([images_of(study), study.network.model_dump(mode="json", include=fields)])


def watched_settings(study):
    """What decides at which images the watched run is looked at."""
    return [study.report.box_images, study.boxes.quality_images if study.boxes else None]


def decides_training(wildcards):
    """The images, and network, solver, E-step and sampling of a run."""
    study, row = study_of(wildcards), experiment_of(wildcards)
    parts = [
        images_of(study),
        config_hash(study.network, study.sampling),
        study.solver_of(row).model_dump(mode="json", exclude=UNDECIDING),
        row.model_dump(mode="json", include=DECIDING),
        study.estep.model_dump(mode="json", include=CONSTANTS[row.estep]),
        watched_settings(study) if row.watched else None,
    ]
    return sha256_json(parts)


def decides_boxes(wildcards):
    """The images, and the search for Bbox-Seg's parameters."""
    study = study_of(wildcards)
    decides = study.boxes.model_dump(mode="json", exclude={"quality_images"}) if study.boxes else None
    return sha256_json([images_of(study), decides])


def decides_quality(wildcards):
    """Which images are compared, and where their score cells are."""
    study = study_of(wildcards)
    count = study.boxes.quality_images if study.boxes else None
    return sha256_json([count, study.network.image_scale, study.network.output_stride])


def decides_crf(wildcards):
    """The CRF's search."""
    return config_hash(study_of(wildcards).crf)


def decides_table(wildcards):
    """The lines of a table and the published figures beside them."""
    rows = attempt(study_experiments, study_of(wildcards), CONFIG_DIR) + attempt(load_paper, CONFIG_DIR)
    table = wildcards.table
    return config_hash(*(row for row in rows if table == row.table or table in getattr(row, "also", ())))


def decides_pages(wildcards):
    """What the pages of the report print of the configuration."""
    return config_hash(study_of(wildcards))
