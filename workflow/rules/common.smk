"""What the rules share: the settings of `--config`, the study sheets, file names, input and parameter functions."""

import functools
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

from weakseg import costs, decides, job_server
from weakseg.cli import ALLOW_CPU
from weakseg.config import (
    DATA_ROOT_VARIABLE,
    SEEDS_VARIABLE,
    Settings,
    config_hash,
    crf_run,
    load_paper,
    load_sheet,
    load_study,
    load_weights,
    reported_experiments,
    shown_run,
    study_experiments,
    study_path,
    study_tables,
)
from weakseg.config.reading import read_yaml
from weakseg.data.initial_weights import weights_path
from weakseg.data.transfer import cache_folder
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.gpus import usable_gpus
from weakseg.needs import image_counts, require_needs
from weakseg.paths import StudyPaths
from weakseg.report.pages import SMALL_FILES, files_read, gallery_files, read_pages, shown_pages


def own(name):
    """A file or folder of this workflow, found from any working directory; relative where it lies below that one."""
    path = Path(str(workflow.current_basedir.get_path_or_uri(secret_free=True))).parents[1] / name
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


NOTEBOOKS = own("notebooks")
TEMPLATES = own("src/weakseg/report")
CONTAINER = own("envs/weakseg.sif")
# Every rule's command begins with `attempt LOG BEFORE`. Snakemake formats the prefix, so that its braces are doubled.
PREFIX = f'set -euo pipefail; attempt() {{ sh {shlex.quote(own("workflow/scripts/attempt.sh"))} "$@"; }}; '
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))
SETTINGS = {**Settings().model_dump(), "config_dir": own("config")}


def read_settings(given):
    """The settings of `--config`, with defaults, as they were typed; a misspelt one is refused."""
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise WorkflowError(
            f"--config: no setting named {', '.join(unknown)}; there are {', '.join(SETTINGS)}"
        )
    # Snakemake reads 007 as the number 7, "runs #2" as "runs" and takes quotes away: the words themselves are names.
    words = [word.partition("=") for word in sys.argv]
    given = {**given, **{name: value or None for name, _, value in words if name in given}}
    if isinstance(given.get("allow_cpu"), bool):  # in a file of settings
        given = {**given, "allow_cpu": str(given["allow_cpu"])}
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise WorkflowError(
                f"{name}: {value!r} is no text; write quotes around it in the file of settings"
            )
    settings = {**SETTINGS, **{name: value for name, value in given.items() if value is not None}}
    if settings["allow_cpu"].lower() not in ("true", "false"):
        raise WorkflowError(f"--config allow_cpu={settings['allow_cpu']}: say true or false")
    if any(sign in settings["results"] for sign in "{}\n"):
        raise WorkflowError(
            f"--config results={settings['results']}: the name of a results folder can hold no braces or line breaks"
        )
    return settings


def find_studies(config_dir, chosen):
    """Name -> what to call the study by (its name, or the path of a YAML file from elsewhere)."""
    names = {path.stem: path.stem for path in sorted(Path(config_dir, "studies").glob("*.yaml"))}
    if chosen.endswith((".yaml", ".yml")):
        name = load_study(chosen, config_dir).name
        if Path(chosen).resolve() != Path(config_dir, "studies", f"{name}.yaml").resolve():
            names[name] = chosen
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


def find_first(folder):
    """Let jobs find the commands of a folder before all others."""
    os.environ.update(PATH=os.pathsep.join([str(folder), os.environ.get("PATH", "")]))


