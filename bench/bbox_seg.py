"""The pass of Bbox-Seg over a training set against the time that its CRF alone takes on the same cores.

    python bench/bbox_seg.py --images VOC_FOLDER [--photos 400] [--processes 2]

First the maps of a few photos are held against pydensecrf's. Then photos of `train_aug` are labelled and written by
`write_bbox_seg`, which reads, builds probabilities, runs the CRF, and writes each PNG in one step; after that the CRF
alone is timed on the same photos in as many processes, with everything else outside the clock. Prints the share of the
CRF's speed that the whole pass reaches; the start of the processes counts against the pass.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weakseg.annotations.annotate import annotate
from weakseg.annotations.bbox_seg_maps import EPSILON, BboxSegParams, bbox_seg, box_probabilities, write_bbox_seg
from weakseg.config import Study
from weakseg.crf import CRFParams, label_map, mean_field, unary_from_probabilities
from weakseg.data.box_files import read_boxes
from weakseg.data.boxes import ImageBoxes
from weakseg.data.dataset import open_data
from weakseg.data.prepare import prepare_data
from weakseg.data.voc import VocFolder
from weakseg.files import atomic_write_text
from weakseg.parallel import parallel_map
from weakseg.paths import StudyPaths

RELEASED = BboxSegParams(0.2, CRFParams(45, 37, 3, 15, 3))


@dataclass(frozen=True)
class CrfAlone:
    """Seconds of the CRF of one photo (picklable, for other processes)."""

    root: Path
    params: BboxSegParams

    def __call__(self, item: tuple[str, ImageBoxes]) -> float:
        image_id, entry = item
        if not entry.boxes:
            return 0.0
        image = VocFolder(self.root).image(image_id)
        unary = unary_from_probabilities(
            box_probabilities(entry.boxes, entry.size, alpha=self.params.alpha)[1], epsilon=EPSILON
        )
        start = time.perf_counter()
        label_map(unary, image, self.params.crf, iterations=self.params.iterations)
        return time.perf_counter() - start


def agreement(folder: VocFolder, items: list[tuple[str, ImageBoxes]]) -> float:
    """Share of pixels with the label of pydensecrf."""
    same = []
    for image_id, entry in items:
        image = folder.image(image_id)
        labels, chances = box_probabilities(entry.boxes, entry.size, alpha=RELEASED.alpha)
        q = mean_field(unary_from_probabilities(chances, epsilon=EPSILON), image, RELEASED.crf, backend="pydensecrf")
        same.append(float((bbox_seg(image, entry.boxes, RELEASED) == labels[q.argmax(0)]).mean()))
    return float(np.mean(same))


def part_of(root: Path, target: Path, count: int) -> Path:
    """A folder with the same photos whose train_aug holds `count` of them, evenly spread."""
    for name in ("JPEGImages", "SegmentationClassAug", "SegmentationClass", "SegmentationObject", "Annotations"):
        if (root / name).is_dir():
            target.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to((root / name).resolve(), target_is_directory=True)
    folder = VocFolder(root)
    ids = folder.read_list("train_aug") or []
    chosen = ids[:: max(1, len(ids) // count)][:count]
    lists = target / "ImageSets" / "Segmentation"
    for name, kept in (("train_aug", chosen), ("val", (folder.read_list("val") or [])[:1])):
        atomic_write_text(lists / f"{name}.txt", "\n".join(kept) + "\n")
    return target


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        root = part_of(args.images, place / "voc", args.photos)
        dataset = {"name": "bench", "source": "path", "path": str(root)}
        study = Study.model_validate(
            {"name": "bench", "description": "", "dataset": dataset, "network": {"trunk": "tiny"}}
        )
        paths = StudyPaths("bench", place)
        prepare_data(study, paths)
        annotate(study, [], paths, threads=args.processes)
        data = open_data(paths.manifest)
        boxes = read_boxes(paths.boxes, data.labels)
        items = [(image_id, boxes[image_id]) for image_id in data.ids("training") if image_id in boxes]
        print(f"same label as pydensecrf on {100 * agreement(data, items[:20]):.3f} % of the pixels of 20 photos")
        start = time.perf_counter()
        write_bbox_seg(paths.manifest, paths.boxes, place / "maps", RELEASED, processes=args.processes)
        whole = time.perf_counter() - start
        alone = list(parallel_map(CrfAlone(root, RELEASED), items, processes=args.processes, description="CRF alone"))
        bound = sum(alone) / args.processes
        print(
            f"{len(items)} photos, {args.processes} processes: pass {whole:.1f} s ({len(items) / whole:.1f} photos/s), "
            f"CRF alone {bound:.1f} s (median {1000 * np.median(alone):.0f} ms a photo), which is "
            f"{100 * bound / whole:.0f} % of the speed that the CRF alone allows"
        )


if __name__ == "__main__":
    main()
