"""What a reader must know before comparing a study's figures with the paper's, said from its configuration."""

import json
from html import escape

import pandas as pd

from weakseg.data.box_files import count_boxes
from weakseg.data.dataset import read_manifest
from weakseg.report.paper import PAPER, PaperSetting, paper_lists
from weakseg.report.results import StudyResults, data_counts


def network_text(results: StudyResults) -> str:
    """The study's network in a line."""
    network = results.study.network
    weights = "random initial weights"
    if network.weights is not None:
        weights = f"initial weights {network.weights.title}"
    frozen = ", trunk frozen" if network.freeze_trunk else ""
    return (
        f"{network.trunk}, output stride {network.output_stride}{frozen}, crops of {network.crop_px} pixels, {weights}"
    )


def question(results: StudyResults) -> list[str]:
    """What was asked and how this study answers, in two sentences."""
    kinds = {row.weak_annotation for row in results.experiments}
    offers = [
        text for kind, text in (("image", "only say which classes they show"), ("box", "carry boxes")) if kind in kinds
    ]
    asked = "How well does a network learn to segment when most of its training images have no pixel labels"
    asked += f", but {' or '.join(offers)}?" if offers else "?"
    counts, runs = data_counts(results), len(results.runs())
    return [
        asked,
        f"This study trains {len(results.experiments)} lines of the paper's tables in {runs} runs, on "
        f"{counts['training']:,} images ({results.study.dataset.name}), and holds what the paper found against them.",
    ]


def differences(results: StudyResults) -> list[str]:
    """What sets this study apart from the paper's setting, one sentence each; empty where nothing does."""
    study, counts, full = results.study, data_counts(results), paper_lists(results)
    network, solver, paper = study.network, study.solver, PaperSetting.read(results.config_dir)
    found: list[str] = []
    kept = "Counts keep the paper's proportions." if study.counts == "paper" else "Counts are taken as they stand."
    if study.dataset.source == "scenes":
        found.append(
            "The images are generated scenes, not photos. The figures beside the paper's show whether the methods keep "
            "their order; their height says nothing about PASCAL VOC."
        )
    elif counts != full:
        found.append(
            f"The lists are not the paper's: {counts['training']:,} training images instead of "
            f"{full['training']:,}, {counts['pixel_labelled']:,} of them listed with pixel labels instead of "
            f"{full['pixel_labelled']:,}, and {counts['evaluation']:,} evaluation images instead of "
            f"{full['evaluation']:,}. {kept} The figures are not comparable with ones on the full val."
        )
    if tags := _tags_of_photos(results):
        found.append(tags)
    if network.trunk != "vgg16":
        found.append(
            f"The network is a compact one ({network.trunk}, output stride {network.output_stride}), not VGG-16."
        )
    if network.freeze_trunk:
        found.append("The trunk stays as it was pre-trained; only the layers added to it learn.")
    if network.image_scale != 1:
        found.append(f"The network sees images at {network.image_scale:g} of their size.")
    samples = solver.iterations * solver.batch
    if paper.training and samples < (theirs := paper.training.iterations * paper.training.batch):
        found.append(
            f"Training sees {samples:,} samples a run ({solver.iterations:,} mini-batches of {solver.batch}); the "
            f"paper's runs see {theirs:,}."
        )
    if study.sampling.repeat_factor_threshold > 0:
        found.append(
            "Images of rare classes are drawn more often (repeat-factor sampling), which the paper does not do."
        )
    if study.sampling.valid_cells_only:
        found.append(
            "Cells of padding are left out of the E-step and of the loss; the released code lets them take part."
        )
    grid = study.crf.coarse
    tried = len(grid.w) * len(grid.sigma_xy) * len(grid.sigma_rgb)
    if paper.crf_search and (tried < paper.crf_search.size or study.crf.rounds == 0):
        finer = "no finer grid" if study.crf.rounds == 0 else "finer grids"
        found.append(
            f"The CRF's search tries {tried} parameter sets and {finer} around the best; the paper tries "
            f"{paper.crf_search.size}, then finer ones."
        )
    if any(row.label_maps for row in results.experiments):
        found += _box_differences(results)
    if max(len(study.seeds_of(row.id)) for row in results.experiments) == 1:
        found.append("Every line is a single run, so nothing is known here about the spread between seeds.")
    elif min(len(study.seeds_of(row.id)) for row in results.experiments) == 1:
        found.append("Lines without a ± are single runs: their spread between seeds is not known here.")
    return found


def differences_of_runs(results: StudyResults) -> list[str]:
    """What sets the runs apart from the paper's by what each noted of itself, one sentence each.

    Today: fc6 and fc7 of a VGG-16 that did not start from the original ones.
    """
    starts = [
        json.loads(run.config.read_text(encoding="utf-8")).get("start", {})
        for _, _, run in results.runs()
        if run.config.is_file()
    ]
    broken = sum(bool(start.get("breaks_protocol")) for start in starts)
    if not broken:
        return []
    rate = results.study.solver.head_lr_multiplier
    return [
        f"fc6 and fc7 started fresh in {broken} of {len(starts)} runs and learnt at {rate:g} times the base rate: the "
        "initial weights do not hold VGG-16's own, from which the paper starts them."
    ]


