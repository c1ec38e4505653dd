"""Statistics of the generated scenes beside those of VOC photos of the same size.

    python bench/scenes.py [--photos FOLDER] [--images 120]

Columns: the demo's scenes, the second set with all classes (labels scenes28, seed 1), and the photos of FOLDER in the
VOC layout (VOCdevkit/VOC2012 or the like), where it is given.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from weakseg.config import Scenes, load_study
from weakseg.data.images import read_index_png, read_photo
from weakseg.data.voc_xml import boxes_from_xml
from weakseg.labels import IGNORE, SCENES28, VOC, LabelSet
from weakseg.scenes.scene import make_scene

SIZE_PX = 160
"""Longer side to which photos are scaled."""

APART_PX = 6
"""Distance of the two pixels whose colours are compared: across the void border of a scaled photo."""

Picture = tuple[np.ndarray, np.ndarray, list[tuple[str, tuple[int, int, int, int]]]]
"""Image (H, W, 3) and labels (H, W), uint8, void 255; class and box (rows and columns, all included) of objects."""


def demo() -> Scenes:
    """The sizes of the demo's scenes."""
    sizes = load_study("demo").dataset.scenes
    assert isinstance(sizes, Scenes)
    return sizes


def scenes(sizes: Scenes, labels: LabelSet, number: int) -> Iterator[Picture]:
    """The first training scenes of a set."""
    for index in range(number):
        scene = make_scene(sizes, "train", index, labels)
        yield scene.image, scene.labels, list(scene.objects)


def photos(folder: Path, number: int) -> Iterator[Picture]:
    """Photos with pixel labels and boxes, evenly spaced in the list of training photos."""
    ids = (folder / "ImageSets/Segmentation/train.txt").read_text(encoding="utf-8").split()
    masks = next(folder / name for name in ("SegmentationClassAug", "SegmentationClass") if (folder / name).is_dir())
    for image_id in ids[:: max(1, len(ids) // number)][:number]:
        photo = read_photo(folder / "JPEGImages" / f"{image_id}.jpg")
        boxes = boxes_from_xml(folder / "Annotations" / f"{image_id}.xml", photo.shape[:2], VOC)
        scale = SIZE_PX / max(photo.shape)
        size = round(photo.shape[1] * scale), round(photo.shape[0] * scale)
        labels = Image.fromarray(read_index_png(masks / f"{image_id}.png", VOC)).resize(size, Image.Resampling.NEAREST)
        small = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
        yield (
            np.asarray(small),
            np.asarray(labels),
            [
                (
                    VOC.names[box.label],
                    tuple(round(scale * edge) for edge in (box.top, box.left, box.bottom, box.right)),
                )
                for box in boxes
            ],
        )


def colour_differences(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB distances of pixels APART_PX apart, down and right: of pixels with one label, and with two."""
    within, across = [], []
    for axis in (0, 1):
        first = (slice(None),) * axis + (slice(APART_PX, None),)
        second = (slice(None),) * axis + (slice(None, -APART_PX),)
        distance = np.linalg.norm(image[first].astype(float) - image[second], axis=-1)
        known = (labels[first] != IGNORE) & (labels[second] != IGNORE)
        alike = labels[first] == labels[second]
        within.append(distance[known & alike])
        across.append(distance[known & ~alike])
    return np.concatenate(within), np.concatenate(across)


def statistics(pictures: Iterator[Picture], labels_of: LabelSet = VOC) -> dict[str, float]:
    """Means over pictures, objects or regions, by name."""
    classes, objects, foreground, fills, areas, within, across, rough = ([] for _ in range(8))
    for image, labels, things in pictures:
        found = np.setdiff1d(labels, (0, IGNORE))
        classes.append(len(found))
        areas += [100 * np.mean(labels == label) for label in found]
        foreground.append(100 * np.mean((labels != 0) & (labels != IGNORE)))
        objects.append(len(things))
        for name, (top, left, bottom, right) in things:
            inside_box = labels[top : bottom + 1, left : right + 1]
            known = inside_box != IGNORE
            if known.any():
                fills.append(100 * np.mean(inside_box[known] == labels_of.index(name)))
        inside, between = colour_differences(image, labels)
        within.append(np.median(inside))
        rough.append(np.percentile(inside, 75))
        if len(between):
            across.append(np.median(between))
    return {
        "classes an image": np.mean(classes),
        "objects an image": np.mean(objects),
        "foreground, % of pixels": np.mean(foreground),
        "area of a class where it occurs, % of pixels (median)": np.median(areas),
        "box filled with its class, %": np.mean(fills),
        "colour difference within a region, median": np.mean(within),
        "colour difference within a region, upper quartile": np.mean(rough),
        "colour difference across an outline, median": np.mean(across),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--images", type=int, default=120)
    options = parser.parse_args()
    second = demo().model_copy(update={"seed": 1, "classes": len(SCENES28.classes)})
    columns = {
        "scenes": statistics(scenes(demo(), VOC, options.images)),
        "scenes28": statistics(scenes(second, SCENES28, options.images), SCENES28),
    }
    if options.photos:
        columns["photos"] = statistics(photos(options.photos, options.images))
    print(f"| {options.images} images, {SIZE_PX} pixels wide | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for name in columns["scenes"]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