def use_environment(data_root, seeds, allow_cpu):
    """Find `weakseg`, `papermill` and `jupyter` beside this Python first, or in the job server's folder where there is
    one; hand data root, seeds and devices to every command.

    Of the user's own settings of Jupyter, IPython and matplotlib none reach a job: a page looks alike for everybody.
    """
    find_first(Path(sys.executable).parent)
    if Path(os.environ.get(job_server.JOB_SERVER, "none")).is_dir():
        find_first(os.environ[job_server.JOB_SERVER])
    # A study starts Python a hundred times; where no bytecode is kept, it compiles its libraries each time, for seconds.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP"):
        os.environ.pop(name, None)
    jupyter = Path(".snakemake", "jupyter").resolve()
    os.environ.update(
        JUPYTER_NO_CONFIG="1",
        JUPYTER_PREFER_ENV_PATH="1",
        JUPYTER_CONFIG_DIR=str(jupyter / "config"),
        JUPYTER_DATA_DIR=str(jupyter / "data"),
        JUPYTER_RUNTIME_DIR=str(jupyter / "runtime"),
        IPYTHONDIR=str(jupyter / "ipython"),
        MPLBACKEND="Agg",
        PYTHONUTF8="1",
    )
    if data_root:
        os.environ.update({DATA_ROOT_VARIABLE: data_root})
    if seeds:
        os.environ.update({SEEDS_VARIABLE: seeds})
    if allow_cpu:
        os.environ.update({ALLOW_CPU: "true"})


MANY_JOBS = 12
"""From so many jobs on the imports that a job server saves are more than its own."""


def start_job_server():
    """Have the jobs of a study of generated scenes, which are short and many, forked by a server that has their imports.

    Only where they are this machine's, and in no container.
    """
    here = workflow.local_exec and not workflow.touch and not workflow.deployment_settings.deployment_method
    known = job_server.JOB_SERVER in os.environ
    if (
        here
        and not known
        and STUDY.dataset.source == "scenes"
        and len(list(workflow.dag.needrun_jobs())) >= MANY_JOBS
    ):
        folder, _ = job_server.start()
        os.environ[job_server.JOB_SERVER] = str(folder)
        find_first(folder)


def limit_gpu_jobs():
    """Let no more jobs that want a GPU run at a time than this machine has, unless `--resources gpu=N` says how many.

    Without a GPU they are limited by cores alone. A profile that runs jobs elsewhere says how many there.
    """
    if workflow.is_main_process and "gpu" not in workflow.global_resources:
        if gpus := usable_gpus():
            workflow.register_resource("gpu", len(gpus))


settings = read_settings(config)
RESULTS, CONFIG_DIR = settings["results"], settings["config_dir"]
use_environment(settings["data_root"], settings["seeds"], settings["allow_cpu"].lower() == "true")
limit_gpu_jobs()
STUDIES = attempt(find_studies, CONFIG_DIR, settings["study"])
STUDY = attempt(load_study, settings["study"], CONFIG_DIR)
EXPERIMENTS = attempt(study_experiments, STUDY, CONFIG_DIR)
PAPER_LISTS = attempt(load_sheet, CONFIG_DIR).lists
SHEET = {row.id: row for row in attempt(load_sheet, CONFIG_DIR).experiments}
TABLES = study_tables(EXPERIMENTS)
PAGES = attempt(read_pages, NOTEBOOKS)
SHOWN_PAGES = shown_pages(PAGES, STUDY, attempt(reported_experiments, STUDY, CONFIG_DIR))

# File names with wildcards, and those of the configured study.
FILES = StudyPaths("{study}", RESULTS)
RUN = FILES.run("{experiment}", "{seed}")
LOGS = FILES.root / "logs"
BENCHMARKS = FILES.root / "benchmarks"
CHOSEN = StudyPaths(STUDY.name, RESULTS)


def check_name(experiment, workflow):
    """Refuse an experiment that is called like a target that is there already."""
    if workflow.is_rule(experiment):
        raise WorkflowError(
            f"{CONFIG_DIR}/experiments.yaml: an experiment cannot be called {experiment}, which is the name of a rule, a "
            "table or a page; rename it"
        )


def named_by(names):
    """A pattern of just these names; of none where there are none."""
    return "|".join(names) or "none"


