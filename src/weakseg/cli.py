"""The command `weakseg`: one sub-command for each rule of the workflow, and some for use by hand.

This is the only place that parses arguments. Each handler imports its room when it is called, so that `--help` is
quick and the number of threads can be set before numpy and torch are loaded.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from weakseg.config import Experiment, Study, load_study, study_experiments
from weakseg.errors import WeaksegError
from weakseg.logs import tee_output
from weakseg.paths import StudyPaths

Handler = Callable[[argparse.Namespace], None]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables by which the numeric libraries are told, before they load, how many threads to use."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code: 0 done, 1 an unexpected error, 2 input that cannot be used."""
    args = make_parser().parse_args(argv)
    handler: Handler = args.handler
    with tee_output(args.log):
        try:
            set_threads(args.threads)
            handler(args)
        except WeaksegError as error:
            print(f"weakseg {args.command}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"weakseg {args.command}: interrupted", file=sys.stderr)
            return 130
        except Exception:
            traceback.print_exc()
            return 1
    return 0


def set_threads(threads: int | None) -> None:
    """Let numpy, numba and torch use so many threads; None leaves the choice to them.

    Raises:
        WeaksegError: fewer than 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise WeaksegError(f"--threads {threads}: give a number of at least 1")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="weakseg",
        description="Weakly- and semi-supervised training of DeepLab (Papandreou et al. 2015), step by step. "
        "`snakemake` runs the same steps in their order.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, handler: Handler, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary, parents=[_common(), *parents])
        command.set_defaults(handler=handler)
        return command

    add("data", _data, "Generate, check or download the study's images and write their manifest.", _of_study())
    add("pretrain", _pretrain, "Pre-train the trunk on generated single-object images.", _of_study())
    add("annotate", _annotate, "Write the image-level labels of the training images.", _of_study())
    features = add("features", _features, "Compute the maps of a frozen trunk once.", _of_study())
    features.add_argument("--split", required=True, choices=["train_aug", "val"], help="list of images")
    add("train", _train, "Train one run; a run that was stopped goes on where it was.", _of_run())
    add("score", _score, "Compute and store the scores of a run on val.", _of_run())
    add("tune-crf", _tune_crf, "Search the CRF's parameters on the held-out images.", _of_run())
    add("evaluate", _evaluate, "Mean IOU with and without the CRF, per-class table and label PNGs.", _of_run())
    add("tables", _tables, "Write the tables beside the published figures.", _of_study())
    segment = add("segment", _segment, "Segment one's own images with a trained run.")
    segment.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="photos (JPEG or PNG)")
    segment.add_argument("--run", required=True, type=Path, help="folder of a finished run")
    segment.add_argument("--out", required=True, type=Path, help="folder of the label PNGs")
    schemas = add("schemas", _schemas, "Write the JSON schemas of the configuration files.")
    schemas.add_argument("--out", type=Path, default=Path("workflow/schemas"), help="folder (%(default)s)")
    schemas.add_argument("--check", action="store_true", help="write nothing; fail where a file is out of date")
    return parser


def _common() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("how to run")
    group.add_argument("--log", type=Path, help="file that receives a copy of all that is printed")
    group.add_argument("--threads", type=int, help="threads of the numeric libraries (default: theirs)")
    return parent


def _of_study() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("what to run on")
    group.add_argument("--study", default="demo", help="name of a study, or its YAML file (%(default)s)")
    group.add_argument("--results", type=Path, default=Path("results"), help="folder of all results (%(default)s)")
    group.add_argument("--config-dir", type=Path, default=Path("config"), help="folder of the sheets (%(default)s)")
    group.add_argument("--data-root", type=Path, help="stands for {data_root} in paths (default: WEAKSEG_DATA_ROOT)")
    return parent


def _of_run() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False, parents=[_of_study()])
    group = parent.add_argument_group("which run")
    group.add_argument("--experiment", required=True, help="id of a row of experiments.yaml")
    group.add_argument("--seed", type=int, default=0, help="seed (%(default)s)")
    return parent


def _study(args: argparse.Namespace) -> tuple[Study, StudyPaths]:
    study = load_study(args.study, args.config_dir)
    return study, StudyPaths(study.name, args.results)


def _experiment(study: Study, args: argparse.Namespace) -> Experiment:
    """The experiment named on the command line.

    Raises:
        WeaksegError: the study runs no such experiment; those it runs are listed.
    """
    chosen = {row.id: row for row in study_experiments(study, args.config_dir)}
    if args.experiment not in chosen:
        raise WeaksegError(
            f"--experiment {args.experiment}: study {study.name} runs no such experiment; choose one of "
            + ", ".join(chosen)
        )
    return chosen[args.experiment]


def _data(args: argparse.Namespace) -> None:
    from weakseg.data.prepare import prepare_data

    study, paths = _study(args)
    prepare_data(study, paths, args.data_root)


def _pretrain(args: argparse.Namespace) -> None:
    from weakseg.train.pretrain import pretrain_trunk

    study, paths = _study(args)
    pretrain_trunk(study, paths)


def _annotate(args: argparse.Namespace) -> None:
    from weakseg.annotations.image_level import write_image_labels

    _, paths = _study(args)
    write_image_labels(paths.manifest, paths.image_labels)


def _features(args: argparse.Namespace) -> None:
    from weakseg.train.features import cache_features

    study, paths = _study(args)
    cache_features(study, paths, args.split, args.data_root)


def _train(args: argparse.Namespace) -> None:
    from weakseg.train.loop import train_run

    study, paths = _study(args)
    train_run(study, _experiment(study, args), args.seed, paths, args.data_root)


def _score(args: argparse.Namespace) -> None:
    from weakseg.evaluate.scores import score_run

    study, paths = _study(args)
    score_run(study, _experiment(study, args), args.seed, paths, args.data_root)


def _tune_crf(args: argparse.Namespace) -> None:
    from weakseg.evaluate.crf_search import tune_crf

    study, paths = _study(args)
    tune_crf(study, paths, paths.run(_experiment(study, args).id, args.seed), args.threads or 1)


def _evaluate(args: argparse.Namespace) -> None:
    from weakseg.evaluate.mean_iou import evaluate_run

    study, paths = _study(args)
    evaluate_run(study, _experiment(study, args), args.seed, paths, args.threads or 1)


def _tables(args: argparse.Namespace) -> None:
    from weakseg.report.tables import write_tables

    study, paths = _study(args)
    write_tables(study, paths, args.config_dir)


def _segment(args: argparse.Namespace) -> None:
    from weakseg.evaluate.segment import segment_images

    segment_images(args.run, args.images, args.out)


def _schemas(args: argparse.Namespace) -> None:
    from weakseg.schemas import write_schemas

    write_schemas(args.out, check=args.check)


if __name__ == "__main__":
    sys.exit(main())
