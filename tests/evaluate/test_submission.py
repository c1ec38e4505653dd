"""The check of an archive for the server of PASCAL VOC finds each thing that the server would refuse."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from weakseg.errors import WeaksegError
from weakseg.evaluate.submission import FOLDER, check_submission
from weakseg.labels import VOC, voc_palette

SIZES = {"2008_000001": (5, 7), "2008_000002": (4, 6)}


class Photos:
    """What the check asks of a data set."""

    labels = VOC

    def size(self, image_id):
        return SIZES[image_id]


def png(size, *, label=3, mode="P", palette=None, kind="PNG"):
    image = Image.fromarray(np.full(size, label, dtype=np.uint8))
    if mode == "P":
        image.putpalette((voc_palette() if palette is None else palette).reshape(-1).tolist())
    stream = io.BytesIO()
    (image if mode in ("P", "L") else image.convert(mode)).save(stream, kind)
    return stream.getvalue()


def archive(path, maps):
    with tarfile.open(path, "w:gz") as packed:
        for name, content in maps.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return path


def right():
    return {str(FOLDER / f"{image_id}.png"): png(size) for image_id, size in SIZES.items()}


FIRST = str(FOLDER / "2008_000001.png")


def test_a_right_archive_passes(tmp_path):
    check_submission(archive(tmp_path / "a.tgz", right()), Photos(), list(SIZES))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({FIRST: None}, r"2008_000001\.png: missing"),
        ({str(FOLDER / "2008_000003.png"): png((5, 7))}, r"2008_000003\.png: belongs to no image of the test list"),
        ({"2008_000001.png": png((5, 7)), FIRST: None}, "2 fault"),
        ({FIRST: png((7, 5))}, "7 rows and 5 columns, its photo has 5 and 7"),
        ({FIRST: png((5, 7), label=255)}, "label 255; there are 0 to 20"),
        ({FIRST: png((5, 7), label=21)}, "label 21; there are 0 to 20"),
        ({FIRST: png((5, 7), mode="RGB")}, "a PNG of mode RGB, not a PNG with a palette"),
        ({FIRST: png((5, 7), mode="L")}, "a PNG of mode L, not a PNG with a palette"),
        ({FIRST: png((5, 7), kind="GIF")}, "a GIF of mode P, not a PNG"),
        ({FIRST: png((5, 7), palette=255 - voc_palette())}, "a palette of other colours"),
        ({FIRST: b"no image"}, r"2008_000001\.png: not an image"),
    ],
)
def test_each_fault_is_found(tmp_path, change, said):
    maps = {name: content for name, content in {**right(), **change}.items() if content is not None}
    with pytest.raises(WeaksegError, match=said):
        check_submission(archive(tmp_path / "a.tgz", maps), Photos(), list(SIZES))


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"no archive")
    with pytest.raises(WeaksegError, match=r"a\.tgz: not a \.tgz archive"):
        check_submission(tmp_path / "a.tgz", Photos(), list(SIZES))