# Named weights lie in the cache and belong to no study.
WEIGHTS_FOLDER = cache_folder() / "weights"
WEIGHTS_LOG = Path(RESULTS, "logs", "weights", "{weights}.log")


@functools.cache
def stored_weights():
    """File name without suffix -> the name in `weights.yaml`."""
    if not Path(CONFIG_DIR, "weights.yaml").is_file():
        return {}
    known = attempt(load_weights, CONFIG_DIR)
    return {Path(row.stored_as(name)).stem: name for name, row in known.items()}


def weights_options(wildcards):
    """Words of `weakseg weights` that say which are wanted."""
    return shlex.join([stored_weights()[wildcards.weights], "--config-dir", CONFIG_DIR])


def other_datasets():
    """The names of all other data sets of the studies, as their files are called."""
    of_studies = {name: attempt(load_study, called, CONFIG_DIR) for name, called in STUDIES.items()}
    return [
        StudyPaths(name).of_dataset(dataset).study
        for name, study in of_studies.items()
        for dataset in study.other_datasets
    ]


wildcard_constraints:
    weights=named_by(map(re.escape, stored_weights())),
    study=named_by(map(re.escape, [*STUDIES, *other_datasets()])),
    experiment=named_by(SHEET),
    seed="[0-9]+",
    role="training|evaluation|test",
    table=named_by(study_tables(list(SHEET.values()))),
    page=named_by(PAGES),


@functools.cache
def read_study(name):
    """A typed study by name, read once; one as it is for another of its data sets by `{study}/datasets/{data set}`."""
    files = StudyPaths(name, RESULTS)
    return attempt(load_study, STUDIES[files.own.study], CONFIG_DIR).of_dataset(files.dataset)


@functools.cache
def read_experiments(name):
    """The rows of the experiment sheet that a study runs, read once."""
    return attempt(study_experiments, read_study(name), CONFIG_DIR)


@functools.cache
def read_reported(name):
    """Those of which its report tells, read once."""
    return attempt(reported_experiments, read_study(name), CONFIG_DIR)


def study_of(wildcards):
    """The typed study of a file."""
    return read_study(wildcards.study)


def experiment_of(wildcards):
    """The row of the experiment sheet of a file."""
    return SHEET[wildcards.experiment]


def files_of(wildcards):
    """The file names of a study."""
    return StudyPaths(wildcards.study, RESULTS)


def study_options(wildcards):
    """Options of `weakseg` that name the study, its data set if that is another, and where its files are."""
    files = files_of(wildcards)
    words = ["--study", STUDIES[files.own.study], "--results", RESULTS, "--config-dir", CONFIG_DIR]
    return shlex.join([*words, *(["--dataset", files.dataset] if files.dataset else [])])


def run_options(wildcards):
    """Options of `weakseg` that name a run."""
    return f"{study_options(wildcards)} --experiment {wildcards.experiment} --seed {wildcards.seed}"


# Input functions: files that a study needs or not, by its configuration.


@ancient
def sheets(wildcards):
    """The YAML files that every command reads; a job runs again for what they say, not for their date."""
    names = ["experiments.yaml", "paper.yaml", *(["weights.yaml"] if named_weights(wildcards) else [])]
    return [
        study_path(STUDIES[files_of(wildcards).own.study], CONFIG_DIR),
        *(Path(CONFIG_DIR, name) for name in names),
    ]


def generated(wildcards):
    """The images of a study that generates them; those of others lie elsewhere, and their manifest tells what they hold."""
    return [files_of(wildcards).images] if study_of(wildcards).dataset.source == "scenes" else []


@ancient
def archives(wildcards):
    """The sheet of archives, for a study that downloads its images."""
    return [Path(CONFIG_DIR, "datasets.yaml")] if study_of(wildcards).dataset.source == "download" else []


def data_threads(wildcards):
    """Cores for the images' preparation: label maps of MS-COCO are painted by several processes."""
    return 2 if study_of(wildcards).dataset.of_coco else 1


