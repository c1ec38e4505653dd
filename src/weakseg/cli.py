"""The command line: one sub-command per rule of the workflow; the only place that parses arguments."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg import __version__
from weakseg.errors import WeaksegError
from weakseg.logs import logged

if TYPE_CHECKING:
    from weakseg.config import Experiment, Study
    from weakseg.paths import StudyPaths

# Rooms are imported inside the handlers: `weakseg --help` and the workflow's dry runs should not wait for torch.


def _study(args: argparse.Namespace) -> "tuple[Study, StudyPaths]":
    from weakseg.config import load_study
    from weakseg.paths import StudyPaths

    study = load_study(args.study, args.config_dir)
    return study, StudyPaths(study.name, Path(args.results))


def _experiment(args: argparse.Namespace, study: "Study") -> "Experiment":
    from weakseg.config import study_experiments

    chosen = {row.id: row for row in study_experiments(study, args.config_dir)}
    if args.experiment not in chosen:
        raise WeaksegError(
            f"--experiment {args.experiment}: study {study.name} runs no such experiment; choose one of "
            + ", ".join(chosen)
        )
    return chosen[args.experiment]


def _set_threads(args: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(args.threads)


def _data(args: argparse.Namespace) -> None:
    from weakseg.data.prepare import prepare_data

    study, paths = _study(args)
    prepare_data(study, paths, args.data_root, args.config_dir)


def _pretrain(args: argparse.Namespace) -> None:
    from weakseg.train.pretrain import pretrain_trunk

    _set_threads(args)
    pretrain_trunk(*_study(args))


def _annotate(args: argparse.Namespace) -> None:
    from weakseg.annotations.image_level import write_image_labels

    _, paths = _study(args)
    write_image_labels(paths.manifest, paths.image_labels)


def _boxes(args: argparse.Namespace) -> None:
    from weakseg.annotations.boxes import write_boxes

    _, paths = _study(args)
    write_boxes(paths.manifest, paths.boxes, threads=args.threads)


def _bbox_rect(args: argparse.Namespace) -> None:
    from weakseg.annotations.bbox_rect import write_bbox_rect

    _, paths = _study(args)
    write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))


def _tune_boxes(args: argparse.Namespace) -> None:
    from weakseg.evaluate.box_search import tune_bbox_seg

    tune_bbox_seg(*_study(args), threads=args.threads)


def _bbox_seg(args: argparse.Namespace) -> None:
    from weakseg.annotations.bbox_seg import write_bbox_seg
    from weakseg.evaluate.box_search import read_bbox_seg_params

    _, paths = _study(args)
    params = read_bbox_seg_params(paths.bbox_seg_params)
    write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params, processes=args.threads)


def _label_quality(args: argparse.Namespace) -> None:
    from weakseg.config import study_experiments, watched_run
    from weakseg.evaluate.label_quality import measure_labels

    study, paths = _study(args)
    watched = watched_run(study, study_experiments(study, args.config_dir))
    measure_labels(study, paths, paths.run(*watched) if watched else None, threads=args.threads)


def _features(args: argparse.Namespace) -> None:
    from weakseg.train.features import cache_features

    _set_threads(args)
    study, paths = _study(args)
    cache_features(study, paths, args.split, args.data_root)


def _train(args: argparse.Namespace) -> None:
    from weakseg.train.loop import train_run

    _set_threads(args)
    study, paths = _study(args)
    train_run(study, _experiment(args, study), args.seed, paths, args.data_root)


def _score(args: argparse.Namespace) -> None:
    from weakseg.evaluate.score_run import score_run

    _set_threads(args)
    study, paths = _study(args)
    score_run(study, _experiment(args, study), args.seed, paths)


def _tune_crf(args: argparse.Namespace) -> None:
    from weakseg.evaluate.crf_search import tune_crf

    study, paths = _study(args)
    tune_crf(study, paths, paths.run(_experiment(args, study).id, args.seed), threads=args.threads)


def _evaluate(args: argparse.Namespace) -> None:
    from weakseg.evaluate.mean_iou import evaluate_run

    study, paths = _study(args)
    evaluate_run(study, _experiment(args, study), args.seed, paths, threads=args.threads)


def _tables(args: argparse.Namespace) -> None:
    from weakseg.report.tables import write_table

    study, paths = _study(args)
    write_table(study, paths, args.config_dir, args.table)


def _index(args: argparse.Namespace) -> None:
    from weakseg.report.index import write_index

    study, paths = _study(args)
    write_index(study, paths, args.config_dir)


def _reference(args: argparse.Namespace) -> None:
    from weakseg.report.reference import collect_reference

    study, paths = _study(args)
    collect_reference(study, paths, args.config_dir, args.out)


def _segment(args: argparse.Namespace) -> None:
    from weakseg.evaluate.segment import segment_images

    segment_images(args.run, args.images, args.out, overwrite=args.overwrite, crf=not args.no_crf)


def _schemas(args: argparse.Namespace) -> None:
    from weakseg.schemas import write_schemas

    write_schemas(args.out, check=args.check)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="weakseg", description="Weakly- and semi-supervised segmentation, step by step."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, handler: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(handler=handler)
        command.add_argument("--log", type=Path, help="copy all output to this file")
        return command

    def add_study(name: str, handler: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = add(name, handler, text)
        command.add_argument("--study", default="demo", help="name of a study, or a YAML file (default: demo)")
        command.add_argument("--results", default="results", help="folder of all results (default: results)")
        command.add_argument("--config-dir", default="config", help="folder of studies and sheets (default: config)")
        command.add_argument("--data-root", help="replaces {data_root} in configured paths")
        command.add_argument(
            "--threads", type=_positive, default=1, help="threads, or processes of the CRF (default: 1)"
        )
        return command

    def add_run(name: str, handler: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = add_study(name, handler, text)
        command.add_argument("--experiment", required=True, help="id in experiments.yaml")
        command.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
        return command

    add_study("data", _data, "generate, check or download the images of a study")
    add_study("pretrain", _pretrain, "pre-train the trunk on generated single-object images")
    add_study("annotate", _annotate, "write the image-level labels of the training images")
    add_study("boxes", _boxes, "write the boxes of the training and the held-out images")
    add_study("bbox-rect", _bbox_rect, "write the label maps of Bbox-Rect")
    add_study("tune-boxes", _tune_boxes, "search Bbox-Seg's alpha and CRF parameters on the held-out images")
    add_study("bbox-seg", _bbox_seg, "write the label maps of Bbox-Seg")
    add_study("label-quality", _label_quality, "hold the training labels of the box methods against the truth")
    features = add_study("features", _features, "cache the maps of a frozen trunk")
    features.add_argument("--split", required=True, choices=("train_aug", "val"), help="list of images")
    add_run("train", _train, "train a run")
    add_run("score", _score, "score the evaluation images with a trained run")
    add_run("tune-crf", _tune_crf, "search the CRF's parameters on the held-out images")
    add_run("evaluate", _evaluate, "mean IOU with and without the CRF")
    tables = add_study("tables", _tables, "write a table of the paper with this study's figures")
    tables.add_argument("--table", default="table1", help="which table (default: table1)")
    add_study("index", _index, "write the report's index page")
    reference = add_study("reference", _reference, "collect a study's results for results/reference")
    reference.add_argument("--out", type=Path, default=Path("results/reference"), help="folder of reference results")
    segment = add("segment", _segment, "label one's own images with a trained run")
    segment.add_argument("--run", type=Path, required=True, help="folder of a trained run")
    segment.add_argument("--out", type=Path, required=True, help="folder for label maps and overlays")
    segment.add_argument("--overwrite", action="store_true", help="replace results of the same name")
    segment.add_argument("--no-crf", action="store_true", help="leave the CRF out")
    segment.add_argument("images", nargs="+", type=Path, help="photos")
    schemas = add("schemas", _schemas, "write the JSON schemas of the configuration")
    schemas.add_argument("--out", type=Path, default=Path("workflow/schemas"), help="their folder")
    schemas.add_argument("--check", action="store_true", help="only tell whether they are up to date")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns 0 when it worked, 2 when its input cannot be used, 1 on an unexpected error."""
    args = build_parser().parse_args(arguments)
    with logged(args.log):
        try:
            args.handler(args)
        except WeaksegError as error:
            print(f"weakseg {args.command}: {error}", file=sys.stderr)
            return 2
        except Exception:
            # Printed here, where the log file sees it too.
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
