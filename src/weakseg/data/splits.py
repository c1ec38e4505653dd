"""Which images are held out for the CRF, and which are those of each stream of an experiment."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from weakseg.config import EVERY, Experiment, PaperLists, Stream, Study
from weakseg.errors import WeaksegError


def held_out_ids(evaluation: Sequence[str], paper: PaperLists) -> list[str]:
    """The images of the evaluation on which the CRF is tuned.

    On the full list the authors' 100: the first 100 of the permutation of the sorted ids that Matlab's generator with
    seed 10 gives, which equals a sort of NumPy's RandomState(10) numbers. A shorter list keeps the rule and the
    proportion, one image at least.
    """
    ids = sorted(evaluation)
    count = max(1, round(paper.held_out * len(ids) / paper.evaluation))
    # The legacy generator is the one that equals Matlab's.
    order = np.argsort(np.random.RandomState(10).rand(len(ids)))
    return sorted(ids[i] for i in order[:count])


def stand_in_test_ids(evaluation: Sequence[str], held_out: Sequence[str], share: float) -> list[str]:
    """Images of the evaluation that stand in for test images: evenly spaced in their sorted list, none held out.

    Args:
        evaluation, held_out: ids.
        share: of `evaluation`; one image at least.

    Raises:
        WeaksegError: more than are not held out.
    """
    tuned = set(held_out)
    free = [image_id for image_id in sorted(evaluation) if image_id not in tuned]
    count = max(1, round(share * len(evaluation)))
    if count > len(free):
        raise WeaksegError(
            f"dataset.lists.test_of_val: {count} images are asked for, but {len(free)} of val are not held out for the "
            "CRF; lower it"
        )
    return [free[(2 * n + 1) * len(free) // (2 * count)] for n in range(count)]


def images_of_streams(
    experiment: Experiment,
    pixel_labelled: Sequence[str],
    training: Sequence[str],
    *,
    counts: Literal["paper", "images"],
    paper: PaperLists,
    dataset: str | None = None,
    images_for: Mapping[int, int] | None = None,
) -> list[list[str]]:
    """The image ids of each stream that draws from one data set, sorted.

    Strong images are the first of `pixel_labelled`, sorted; weak ones are taken from the rest of the training images.
    With `counts: paper` the experiment's counts are those of the paper's lists and keep their proportions on others: n
    strong images become that share of `pixel_labelled`, all training images are all of them anywhere, and w weak ones
    that share of the rest. On lists of the paper's length the counts hold exactly. With `counts: images` they stand as
    they are, and strong images beyond `pixel_labelled` are the next training images, sorted.

    Args:
        experiment: its streams say how many.
        pixel_labelled, training: ids; the first must be part of the second.
        counts: how counts are meant.
        paper: sizes of the lists that they are meant for.
        dataset: the streams of which data set; None: the study's own.
        images_for: counts of the experiment that stand for others here, whatever `counts` says.

    Raises:
        WeaksegError: pixel_labelled is not part of training, or more images are asked for than there are.
    """
    if outside := sorted(set(pixel_labelled) - set(training)):
        raise WeaksegError(
            f"lists: {len(outside)} images with pixel labels are no training images, {outside[0]} the first"
        )
    first = sorted(pixel_labelled)
    rest = [*first, *sorted(set(training) - set(first))]
    paper_first, paper_rest = paper.pixel_labelled, paper.training
    found = []
    for stream in (one for one in experiment.streams if one.dataset == dataset):
        if not rest:
            chosen = []
        elif (here := (images_for or {}).get(stream.count)) is not None:
            chosen = _counted(experiment, stream, here, rest)
            paper_first -= stream.count if stream.is_strong else 0
        elif counts == "images" or stream.count == EVERY:
            chosen = _counted(experiment, stream, stream.count, rest)
        elif stream.annotation == "strong" and stream.count < paper.training:
            chosen = _share(experiment, stream.count, paper_first, first)
            paper_first -= stream.count
        else:
            chosen = _share(experiment, stream.count, paper_rest, sorted(rest))
        if not chosen:
            raise WeaksegError(
                f"experiment {experiment.id}: no image is left for the stream of {stream.images} with annotation "
                f"{stream.annotation}; add images to the list of training images, or leave this experiment out"
            )
        paper_rest -= stream.count
        taken = set(chosen)
        first, rest = ([image_id for image_id in ids if image_id not in taken] for ids in (first, rest))
        found.append(sorted(chosen))
    return found


def images_of_experiment(
    study: Study, experiment: Experiment, paper: PaperLists, lists: Mapping[str | None, Mapping[str, Sequence[str]]]
) -> list[list[str]]:
    """The image ids of each stream of an experiment, in the streams' order.

    Runs of stage `test` draw from evaluation images too. Their pixel labels are used where the experiment says so.

    Args:
        study: how its counts are meant, on each data set.
        experiment: its streams.
        paper: sizes of the lists that its counts are meant for.
        lists: by data set (None: the study's own) its lists, see `stream_lists`.

    Raises:
        WeaksegError: see `images_of_streams`.
    """
    found: dict[str | None, list[list[str]]] = {}
    for name in dict.fromkeys(stream.dataset for stream in experiment.streams):
        own, other = lists[name], study.other_datasets.get(name or "")
        pixel_labelled, training = list(own["pixel_labelled"]), list(own["training"])
        if name is None and experiment.stage == "test":
            training += own["second_stage"]
            pixel_labelled += own["second_stage"] if experiment.pixel_labels_of_val else []
        found[name] = images_of_streams(
            experiment,
            pixel_labelled if other is None else training,  # all images of another data set have pixel labels
            training,
            counts=study.counts,
            paper=paper.of(name, stage=experiment.stage, pixel_labels_of_val=experiment.pixel_labels_of_val),
            dataset=name,
            images_for=None if other is None else other.images_for,
        )
    return [found[stream.dataset].pop(0) for stream in experiment.streams]


def _counted(experiment: Experiment, stream: Stream, count: int, rest: list[str]) -> list[str]:
    """The first of what is left, sorted unless images with pixel labels come first."""
    if count == EVERY:
        return rest
    if count > len(rest):
        raise WeaksegError(
            f"experiment {experiment.id}: {count} images with annotation {stream.annotation} are asked for, "
            f"but {len(rest)} training images are left; lower `images` in experiments.yaml, or say `counts: paper`"
        )
    return (rest if stream.annotation == "strong" else sorted(rest))[:count]


def _share(experiment: Experiment, count: int, of: int, available: list[str]) -> list[str]:
    """The first count / of of the available images, rounded, one at least."""
    if not 0 < count <= of:
        raise WeaksegError(
            f"experiment {experiment.id}: {count} images of the paper's {of} are asked for; mend `images` in "
            "experiments.yaml, or say `counts: images`"
        )
    return available[: max(1, round(count / of * len(available)))]
