"""A tiny data set in the VOC layout, made of coloured rectangles, and a study on it."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from weakseg.config import Experiment, Study
from weakseg.data.images import write_index_png
from weakseg.labels import VOC, LabelSet
from weakseg.paths import StudyPaths

COLOURS = {0: (90, 90, 90), 1: (220, 40, 40), 2: (40, 200, 60), 3: (50, 70, 230)}


def write_voc(root: Path, *, train=4, train_aug=8, val=4, size=(40, 52), seed=0, labels: LabelSet = VOC) -> Path:
    """Images with one or two rectangles of labels 1..3 in their own colour; `train` ids have a void border."""
    rng = np.random.default_rng(seed)
    ids = [f"2007_{n:06d}" for n in range(train_aug + val)]
    (root / "JPEGImages").mkdir(parents=True)
    for n, image_id in enumerate(ids):
        values = np.zeros(size, dtype=np.uint8)
        for _ in range(1 + n % 2):
            top, left = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
            values[top : top + size[0] // 2, left : left + size[1] // 2] = 1 + rng.integers(0, 3)
        image = np.array([COLOURS[label] for label in values.reshape(-1)], dtype=float).reshape(*size, 3)
        image = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=92)
        if n < train:
            values[0, :] = 255
        write_index_png(root / "SegmentationClassAug" / f"{image_id}.png", values, labels)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, chosen in (("train", ids[:train]), ("train_aug", ids[:train_aug]), ("val", ids[train_aug:])):
        (lists / f"{name}.txt").write_text("\n".join(chosen) + "\n")
    return root


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def sbd_mat(variable: str, labels: np.ndarray) -> bytes:
    """A file of SBD: `GTcls` or `GTinst` with a segmentation."""
    stream = io.BytesIO()
    savemat(stream, {variable: {"Segmentation": labels, "Boundaries": np.zeros(3)}})
    return stream.getvalue()


def make_study(root: Path, **changes) -> Study:
    """A study of seconds on `write_voc`'s folder; `changes` replace whole sections."""
    sections = {
        "name": "fabricated",
        "description": "Coloured rectangles.",
        "dataset": {"name": "rectangles", "source": "path", "path": str(root)},
        "network": {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True},
        "solver": {
            "iterations": 6,
            "batch": 4,
            "checkpoint_iterations": 2,
            "lr": 0.01,
        },
        "crf": {"coarse": {"w": [2, 4], "sigma_xy": [10], "sigma_rgb": [5]}, "refine_rounds": 0, "iterations": 2},
        **changes,
    }
    return Study.model_validate(sections)


def write_xml(path: Path, *objects: tuple) -> Path:
    """A VOC annotation with objects as (name, xmin, ymin, xmax, ymax), in VOC's coordinates, each with a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"<object><name>{name}</name><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><bndbox>"
        f"<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    path.write_text(f"<annotation>{text}</annotation>", encoding="utf-8")
    return path


def write_voc_boxes(root: Path) -> Path:
    """Add to `write_voc`'s folder the XML boxes of each label's pixels, one box a label."""
    for path in sorted((root / "SegmentationClassAug").glob("*.png")):
        labels = np.array(Image.open(path))
        things = []
        for label in range(1, 4):
            rows, columns = np.nonzero(labels == label)
            if len(rows):
                corners = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
                things.append((VOC.names[label], *corners))
        write_xml(root / "Annotations" / f"{path.stem}.xml", *things)
    return root


def make_experiment(name: str, *, strong=0, weak=0, method: str | None = None, fov="large", **fields) -> Experiment:
    """An experiment with the paper's counts: pixel labels for `strong` images, `method` for `weak` ones."""
    from weakseg.methods import METHODS

    halves = {"share": 0.5} if strong and weak else {}
    streams = []
    if strong:
        weight = {"weight": 0.7} if weak else {}
        streams.append({"annotation": "strong", "images": strong, "method": "pixel_labels", **halves, **weight})
    if weak:
        weight = {"weight": 0.3} if strong else {}
        annotation = METHODS[method].annotation
        streams.append({"annotation": annotation, "images": weak, "method": method, **halves, **weight})
    known = {"table": "table1", "line": 1, "title": name, "fov": fov}
    return Experiment.model_validate({"id": name, **known, **fields, "streams": streams})


def prepare(study: Study, results: Path, experiments=()) -> StudyPaths:
    """Check the data and write the manifest and weak annotation that `experiments` read."""
    from weakseg.annotations.annotate import annotate
    from weakseg.data.prepare import prepare_data

    paths = StudyPaths(study.name, results)
    prepare_data(study, paths)
    annotate(study, list(experiments), paths, threads=1)
    assert json.loads(paths.manifest.read_text())["counts"]["training"]
    return paths
