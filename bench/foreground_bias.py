"""How a run's mean IOU moves when all foreground scores are raised by one number, chosen on the held-out images.

    python bench/foreground_bias.py --study voc-subset --experiments bbox_rect_weak bbox_seg_weak strong_10582 ...

A network that is unsure of the class spreads what it gives to the foreground over several classes, so that the
background has the largest score where the foreground together has more. The bias asks how much of the difference
between two lines is that, and how much is in the scores: it is chosen on the held-out images (mean IOU without the CRF)
and reported on val without them, every second row and column scored. With --crf N the CRF then runs with the run's
tuned parameters on every N-th of these images, without and with the bias. Reads stored scores, of the first seed of
each experiment.
"""

import argparse
from pathlib import Path

import numpy as np

from weakseg.config import load_study
from weakseg.crf import label_map, unary_from_scores
from weakseg.data.dataset import open_data
from weakseg.evaluate.evaluate_run import read_crf
from weakseg.evaluate.score_store import ScoreStore
from weakseg.metrics import confusion_matrix, mean_iou
from weakseg.paths import StudyPaths

BIASES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def confusions(paths: StudyPaths, experiment: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices by bias, on the held-out images and on the others, (biases, L+1, L+1) each."""
    data = open_data(paths.manifest)
    tuned, size = set(data.ids("held_out")), len(data.labels)
    store = ScoreStore(paths.run(experiment, seed).scores)
    totals = np.zeros((2, len(BIASES), size, size), dtype=np.int64)
    for image_id in store.ids:
        scores, truth = store.full(image_id)[:, ::2, ::2], data.pixel_labels(image_id)[::2, ::2]
        best, label = scores[1:].max(0), scores[1:].argmax(0) + 1
        for number, bias in enumerate(BIASES):
            labels = np.where(scores[0] >= best + bias, 0, label)
            totals[int(image_id not in tuned), number] += confusion_matrix(truth, labels, size)
    return totals[0], totals[1]


def with_crf(paths: StudyPaths, experiment: str, seed: int, bias: float, step: int) -> tuple[float, float]:
    """Mean IOU after the CRF on every step-th image that is not held out, without and with the bias."""
    data = open_data(paths.manifest)
    tuned, size = set(data.ids("held_out")), len(data.labels)
    run = paths.run(experiment, seed)
    store, (params, facts) = ScoreStore(run.scores), read_crf(run)
    totals = np.zeros((2, size, size), dtype=np.int64)
    for image_id in [i for i in store.ids if i not in tuned][::step]:
        scores, image, truth = store.full(image_id), data.image(image_id), data.pixel_labels(image_id)
        for number, raised in enumerate((0.0, bias)):
            scores[1:] += raised
            labels = label_map(unary_from_scores(scores), image, params, iterations=int(facts["iterations"]))
            totals[number] += confusion_matrix(truth, labels, size)
    return mean_iou(totals[0]), mean_iou(totals[1])


def main() -> None:
    """Print a line an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="voc-subset")
    parser.add_argument("--results", default="results")
    parser.add_argument("--experiments", nargs="+", required=True)
    parser.add_argument("--crf", type=int, metavar="N", help="run the CRF on every N-th image")
    args = parser.parse_args()
    study = load_study(args.study)
    paths = StudyPaths(study.name, Path(args.results))
    print("| experiment | background in truth | background labelled | IOU | bias | IOU with it | with CRF | both |")
    print("|" + "---|" * 8)
    for experiment in args.experiments:
        tuning, rest = confusions(paths, experiment, study.seeds_of(experiment)[0])
        plain = rest[BIASES.index(0.0)]
        chosen = int(np.argmax([mean_iou(matrix) for matrix in tuning]))
        shares = " | ".join(f"{100 * cells.sum() / plain.sum():.1f} %" for cells in (plain[0], plain[:, 0]))
        found = f"{mean_iou(plain):.1f} | {BIASES[chosen]:+g} | {mean_iou(rest[chosen]):.1f}"
        smooth = "– | –"
        if args.crf:
            pair = with_crf(paths, experiment, study.seeds_of(experiment)[0], BIASES[chosen], args.crf)
            smooth = " | ".join(f"{iou:.1f}" for iou in pair)
        print(f"| {experiment} | {shares} | {found} | {smooth} |", flush=True)


if __name__ == "__main__":
    main()
