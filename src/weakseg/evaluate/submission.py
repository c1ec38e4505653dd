"""A run's label maps of the test photos in an archive as the evaluation server of PASCAL VOC takes it, and its check.

Layout (VOC 2012 development kit, section 9.2.2): `results/VOC2012/Segmentation/comp6_test_cls/{id}.png`, one index PNG
with VOC's palette for every image of the test list, labels 0..L alone. comp6 is the competition for any training data;
networks here start from ImageNet and learn from SBD too, which comp5 does not allow.
"""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from weakseg.config import Experiment
from weakseg.data.dataset import DataSet, open_data
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.labels import LabelSet
from weakseg.paths import StudyPaths

FOLDER = PurePosixPath("results/VOC2012/Segmentation/comp6_test_cls")
"""Where the server looks for label maps."""

SHOWN_FAULTS = 5


def write_submission(experiment: Experiment, seed: int, paths: StudyPaths) -> None:
    """Pack the label maps with the CRF of a run of stage `test`, check the archive, and let it appear when it is right.

    The same label maps give the same bytes.

    Raises:
        WeaksegError: the run is of another stage or not evaluated, or a label map is not as the server wants it.
    """
    if experiment.stage != "test":
        raise WeaksegError(
            f"experiment {experiment.id}: it is scored on val; name one of `stage: test`, which labels test photos"
        )
    run, data = paths.run(experiment.id, seed), open_data(paths.manifest)
    folder = run.labels(crf=True)
    if not folder.is_dir():
        raise WeaksegError(f"{folder}: no such folder; run `weakseg evaluate --experiment {experiment.id}` first")
    with atomic_path(run.submission) as temporary:
        with (
            open(temporary, "wb") as stream,
            gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for path in sorted(folder.glob("*.png")):
                content = path.read_bytes()
                entry = tarfile.TarInfo(str(FOLDER / path.name))
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        check_submission(temporary, data, data.ids("test"))
    print(f"{run.submission}: {len(data.ids('test'))} label maps, every one as the server of PASCAL VOC takes it")


def check_submission(path: str | Path, data: DataSet, ids: list[str]) -> None:
    """Make sure that an archive holds just what the server expects.

    Args:
        path: the archive, .tgz.
        data: the data set, which knows the size of each photo and the labels.
        ids: the images of the test list.

    Raises:
        WeaksegError: not an archive; a label map is missing, too many, of another size or another palette, no index
            PNG, or holds a label beyond L (255 too). The first faults are named, with their number.
    """
    maps = _read(Path(path))
    wanted = {str(FOLDER / f"{image_id}.png"): image_id for image_id in ids}
    faults = [f"{name}: missing" for name in wanted if name not in maps]
    faults += [f"{name}: belongs to no image of the test list" for name in maps if name not in wanted]
    palette = data.labels.palette()
    for name, image_id in wanted.items():
        if name in maps and (fault := _fault(maps[name], data.size(image_id), data.labels, palette)):
            faults.append(f"{name}: {fault}")
    if faults:
        shown = "\n  ".join(faults[:SHOWN_FAULTS])
        raise WeaksegError(f"{path}: {len(faults)} fault(s) that the server would refuse:\n  {shown}")


def _read(path: Path) -> Mapping[str, bytes]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            files = [(entry.name, archive.extractfile(entry)) for entry in archive if entry.isfile()]
            return {name: stream.read() for name, stream in files if stream is not None}
    except (OSError, EOFError, tarfile.TarError) as error:
        raise WeaksegError(f"{path}: not a .tgz archive ({error}); make it again with `weakseg submission`") from error


def _fault(content: bytes, size: tuple[int, int], labels: LabelSet, palette: np.ndarray) -> str | None:
    """What is wrong with a label map, or None."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, UnidentifiedImageError) as error:
        return f"not an image ({error})"
    if image.format != "PNG" or image.mode != "P":
        return f"a {image.format} of mode {image.mode}, not a PNG with a palette"
    values = np.asarray(image)
    if values.shape != size:
        return f"{values.shape[0]} rows and {values.shape[1]} columns, its photo has {size[0]} and {size[1]}"
    if values.max(initial=0) >= len(labels):
        return f"label {values.max()}; there are 0 to {len(labels) - 1}"
    colours = np.asarray(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    if len(colours) < len(labels) or (colours[: len(labels)] != palette[: len(labels)]).any():
        return "a palette of other colours"
    return None
