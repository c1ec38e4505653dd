"""The command line: one sub-command per rule of the workflow; the only place that parses arguments."""

import functools
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weakseg import __version__
from weakseg.errors import WeaksegError
from weakseg.logs import logged

if TYPE_CHECKING:
    from weakseg.config import Experiment, Study
    from weakseg.data.dataset import DataSet
    from weakseg.paths import RunPaths, StudyPaths

ALLOW_CPU = "WEAKSEG_ALLOW_CPU"
"""Environment variable in place of `--allow-cpu`: the workflow hands it to its jobs, whose commands stay the same."""

# Rooms are imported inside the commands: `weakseg --help` and the workflow's dry runs should not wait for torch.


@dataclass(frozen=True)
class Call:
    """What the options that all commands of a study share say.

    Attributes:
        name: the study, by name or YAML file.
        results: folder of all results.
        config_dir: folder of studies and sheets.
        data_root: replaces `{data_root}` in configured paths.
        threads: threads, or processes of the CRF.
        dataset: one of the study's other data sets, for commands that prepare one; None: its own.
    """

    name: str
    results: Path
    config_dir: Path
    data_root: str | None
    threads: int
    dataset: str | None = None

    @functools.cached_property
    def study(self) -> "Study":
        """The typed study, as it is for this data set."""
        from weakseg.config import load_study

        loaded = load_study(self.name, self.config_dir)
        if self.dataset is not None and self.dataset not in loaded.other_datasets:
            known = ", ".join(loaded.other_datasets) or "none"
            raise WeaksegError(
                f"--dataset {self.dataset}: study {loaded.name} has no such other data set; it has {known}"
            )
        return loaded.of_dataset(self.dataset)

    @property
    def paths(self) -> "StudyPaths":
        """Its files, those of this data set."""
        from weakseg.paths import StudyPaths

        return StudyPaths(self.study.name, self.results).of_dataset(self.dataset)

    @property
    def experiments(self) -> "list[Experiment]":
        """What it runs."""
        from weakseg.config import study_experiments

        return study_experiments(self.study, self.config_dir)

    @property
    def shown(self) -> "tuple[Experiment, int] | None":
        """The run whose E-step is shown."""
        from weakseg.config import shown_run

        run = shown_run(self.study, self.experiments)
        return None if run is None else (self.experiment(run[0]), run[1])

    def experiment(self, name: str) -> "Experiment":
        """One of them by id."""
        chosen = {row.id: row for row in self.experiments}
        if name not in chosen:
            raise WeaksegError(
                f"--experiment {name}: study {self.study.name} runs no such experiment; choose one of "
                + ", ".join(chosen)
            )
        return chosen[name]

    def set_threads(self) -> None:
        """Let torch use so many threads."""
        import torch

        torch.set_num_threads(self.threads)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, message="%(version)s")
def commands() -> None:
    """Weakly- and semi-supervised segmentation, step by step."""


Command = Callable[..., None]


def command(text: str) -> Callable[[Command], Command]:
    """A sub-command named after its function; all of its output goes to `--log` as well."""

    def decorate(function: Command) -> Command:
        @commands.command(function.__name__.strip("_").replace("_", "-"), help=text, short_help=text)
        @click.option("--log", type=click.Path(path_type=Path), help="Copy all output to this file.")
        @functools.wraps(function)
        def run(*, log: Path | None, **options: Any) -> None:
            name = click.get_current_context().info_name
            # Of the processes that torchrun starts for one run the first writes the log.
            with logged(None if int(os.environ.get("LOCAL_RANK", 0)) or int(os.environ.get("GROUP_RANK", 0)) else log):
                try:
                    function(**options)
                except WeaksegError as error:
                    print(f"weakseg {name}: {error}", file=sys.stderr)
                    raise click.exceptions.Exit(2) from None
                except Exception:
                    # Printed here, where the log file sees it too.
                    traceback.print_exc()
                    raise click.exceptions.Exit(1) from None

        return run

    return decorate


def of_study(function: Command) -> Command:
    """The options that name a study and its files, as one `Call`."""

    @click.option("--study", "name", default="demo", help="Name of a study, or a YAML file.")
    @click.option("--results", type=click.Path(path_type=Path), default="results", help="Folder of all results.")
    @click.option("--config-dir", type=click.Path(path_type=Path), default="config", help="Folder of the sheets.")
    @click.option("--data-root", help="Replaces {data_root} in configured paths.")
    @click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads, or processes of the CRF.")
    @functools.wraps(function)
    def run(*, name: str, results: Path, config_dir: Path, data_root: str | None, threads: int, **options: Any) -> None:
        function(Call(name, results, config_dir, data_root, threads), **options)

    return run