def _tags_of_photos(results: StudyResults) -> str | None:
    """A sentence on image-level labels of whole photos, where an experiment reads some."""
    manifest = read_manifest(results.paths.manifest)
    without = manifest["counts"]["training"] - manifest["pixel_labelled_training"]
    if not without or all(s.annotation != "image" for row in results.experiments for s in row.streams):
        return None
    return (
        f"Image-level labels of {without:,} training images are those of the whole photo, as these have no pixel "
        "labels; the paper's are those of the crop."
    )


def _box_differences(results: StudyResults) -> list[str]:
    counts = count_boxes(results.paths.boxes)
    if not counts.from_xml:
        return []
    whose = "All boxes"
    if counts.from_xml < counts.images:
        whose = f"The boxes of {counts.from_xml:,} of {counts.images:,} images"
    return [
        f"{whose} come from XML annotations, since there are no instance masks for them; the paper's are tight around "
        "instance masks."
    ]


def conventions(results: StudyResults) -> list[str]:
    """How the figures are made, one sentence each."""
    counts = data_counts(results)
    return [
        f"IOU is the mean over {len(results.labels)} classes, background included, in percent. It comes from one "
        "confusion matrix over val. A class that occurs nowhere counts as 0, by the rule of the VOC development kit.",
        "The column `classes that occur` is the mean with the CRF over the classes that occur in the truth or in the "
        "prediction. A table has it where it differs from the mean over all.",
        *_test_conventions(results),
        f"The CRF's parameters are chosen on {counts['held_out']:,} of the {counts['evaluation']:,} images of val, "
        "as in the paper. The column `without held-out` leaves these images out. Where it differs much from the whole, "
        "the tuning has helped.",
        "Strong, Weak and Boxes are the counts really used: images with pixel labels, with image-level labels, with "
        "bounding boxes.",
        f"Published figures: {PAPER}. They are single runs with VGG-16 on the full lists. A variant of a line stands "
        "beside the figure published for the line. A dash stands for a line that was never published, or that is "
        "not run here.",
    ]


def _test_conventions(results: StudyResults) -> list[str]:
    """What holds for runs of the test stage, where there are any."""
    if all(row.stage == "val" for row in results.experiments):
        return []
    listed = results.study.dataset.lists.test
    return [
        f"Lines of Tables 2, 4 and 6 are scored on the list {listed} instead, with the CRF of the run that they go on "
        "from. The paper's are scored on the test set of VOC 2012, whose labels are not public."
    ]


def crf_search_text(results: StudyResults, grid: pd.DataFrame) -> str:
    """How the CRF's parameters were searched, and how the paper searches them.

    Args:
        results: the study.
        grid: as `results.read_grids` gives it.
    """
    search, paper = results.study.crf, PaperSetting.read(results.config_dir).crf_search
    text = (
        f"Each run tries {grid.groupby(['experiment', 'seed']).size().max()} parameter sets on {grid['images'].max()} "
        f"held-out images. The position kernel is fixed at w {search.w_pos:g} and sigma {search.sigma_pos:g}. "
        f"Mean-field inference takes {search.iterations} iterations."
    )
    if paper:
        spans = [
            f"{name} of {min(values):g} to {max(values):g}"
            for name, values in (("w", paper.w), ("sigma_xy", paper.sigma_xy), ("sigma_rgb", paper.sigma_rgb))
        ]
        text += (
            f" The paper's search tries {spans[0]}, {spans[1]} and {spans[2]}: {paper.size} sets on "
            f"{paper_lists(results)['held_out']} images. It then tries finer grids around the best."
        )
    return text


def about(results: StudyResults) -> str:
    """What the study is, in Markdown, for the head of a page."""
    study, counts, lists = results.study, data_counts(results), results.study.dataset.lists
    return (
        f"**Study {study.name}.** {escape(study.description)} Images: {escape(study.dataset.name)}, "
        f"{counts['training']:,} for training ({counts['pixel_labelled']:,} of them in `{lists.pixel_labelled}`), "
        f"{counts['evaluation']:,} in `{lists.evaluation}`. "
        f"Network: {network_text(results)}."
    )


def comparison(results: StudyResults) -> str:
    """What sets the study apart from the paper's setting, in Markdown, under its own heading."""
    found = differences(results) or ["Images, network, training length and CRF search are the paper's."]
    return "## Compared with the paper\n\n" + "\n".join(f"- {sentence}" for sentence in found)


def reading(results: StudyResults) -> str:
    """How the figures are made, in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in conventions(results))
