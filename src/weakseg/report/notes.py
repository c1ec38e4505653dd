"""What a reader must know before comparing a study's figures with the paper's, said from its configuration."""

from pathlib import PurePosixPath

from weakseg.annotations.boxes import read_boxes
from weakseg.data.prepare import read_manifest
from weakseg.data.splits import PAPER_TRAIN, PAPER_TRAIN_AUG, PAPER_VAL
from weakseg.errors import WeaksegError
from weakseg.report.results import StudyResults

PAPER = (
    "G. Papandreou, L.-C. Chen, K. Murphy, A. L. Yuille: Weakly- and Semi-Supervised Learning of a DCNN for Semantic "
    "Image Segmentation, ICCV 2015"
)
"""Where the published figures come from."""

PAPER_COUNTS = {"train": PAPER_TRAIN, "train_aug": PAPER_TRAIN_AUG, "val": PAPER_VAL, "crf_val": 100}
"""Images of the paper's lists."""

PAPER_GRID = 2 * 6 * 8
"""Parameter sets of the paper's coarse CRF grid (Chen et al. 2015, section 4)."""


def data_counts(results: StudyResults) -> dict[str, int]:
    """Images of each list of the study, as its manifest counts them."""
    counts = read_manifest(results.paths.manifest)["counts"]
    if missing := [name for name in PAPER_COUNTS if name not in counts]:
        raise WeaksegError(f"{results.paths.manifest}: no count of {', '.join(missing)}; run `weakseg data` again")
    return {name: int(counts[name]) for name in PAPER_COUNTS}


def network_text(results: StudyResults) -> str:
    """The study's network in a line."""
    network = results.study.network
    weights = "random initial weights"
    if network.weights is not None:
        weights = f"initial weights {PurePosixPath(network.weights.path).name}"
    frozen = ", trunk frozen" if network.freeze_trunk else ""
    return (
        f"{network.trunk}, output stride {network.output_stride}{frozen}, crops of {network.crop_px} pixels, {weights}"
    )


def differences(results: StudyResults) -> list[str]:
    """What sets this study apart from the paper's setting, one sentence each; empty where nothing does."""
    study, counts = results.study, data_counts(results)
    network, solver = study.network, study.solver
    found: list[str] = []
    if study.dataset.source == "scenes":
        found.append(
            "The images are generated scenes, not photos. The figures beside the paper's show whether the methods keep "
            "their order; their height says nothing about PASCAL VOC."
        )
    elif counts != PAPER_COUNTS:
        found.append(
            f"The lists are shorter than the paper's: {counts['train_aug']:,} training images instead of "
            f"{PAPER_TRAIN_AUG:,}, {counts['train']:,} of them in train instead of {PAPER_TRAIN:,}, and a val of "
            f"{counts['val']:,} instead of {PAPER_VAL:,}. Counts keep the paper's proportions, and the figures are not "
            "comparable with ones on the full val."
        )
    if network.trunk != "vgg16":
        found.append(
            f"The network is a compact one ({network.trunk}, output stride {network.output_stride}), not VGG-16."
        )
    if network.freeze_trunk:
        found.append("The trunk stays as it was pre-trained; only the layers added to it learn.")
    if network.image_scale != 1:
        found.append(f"The network sees images at {network.image_scale:g} of their size.")
    paper_samples = 6000 * 30
    samples = solver.iterations * solver.batch
    if samples < paper_samples:
        found.append(
            f"Training sees {samples:,} samples a run ({solver.iterations:,} mini-batches of {solver.batch}); the "
            f"paper's runs see {paper_samples:,}."
        )
    if study.sampling.repeat_factor_threshold > 0:
        found.append(
            "Images of rare classes are drawn more often (repeat-factor sampling), which the paper does not do."
        )
    if study.estep.valid_cells_only:
        found.append(
            "Cells of padding are left out of the E-step and of the loss; the released code lets them take part."
        )
    grid = study.crf.coarse
    tried = len(grid.w) * len(grid.sigma_xy) * len(grid.sigma_rgb)
    if tried < PAPER_GRID or study.crf.refine_rounds == 0:
        finer = "no finer grid" if study.crf.refine_rounds == 0 else "finer grids"
        found.append(
            f"The CRF's search tries {tried} parameter sets and {finer} around the best; the paper tries {PAPER_GRID}, "
            "then finer ones."
        )
    if any(row.weak_annotation == "box" for row in results.experiments):
        found += _box_differences(results)
    if max(len(study.seeds_of(row.id)) for row in results.experiments) == 1:
        found.append("Every line is a single run, so nothing is known here about the spread between seeds.")
    elif min(len(study.seeds_of(row.id)) for row in results.experiments) == 1:
        found.append("Lines without a ± are single runs: their spread between seeds is not known here.")
    return found


def _box_differences(results: StudyResults) -> list[str]:
    entries = read_boxes(results.paths.boxes).values()
    written = sum(entry.source == "xml" for entry in entries)
    if not written:
        return []
    whose = "All boxes" if written == len(entries) else f"The boxes of {written:,} of {len(entries):,} images"
    return [
        f"{whose} come from XML annotations, since there are no instance masks for them; the paper's are tight around "
        "instance masks."
    ]


def conventions(results: StudyResults) -> list[str]:
    """How the figures are made, one sentence each."""
    counts = data_counts(results)
    return [
        "IOU is the mean over 21 classes, background included, in percent, from one confusion matrix over val; a class "
        "that occurs nowhere counts as 0 (rule of the VOC development kit).",
        f"The CRF's parameters are chosen on {counts['crf_val']:,} of the {counts['val']:,} images of val, as in the "
        "paper. Untuned val is val without these images; where it differs much from the whole, the tuning has helped.",
        "Strong, Weak and Boxes are the counts really used: images with pixel labels, with image-level labels, with "
        "bounding boxes.",
        f"Published figures: {PAPER}. They are single runs with VGG-16 on the full lists. A variant of a line stands "
        "beside the figure published for the line.",
    ]


def about(results: StudyResults) -> str:
    """What the study is, in Markdown, for the head of a page."""
    study, counts = results.study, data_counts(results)
    return (
        f"**Study {study.name}.** {study.description} Images: {study.dataset.name}, {counts['train_aug']:,} for "
        f"training ({counts['train']:,} of them in `train`), {counts['val']:,} in `val`. Network: "
        f"{network_text(results)}."
    )


def comparison(results: StudyResults) -> str:
    """What sets the study apart from the paper's setting, in Markdown, under its own heading."""
    found = differences(results) or ["Images, network, training length and CRF search are the paper's."]
    return "## Compared with the paper\n\n" + "\n".join(f"- {sentence}" for sentence in found)


def reading(results: StudyResults) -> str:
    """How the figures are made, in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in conventions(results))