def data_memory(wildcards):
    """MB for the images' preparation: MS-COCO's annotation is a file of 300 MB, many times that once it is read."""
    return 6000 if study_of(wildcards).dataset.of_coco else 2000


def initial_weights(wildcards):
    """The weights that a rule of the study makes, or a user's file without a checksum; one with it is known by that."""
    weights = study_of(wildcards).network.weights
    if weights is None or weights.name is not None or weights.sha256 is not None:
        return []
    return [attempt(weights_path, weights, files_of(wildcards).own.root)]


def named_weights(wildcards):
    """The weights in the cache that a study names. Their file name says what they hold, so that their date is nothing."""
    weights = study_of(wildcards).network.weights
    named = weights is not None and weights.name is not None
    return [ancient(weights_path(weights, files_of(wildcards).own.root))] if named else []


@functools.cache
def check_needs(name):
    """Stop where something is missing that the rules of a study can neither make nor fetch; all of it is named."""
    attempt(require_needs, read_study(name), StudyPaths(name, RESULTS))


def needs_of(made):
    """Input function without files: before a plan is made in which a job must make this, what it needs is looked for."""

    def checked(wildcards):
        if not Path(str(made).format(**wildcards)).exists():
            check_needs(wildcards.study)
        return []

    return checked


def training_maps(wildcards):
    """The cached feature maps of all images that a run may draw, where the trunk is frozen."""
    experiment, files = experiment_of(wildcards), files_of(wildcards)
    if not study_of(wildcards).network.freeze_trunk or experiment.multi_scale:
        return []
    of_val = [files.features("evaluation")] if experiment.stage == "test" else []
    return [files.of_dataset(name).features("training") for name in (None, *experiment.datasets)] + of_val


def scored_maps(wildcards):
    """The cached feature maps of the list that a run is scored on, where the trunk is frozen."""
    experiment = experiment_of(wildcards)
    cached = study_of(wildcards).network.freeze_trunk and not experiment.multi_scale
    return [files_of(wildcards).features(experiment.scored)] if cached else []


def other_data(wildcards):
    """Manifests, contents and annotation of the study's other data sets that an experiment draws from."""
    files = [files_of(wildcards).of_dataset(name) for name in experiment_of(wildcards).datasets]
    images = [
        one.images
        for one, name in zip(files, experiment_of(wildcards).datasets)
        if is_generated(wildcards, name)
    ]
    return images + [
        path for one in files for path in (one.manifest, one.contents, one.image_labels, one.crop_labels)
    ]


def is_generated(wildcards, dataset):
    """Whether the images of a data set of the study are generated."""
    return study_of(wildcards).of_dataset(dataset).dataset.source == "scenes"


def start(wildcards):
    """The trained network that a run starts from, where it is another run's."""
    experiment = experiment_of(wildcards)
    if experiment.init_from is None:
        return []
    return [files_of(wildcards).run(experiment.init_from, wildcards.seed).model]


def tuned_crf(wildcards):
    """The CRF's parameters of a run: its own, or of stage `test` those of the run of stage `val` it goes back to."""
    chosen = crf_run(experiment_of(wildcards), list(SHEET.values()))
    return files_of(wildcards).run(chosen, wildcards.seed).crf


def projection(wildcards):
    """The principal axes of the trunk's map, where the study projects it."""
    return [] if study_of(wildcards).network.principal_axes is None else [files_of(wildcards).projection]


def label_maps(wildcards):
    """The folders of label maps made from boxes that a run is trained with."""
    return [files_of(wildcards).box_maps(name) for name in experiment_of(wildcards).label_maps]


def experiments_of(wildcards):
    """The rows of the experiment sheet of which a study's report tells."""
    return read_reported(wildcards.study)


