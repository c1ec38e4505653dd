"""A trained run on one's own images."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from weakseg.crf import label_map, unary_from_scores
from weakseg.data.images import read_photo, write_index_png
from weakseg.errors import WeaksegError
from weakseg.evaluate.evaluate_run import read_crf
from weakseg.evaluate.upsampling import upsample_scores
from weakseg.files import atomic_path
from weakseg.labels import BACKGROUND, LabelSet
from weakseg.model import load_model
from weakseg.model.inputs import whole_scores
from weakseg.paths import RunPaths

OVERLAY_WEIGHT = 0.6
"""Share of the label's colour in an overlay; the background stays as it is."""


@torch.no_grad()
def segment_images(
    run: str | Path, images: list[Path], out: str | Path, *, overwrite: bool = False, crf: bool = True
) -> None:
    """Label photos with a trained run: for each `{name}.png` (palette PNG) and `{name}_overlay.jpg` in `out`.

    The CRF runs with the run's tuned parameters, where it has any. Photos are turned as their EXIF data says.

    Args:
        run: folder of a trained run.
        images: photos in any format that Pillow reads.
        out: folder for the results; made if missing.
        overwrite: replace results of the same name.
        crf: smooth with the CRF.

    Raises:
        WeaksegError: no trained network, an unreadable photo, two photos of one name, or results that exist. All names
            are checked before the first photo is labelled.
    """
    paths, out = RunPaths(Path(run)), Path(out)
    targets = _targets(images, out, overwrite=overwrite)
    model, facts = load_model(paths.model)
    network = facts["network"]
    params, iterations = None, 10
    if crf and paths.crf.is_file():
        params, found = read_crf(paths)
        iterations = int(found["iterations"])
    elif crf:
        print(f"{paths.crf} is missing: labels are those of the network alone; run `weakseg tune-crf` for the CRF")
    for path, target in tqdm(list(targets.items()), desc="segment", unit="photo"):
        try:
            image = read_photo(path)
            cells = whole_scores(model, image, network, facts["preprocessing"]).numpy()
            size, scale = (image.shape[0], image.shape[1]), network.image_scale
            scores = upsample_scores(cells, size, stride=network.output_stride, image_scale=scale)
            if params is None:
                labels = scores.argmax(0).astype(np.uint8)
            else:
                labels = label_map(unary_from_scores(scores), image, params, iterations=iterations)
        except (MemoryError, RuntimeError) as error:
            # torch has no memory error of its own on a CPU
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise WeaksegError(
                f"{path}: it does not fit in the memory that is left ({error}); scale it down"
            ) from error
        write_index_png(target, labels, facts["labels"])
        with atomic_path(_overlay_path(target)) as temporary:
            Image.fromarray(overlay(image, labels, facts["labels"])).save(temporary, quality=90)


def overlay(image: np.ndarray, labels: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """The photo with labels in their colours laid over it; (H, W, 3) uint8."""
    colours = label_set.palette()[labels].astype(float)
    mixed = (1 - OVERLAY_WEIGHT) * image + OVERLAY_WEIGHT * colours
    return np.where(labels[..., None] == BACKGROUND, image, mixed.round()).astype(np.uint8)


def _targets(images: list[Path], out: Path, *, overwrite: bool) -> dict[Path, Path]:
    names = Counter(Path(path).stem for path in images)
    if doubled := [name for name, count in names.items() if count > 1]:
        raise WeaksegError(f"two photos are named {doubled[0]}; their results would have one name. Rename one")
    targets = {Path(path): out / f"{Path(path).stem}.png" for path in images}
    photos = {path.resolve() for path in targets}
    for path, target in targets.items():
        if not path.is_file():
            raise WeaksegError(f"{path}: no such photo")
        for result in (target, _overlay_path(target)):
            if result.resolve() in photos:
                raise WeaksegError(f"{result}: a result of {path} would replace this photo; choose another --out")
            if result.exists() and not overwrite:
                raise WeaksegError(f"{result}: there is a file of this name; pass --overwrite or choose another --out")
    return targets


def _overlay_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}_overlay.jpg")