def of_data_set(function: Command) -> Command:
    """The options that name a study, and one of its other data sets if it is not its own."""

    @of_study
    @click.option("--dataset", help="One of the study's other data sets, by its name there.")
    @functools.wraps(function)
    def run(call: Call, *, dataset: str | None, **options: Any) -> None:
        function(replace(call, dataset=dataset), **options)

    return run


def of_run(function: Command) -> Command:
    """The options that name a run."""

    @of_study
    @click.option("--experiment", required=True, help="Id in experiments.yaml.")
    @click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the run.")
    @functools.wraps(function)
    def run(call: Call, *, experiment: str, seed: int, **options: Any) -> None:
        function(call, call.experiment(experiment), seed, **options)

    return run


def on_gpu(function: Command) -> Command:
    """Have one GPU to itself while the command runs, where there is one; a study that needs one stops without."""

    @click.option(
        "--allow-cpu", is_flag=True, envvar=ALLOW_CPU, help="Go on without a GPU, also if the study needs one."
    )
    @functools.wraps(function)
    def run(call: Call, *arguments: Any, allow_cpu: bool, **options: Any) -> None:
        from weakseg.gpus import leased_gpu, require_gpu

        with leased_gpu():
            if call.study.needs_gpu and not allow_cpu:
                require_gpu(call.study.name)
            function(call, *arguments, **options)

    return run


def _gpu_for_crf(study: "Study") -> AbstractContextManager[object]:
    """One GPU to oneself where the study's CRF runs on one."""
    from weakseg.gpus import leased_gpu

    return leased_gpu() if study.compute.crf == "device" else nullcontext()


@command("Generate the images of a study of scenes.")
@of_data_set
def scenes(call: Call) -> None:
    from weakseg.scenes.write import write_scenes

    dataset = call.study.dataset
    if dataset.scenes is None or dataset.source != "scenes":
        raise WeaksegError(f"study {call.study.name}: its images are not generated (dataset.source: {dataset.source})")
    write_scenes(call.paths.images, dataset.scenes, dataset.label_set(), processes=call.threads)


@command("Find or download the images of a study, check them, and write the manifest.")
@of_data_set
def data(call: Call) -> None:
    from weakseg.data.prepare import prepare_data

    prepare_data(call.study, call.paths, call.data_root, call.config_dir, threads=call.threads)


@command("Fetch or take initial weights by name, check and convert them, for all studies; without NAME, list them.")
@click.option("--from", "given", type=click.Path(path_type=Path), help="Take this file in place of a download.")
@click.option("--config-dir", type=click.Path(path_type=Path), default="config", help="Folder of the sheets.")
@click.argument("name", required=False)
def weights(name: str | None, given: Path | None, config_dir: Path) -> None:
    from weakseg.config import load_weights
    from weakseg.train.named_weights import make_weights, table_of_weights

    if name is not None:
        make_weights(name, config_dir, given=given)
    elif given is not None:
        raise WeaksegError(f"--from {given}: name the weights that it holds, as `weakseg weights` lists them")
    else:
        print(table_of_weights(load_weights(config_dir)))


@command("Pre-train the trunk on generated single-object images.")
@of_study
def pretrain(call: Call) -> None:
    from weakseg.train.pretrain import pretrain_trunk

    call.set_threads()
    pretrain_trunk(call.study, call.paths)


@command("Write image-level labels of photos and crops, and boxes.")
@of_data_set
def annotate(call: Call) -> None:
    from weakseg.annotations.annotate import annotate as write_annotation

    write_annotation(call.study, call.experiments, call.paths, call.config_dir, threads=call.threads)


@command("Write the label maps of Bbox-Rect.")
@of_study
def bbox_rect(call: Call) -> None:
    from weakseg.annotations.bbox_rect_maps import write_bbox_rect

    write_bbox_rect(call.paths.manifest, call.paths.boxes, call.paths.box_maps("bbox_rect"))


@command("Search Bbox-Seg's alpha and CRF parameters on the held-out images.")
@of_study
def tune_boxes(call: Call) -> None:
    from weakseg.annotations.bbox_seg_search import tune_bbox_seg

    tune_bbox_seg(call.study, call.paths, threads=call.threads)


