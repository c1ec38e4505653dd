"""How a run's mean IOU moves when all foreground scores are raised by one number, chosen on the held-out images.

    python bench/foreground_bias.py --study voc-subset --experiments bbox_rect_weak bbox_seg_weak strong_10582 ...

A network that is unsure of the class spreads what it gives to the foreground over several classes, so that the
background has the largest score where the foreground together has more. The bias asks how much of the difference
between two lines is that, and how much is in the scores: it is chosen on the held-out images (mean IOU without the CRF)
and reported on val without them. Reads stored scores; every second row and column is scored. The first seed of each
experiment.
"""

import argparse
from pathlib import Path

import numpy as np

from weakseg.config import load_study
from weakseg.data.prepare import held_out, open_data
from weakseg.evaluate.mean_iou import confusion_matrix, mean_iou
from weakseg.evaluate.scores import ScoreStore
from weakseg.labels import NUM_LABELS
from weakseg.paths import StudyPaths

BIASES = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def confusions(paths: StudyPaths, experiment: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Confusion matrices by bias, on the held-out images and on the others, (biases, L+1, L+1) each."""
    folder, tuned = open_data(paths.manifest), set(held_out(paths.manifest))
    store = ScoreStore(paths.run(experiment, seed).scores)
    totals = np.zeros((2, len(BIASES), NUM_LABELS, NUM_LABELS), dtype=np.int64)
    for image_id in store.ids:
        scores, truth = store.full(image_id)[:, ::2, ::2], folder.labels(image_id)[::2, ::2]
        best, label = scores[1:].max(0), scores[1:].argmax(0) + 1
        for number, bias in enumerate(BIASES):
            labels = np.where(scores[0] >= best + bias, 0, label)
            totals[int(image_id not in tuned), number] += confusion_matrix(truth, labels)
    return totals[0], totals[1]


def main() -> None:
    """Print a line an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="voc-subset")
    parser.add_argument("--results", default="results")
    parser.add_argument("--experiments", nargs="+", required=True)
    args = parser.parse_args()
    study = load_study(args.study)
    paths = StudyPaths(study.name, Path(args.results))
    print("| experiment | background in truth | background labelled | IOU | bias | IOU with it |\n|" + "---|" * 6)
    for experiment in args.experiments:
        tuning, rest = confusions(paths, experiment, study.seeds_of(experiment)[0])
        plain = rest[BIASES.index(0.0)]
        chosen = int(np.argmax([mean_iou(matrix) for matrix in tuning]))
        shares = " | ".join(f"{100 * cells.sum() / plain.sum():.1f} %" for cells in (plain[0], plain[:, 0]))
        found = f"{mean_iou(plain):.1f} | {BIASES[chosen]:+g} | {mean_iou(rest[chosen]):.1f}"
        print(f"| {experiment} | {shares} | {found} |", flush=True)


if __name__ == "__main__":
    main()
