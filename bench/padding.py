"""What padding photos to the paper's 513 pixels changes: mean IOU without the CRF, and the share of pixels relabelled.

    python bench/padding.py --study voc-subset --experiments em_fixed_semi_1464_9118 --step 8

Photos are padded bottom and right with the mean pixel, once to their own size rounded up (`network.test_px: null`) and
once to `--test-px`; the whole network sees both, also where the study froze its trunk and scored cached maps. Reads the
trained networks of the first seed, on every step-th image of val.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from weakseg.config import load_study
from weakseg.data.dataset import open_data
from weakseg.evaluate.upsampling import upsample_scores
from weakseg.metrics import confusion_matrix, mean_iou_of_occurring
from weakseg.model import load_model
from weakseg.model.inputs import whole_scores
from weakseg.paths import StudyPaths


@torch.no_grad()
def compare(paths: StudyPaths, experiment: str, seed: int, test_px: int | None, step: int) -> str:
    """A row of the table: experiment, photos, IOU at own size and padded, share of pixels whose label differs.

    Without `test_px` experiment, photos, IOU at own size and pixels that are right.
    """
    model, facts = load_model(paths.run(experiment, seed).model)
    network, data = facts["network"], open_data(paths.manifest)
    size = len(data.labels)
    totals, differing, pixels = np.zeros((2, size, size), dtype=np.int64), 0, 0
    ids = data.ids("evaluation")[::step]
    for image_id in ids:
        image, truth = data.image(image_id), data.pixel_labels(image_id)
        labels = []
        for number, side in enumerate((None, test_px) if test_px else (None,)):
            seen = network.model_copy(update={"test_px": side})
            scores = whole_scores(model, image, seen, facts["preprocessing"]).numpy()
            full = upsample_scores(
                scores, image.shape[:2], stride=network.output_stride, image_scale=network.image_scale
            )
            labels.append(full.argmax(0))
            totals[number] += confusion_matrix(truth, labels[-1], size)
        differing += int((labels[0] != labels[-1]).sum())
        pixels += labels[0].size
    if not test_px:
        right = totals[0].trace() / totals[0].sum()
        return f"| {experiment} | {len(ids)} | {mean_iou_of_occurring(totals[0]):.2f} | {100 * right:.2f} % |"
    own, padded = (mean_iou_of_occurring(total) for total in totals)
    return f"| {experiment} | {len(ids)} | {own:.2f} | {padded:.2f} | {100 * differing / pixels:.2f} % |"


def main() -> None:
    """Print a row an experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="voc-subset")
    parser.add_argument("--experiments", nargs="+", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--test-px", type=int, default=513, help="0: score photos at their own size alone")
    parser.add_argument("--step", type=int, default=8, help="every so many photos")
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    paths = StudyPaths(study.name, arguments.results)
    columns = ("own size", "padded", "pixels relabelled") if arguments.test_px else ("own size", "pixels right")
    print(f"| experiment | photos | {' | '.join(columns)} |\n{'|---' * (2 + len(columns))}|")
    for experiment in arguments.experiments:
        seed = study.seeds_of(experiment)[0]
        print(compare(paths, experiment, seed, arguments.test_px, arguments.step), flush=True)


if __name__ == "__main__":
    main()