@command("Write the label maps of Bbox-Seg.")
@of_study
def bbox_seg(call: Call) -> None:
    from weakseg.annotations.bbox_seg_maps import write_bbox_seg
    from weakseg.annotations.bbox_seg_search import read_bbox_seg_params

    paths = call.paths
    params = read_bbox_seg_params(paths.bbox_seg_params)
    write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params, processes=call.threads)


@command("Hold the training labels of the box methods against the truth.")
@of_study
def label_quality(call: Call) -> None:
    from weakseg.annotations.label_quality import measure_labels

    measure_labels(call.study, call.paths, _run_paths(call), threads=call.threads)


def _run_paths(call: Call) -> "RunPaths | None":
    return None if call.shown is None else call.paths.run(call.shown[0].id, call.shown[1])


@command("Find the principal axes of a frozen trunk's map.")
@of_study
@on_gpu
def projection(call: Call) -> None:
    from weakseg.train.features import find_projection

    call.set_threads()
    find_projection(call.study, call.paths, call.data_root)


@command("Cache the feature maps of a frozen trunk.")
@of_data_set
@click.option("--role", required=True, type=click.Choice(["training", "evaluation", "test"]), help="Whose photos.")
@on_gpu
def features(call: Call, role: Any) -> None:
    from weakseg.train.features import cache_features

    call.set_threads()
    cache_features(call.study, call.paths, role, call.data_root)


@command("Train a run.")
@of_run
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes that make mini-batches.")
@on_gpu
def train(call: Call, experiment: "Experiment", seed: int, workers: int) -> None:
    from weakseg.train.loop import train_run

    call.set_threads()
    train_run(call.study, experiment, seed, call.paths, call.data_root, call.config_dir, workers=workers)


@command("Draw a run's E-step maps from its snapshots.")
@of_run
@on_gpu
def estep_maps(call: Call, experiment: "Experiment", seed: int) -> None:
    from weakseg.annotations.chosen_images import shown_images
    from weakseg.annotations.label_quality import measured_images
    from weakseg.config import load_sheet
    from weakseg.data.box_files import read_boxes
    from weakseg.data.dataset import open_data, stream_lists
    from weakseg.data.splits import images_of_experiment
    from weakseg.train.estep_maps import write_estep_maps

    call.set_threads()
    study, paths = call.study, call.paths
    images = open_data(paths.manifest)
    boxes = read_boxes(paths.boxes, images.labels)
    lists = images_of_experiment(study, experiment, load_sheet(call.config_dir).lists, {None: stream_lists(images)})
    own = [i for stream, ids in zip(experiment.streams, lists, strict=True) if stream.how.estep for i in ids]
    shown = shown_images(images, boxes, study.report.box_images, own)
    # Only of the run in Figure 4 are the labels of many images held against the truth (`weakseg label-quality`).
    measured = measured_images(study, images, boxes) if call.shown == (experiment, seed) else _with_truth(images, shown)
    write_estep_maps(
        study, experiment, seed, paths, call.data_root, call.config_dir, shown=shown, measured=measured
    )  # fmt: skip


def _with_truth(images: "DataSet", ids: Sequence[str]) -> list[str]:
    return [image_id for image_id in ids if images.has_pixel_labels(image_id)]


@command("Score the evaluation images with a trained run.")
@of_run
@on_gpu
@click.option("--batch", type=click.IntRange(min=1), help="Photos scored together.  [default: 8 on a GPU, else 1]")
def score(call: Call, experiment: "Experiment", seed: int, batch: int | None) -> None:
    from weakseg.evaluate.score import score_run

    call.set_threads()
    score_run(experiment, seed, call.paths, batch=batch, test_px=call.study.network.test_px)


@command("Search the CRF's parameters on the held-out images.")
@of_run
def tune_crf(call: Call, experiment: "Experiment", seed: int) -> None:
    from weakseg.evaluate.crf_search import tune_crf as search

    with _gpu_for_crf(call.study):
        search(call.study, call.paths, call.paths.run(experiment.id, seed), threads=call.threads)


@command("Mean IOU with and without the CRF.")
@of_run
def evaluate(call: Call, experiment: "Experiment", seed: int) -> None:
    from weakseg.config import crf_run
    from weakseg.evaluate.evaluate_run import evaluate_run

    crf_of = call.paths.run(crf_run(experiment, call.experiments), seed)
    with _gpu_for_crf(call.study):
        evaluate_run(call.study, experiment, seed, call.paths, crf_of=crf_of, threads=call.threads)