def runs_of(wildcards, table=None):
    """The files of every run that the report tells of, or of those that a table shows, in the order of the sheet."""
    study, files = study_of(wildcards), files_of(wildcards)
    rows = experiments_of(wildcards)
    if table is not None:
        rows = [row for row in read_experiments(wildcards.study) if row.line_in(table)]
    return [files.run(row.id, seed) for row in rows for seed in study.seeds_of(row.id)]


def shown_confusion(wildcards):
    """What the labels of the run whose E-step is shown were, against the truth; none where there is no such run."""
    run = shown_run(study_of(wildcards), experiments_of(wildcards))
    return [files_of(wildcards).run(*run).estep_confusion] if run else []


def table_input(wildcards):
    """The metrics that a table gathers."""
    return [run.metrics for run in runs_of(wildcards, wildcards.table)]


def findings_input(wildcards):
    """The metrics of every run."""
    return [run.metrics for run in runs_of(wildcards)]


def files_named(wildcards, names):
    """The files of a study that the report names like this."""
    return files_read(names, study_of(wildcards), experiments_of(wildcards), files_of(wildcards))


def page_input(wildcards):
    """What the notebook of a page says that it reads."""
    return files_named(wildcards, PAGES[wildcards.page].reads)


def gallery_input(wildcards):
    """What the gallery reads."""
    return gallery_files(study_of(wildcards), experiments_of(wildcards), files_of(wildcards))


def index_input(wildcards):
    """The tables and runs, and the pages that the index links to."""
    folder = files_of(wildcards).report
    pages = shown_pages(PAGES, study_of(wildcards), experiments_of(wildcards))
    notebooks = [folder / "notebooks" / f"{page}.ipynb" for page in pages]
    configs = [run.config for run in runs_of(wildcards)]
    return (
        files_named(wildcards, SMALL_FILES)
        + configs
        + notebooks
        + [folder / f"{page}.html" for page in (*pages, "gallery")]
    )


# What `snakemake --report` calls a file: by columns and their texts.


def table_labels(wildcards):
    """A table by its name, what it trains with, and on which list. In one column: of two, each with two texts, Snakemake
    makes switches.
    """
    rows = [row for row in read_experiments(wildcards.study) if row.table == wildcards.table]
    kinds = {"image": "image-level labels", "box": "bounding boxes"}
    about = [text for kind, text in kinds.items() if any(row.weak_annotation == kind for row in rows)]
    about = about or ["pixel labels"]
    about += sorted({name for row in rows for name in row.datasets})
    about += ["test list"] if any(row.stage == "test" for row in rows) else []
    return {"table": f"{wildcards.table}: {', '.join(about)}"}


def page_labels(wildcards):
    """A page by its title, with what it shows."""
    page = PAGES[wildcards.page]
    return {"page": page.title, "shows": page.about}


def notebook_parameters(wildcards, input):
    """Parameters of the notebooks, the files that a page reads among them, as options of papermill."""
    values = {"study": STUDIES[wildcards.study], "results": RESULTS, "config_dir": CONFIG_DIR}
    words = [word for name, value in values.items() for word in ("-r", name, value)]
    return shlex.join([*words, "-y", json.dumps({"files": list(input.read)})])


@functools.cache
def images_of(name):
    """How many images a study has, for the requests of its jobs."""
    return attempt(image_counts, read_study(name), PAPER_LISTS)


def run_memory(job):
    """Resource function: memory of a job of one run, by network, mini-batch and number of images."""

    def memory_mb(wildcards):
        study, experiment = study_of(wildcards), experiment_of(wildcards)
        return costs.memory_mb(study, experiment, images_of(wildcards.study), job=job)

    return memory_mb


def run_minutes(job):
    """Resource function: time of a job of one run, by these and its device."""

    def minutes(wildcards, threads):
        study, experiment, images = study_of(wildcards), experiment_of(wildcards), images_of(wildcards.study)
        allowed = ALLOW_CPU in os.environ
        return costs.minutes(study, experiment, images, job=job, threads=threads, allow_cpu=allowed)

    return minutes


