"""What the rules share: the settings of `--config`, the study sheets, file names, input and parameter functions."""

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from weakseg.config import DATA_ROOT_VARIABLE, config_hash, load_experiments, load_study, study_experiments
from weakseg.data.source import dataset_location
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.paths import StudyPaths


SETTINGS = {"study": "demo", "results": "results", "config_dir": "config", "data_root": None}


def read_settings(given):
    """The settings of `--config`, with defaults; a misspelt one is refused."""
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise WorkflowError(f"--config: no setting named {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
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


def chosen_name(chosen, config_dir):
    """Name of the configured study."""
    return load_study(chosen, config_dir).name


def attempt(function, *arguments):
    """Call a function; what a user must mend is shown as Snakemake shows its own errors, without a traceback."""
    try:
        return function(*arguments)
    except WeaksegError as error:
        raise WorkflowError(str(error)) from None


def use_environment(data_root):
    """Find `weakseg`, `papermill` and `jupyter` beside this Python first; hand the data root to every command."""
    os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    os.environ.setdefault("MPLBACKEND", "Agg")
    if data_root:
        os.environ.update({DATA_ROOT_VARIABLE: str(data_root)})


settings = read_settings(config)
RESULTS, CONFIG_DIR = str(settings["results"]), str(settings["config_dir"])
use_environment(settings["data_root"])
STUDIES = attempt(find_studies, CONFIG_DIR, settings["study"])
STUDY = attempt(load_study, settings["study"], CONFIG_DIR)
EXPERIMENTS = attempt(study_experiments, STUDY, CONFIG_DIR)
ALL_EXPERIMENTS = [row.id for row in attempt(load_experiments, CONFIG_DIR)]

# File names with wildcards, and those of the configured study.
FILES = StudyPaths("{study}", RESULTS)
RUN = FILES.run("{experiment}", "{seed}")
LOGS = FILES.root / "logs"
BENCHMARKS = FILES.root / "benchmarks"
CHOSEN = StudyPaths(STUDY.name, RESULTS)


wildcard_constraints:
    study="|".join(STUDIES),
    experiment="|".join(ALL_EXPERIMENTS),
    seed="[0-9]+",
    split="train_aug|val",


def study_of(wildcards):
    """The typed study of a file."""
    return attempt(load_study, STUDIES[wildcards.study], CONFIG_DIR)


def experiment_of(wildcards):
    """The row of the experiment sheet of a file."""
    rows = attempt(load_experiments, CONFIG_DIR)
    return next(row for row in rows if row.id == wildcards.experiment)


def study_options(wildcards):
    """Options of `weakseg` that name the study and where its files are."""
    return f"--study {STUDIES[wildcards.study]} --results {RESULTS} --config-dir {CONFIG_DIR}"


def run_options(wildcards):
    """Options of `weakseg` that name a run."""
    return f"{study_options(wildcards)} --experiment {wildcards.experiment} --seed {wildcards.seed}"


# Parameters that decide a result. A rule reruns when its value changes, and only then: neither the date of a YAML file
# nor a key that the rule does not read counts.


def decides_data(wildcards):
    """The data set, and the folder it is read from."""
    study = study_of(wildcards)
    location = dataset_location(study.dataset, FILES.root, manifest_of(wildcards))
    return sha256_json([study.dataset.model_dump(mode="json"), location])


def decides_maps(wildcards):
    """The trunk and what it sees."""
    network = study_of(wildcards).network
    return sha256_json(network.model_dump(mode="json", include=TRUNK_FIELDS))


def decides_training(wildcards):
    """Network, solver, E-step and sampling of one run."""
    study, experiment = study_of(wildcards), experiment_of(wildcards)
    solver = study.solver_of(experiment).model_dump(mode="json", exclude=UNDECIDING_SOLVER_FIELDS)
    row = experiment.model_dump(mode="json", include=DECIDING_EXPERIMENT_FIELDS)
    return sha256_json([config_hash(study.network, study.estep, study.sampling), solver, row])


def decides_crf(wildcards):
    """The CRF's grid and the number of its iterations."""
    return config_hash(study_of(wildcards).crf)