@command("Pack the label maps of a run of stage `test` as the server of PASCAL VOC takes them, and check the archive.")
@of_run
def submission(call: Call, experiment: "Experiment", seed: int) -> None:
    from weakseg.evaluate.submission import write_submission

    write_submission(experiment, seed, call.paths)


@command("Write a table with this study's figures beside the published ones.")
@of_study
@click.option("--table", default="table1", help="Which table.")
def tables(call: Call, table: str) -> None:
    from weakseg.report.tables import write_table

    write_table(call.study, call.paths, call.config_dir, table)


@command("Hold the paper's findings against a study's runs: write tables/findings.csv, and print it.")
@of_study
def findings(call: Call) -> None:
    from weakseg.report.findings import terminal_table, write_findings

    print(terminal_table(call.study.name, write_findings(call.study, call.paths, call.config_dir)))


@command("Write the report's index page.")
@of_study
def index(call: Call) -> None:
    from weakseg.report.index import write_index

    write_index(call.study, call.paths, call.config_dir)


@command("Write the gallery: every run's label maps in one page.")
@of_study
def gallery(call: Call) -> None:
    from weakseg.report.gallery import write_gallery

    write_gallery(call.study, call.paths, call.config_dir, threads=call.threads)


@command("Collect a study's results for results/reference.")
@of_study
@click.option(
    "--out", type=click.Path(path_type=Path), default="results/reference", help="Folder of reference results."
)
def reference(call: Call, out: Path) -> None:
    from weakseg.report.reference import collect_reference

    collect_reference(call.study, call.paths, call.config_dir, out)


@command("Draw the report of collected results anew, without training and without photos.")
@click.argument("references", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default="build/report", help="Folder of results.")
@click.option("--notebooks", type=click.Path(path_type=Path), default="notebooks", help="Folder of the pages.")
def report(references: tuple[Path, ...], out: Path, notebooks: Path) -> None:
    from weakseg.report.redraw import redraw_report

    for reference in references or sorted(Path("results/reference").glob("*/")):
        for page, reason in redraw_report(reference, out, notebooks).items():
            print(f"{reference.name}: {page}.html is the collected page, {reason}")
        print(f"{out / reference.name / 'report' / 'index.html'}")


@command("Say whether a study can run here: what is there, what is missing, how large, how long, on which device.")
@of_study
@click.option("--allow-cpu", is_flag=True, envvar=ALLOW_CPU, help="A study that needs a GPU may do without.")
@click.option("--online", is_flag=True, help="Ask each address of what is to be fetched whether it answers.")
def doctor(call: Call, allow_cpu: bool, online: bool) -> None:
    from weakseg.config import reported_experiments
    from weakseg.doctor import examine

    reported = reported_experiments(call.study, call.config_dir)
    read = {name for row in reported for name in row.datasets}
    others = {name: other for name, other in call.study.other_datasets.items() if name in read}
    study = call.study.model_copy(update={"other_datasets": others})
    examine(study, reported, call.paths, call.data_root, call.config_dir, allow_cpu=allow_cpu, online=online)


@command("Label one's own images with a trained run.")
@click.option("--run", required=True, type=click.Path(path_type=Path), help="Folder of a trained run.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for label maps and overlays.")
@click.option("--overwrite", is_flag=True, help="Replace results of the same name.")
@click.option("--no-crf", is_flag=True, help="Leave the CRF out.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
def segment(run: Path, out: Path, overwrite: bool, no_crf: bool, images: Sequence[Path]) -> None:
    from weakseg.evaluate.segment import segment_images

    segment_images(run, list(images), out, overwrite=overwrite, crf=not no_crf)


@command("Write the JSON schemas of the configuration.")
@click.option("--out", type=click.Path(path_type=Path), default="workflow/schemas", help="Their folder.")
@click.option("--check", is_flag=True, help="Only tell whether they are up to date.")
def schemas(out: Path, check: bool) -> None:
    from weakseg.schemas import write_schemas

    write_schemas(out, check=check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns 0 when it worked, 2 when its input cannot be used, 1 on an unexpected error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows few letters must not turn a message about a path into another error.
            stream.reconfigure(errors="backslashreplace")
    try:
        done = commands.main(None if arguments is None else list(arguments), "weakseg", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        print("weakseg: stopped", file=sys.stderr)
        return 130
    return int(done or 0)


if __name__ == "__main__":
    sys.exit(main())