def features_minutes(wildcards, threads):
    """Time of the caching of a frozen trunk's maps."""
    images = images_of(wildcards.study)
    number = images.training if wildcards.get("role") in (None, "training") else images.evaluation
    return costs.features_minutes(study_of(wildcards), number, threads=threads)


def crf_resources():
    """The GPU that the CRF's search and evaluation ask for, if the study has them there (`compute.crf`)."""
    return {"gpu": 1} if STUDY.compute.crf == "device" else {}


def run_threads(wildcards):
    """Cores of a job of one run: generated scenes are small, so runs go side by side; photos get two cores a run."""
    return 1 if study_of(wildcards).dataset.source == "scenes" else 2


def loader_processes(wildcards, threads):
    """Processes that make a training's mini-batches: the cores that the network's own thread leaves."""
    return threads - 1


def last_attempt(log):
    """Parameter function: the name of the job's last attempt, if that failed or was killed.

    Snakemake takes the outputs of a failed job away. What was made of them is still there, and next time it would not
    ask for them; by this parameter the job is no longer the one that its record tells of. See attempt.sh.
    """

    def last(wildcards):
        unfinished = Path(str(log).format(**wildcards) + ".unfinished")
        return unfinished.read_text(encoding="utf-8").strip() if unfinished.is_file() else "none"

    return last


# Parameters that decide a result, by `weakseg.decides`. A job runs again when their values change, and only then. Neither
# the date of a YAML file nor a key that the job does not read counts.


def decided_by(part):
    """Parameter function: hash of what a function of `weakseg.decides` says of the study."""

    def hashed(wildcards):
        return sha256_json(part(study_of(wildcards)))

    return hashed


def decides_data(wildcards):
    """What the study says of its data set, and the files of the folder it is read from."""
    study, files = study_of(wildcards), files_of(wildcards)
    archives = read_yaml(Path(CONFIG_DIR, "datasets.yaml")) if study.dataset.source == "download" else None
    return sha256_json(attempt(functools.partial(decides.data, archives=archives), study, PAPER_LISTS, files))


def decides_training(wildcards):
    """Network, solver, sampling, streams and the constants of their methods."""
    return sha256_json(decides.training(study_of(wildcards), experiment_of(wildcards), PAPER_LISTS))


def decides_estep_maps(wildcards):
    """The images of which E-step maps are drawn, and the constants of the method."""
    return sha256_json(decides.estep_maps(study_of(wildcards), experiment_of(wildcards)))


def decides_table(wildcards):
    """The lines of a table and the published figures beside them."""
    rows = read_experiments(wildcards.study) + attempt(load_paper, CONFIG_DIR)
    table = wildcards.table
    return config_hash(*(row for row in rows if table == row.table or table in getattr(row, "also", ())))


def decides_findings(wildcards):
    """The lines of every table and what the paper says of them."""
    return sha256_json([config_hash(*experiments_of(wildcards), PAPER_LISTS), paper_text()])


def paper_text():
    """All that is known of the paper, as the sheet holds it."""
    return repr(attempt(read_yaml, Path(CONFIG_DIR, "paper.yaml")))


def decides_pages(wildcards):
    """What the pages of the report print of the configuration."""
    return printed_configuration(wildcards.study)


@functools.cache
def printed_configuration(study):
    """The hash of what any page prints: all pages of a study ask for it."""
    return sha256_json([config_hash(read_study(study), PAPER_LISTS), paper_text()])


STARTED = time.time()


def print_findings():
    """Print what the paper's findings come to in the configured study, if this call has made its report.

    A finding that fails is a result like another: it does not make the call fail.
    """
    from weakseg.report.findings import read_findings, terminal_table

    index = CHOSEN.report / "index.html"
    if index.is_file() and index.stat().st_mtime >= STARTED:
        try:
            print("", terminal_table(STUDY.name, read_findings(CHOSEN)), sep="\n", flush=True)
        except WeaksegError as error:
            print(error, file=sys.stderr, flush=True)
