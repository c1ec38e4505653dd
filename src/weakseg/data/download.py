"""Fetching PASCAL VOC 2012 and the SBD labels, checked, and joining them in the VOC layout."""

import hashlib
import io
import json
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from pydantic import Field, TypeAdapter, ValidationError
from scipy.io import loadmat
from tqdm import tqdm

from weakseg.config import Strict
from weakseg.data.splits import held_out_ids
from weakseg.data.voc import write_index_png
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, atomic_write_text

TIMEOUT_S = 60
"""Seconds without an answer after which an address is given up."""


class Archive(Strict):
    """An archive of a data set: a row of `datasets.yaml`."""

    version: str = Field(description="Release of the data set.")
    file: str = Field(pattern=r"^[\w.-]+$", description="File name of the archive.")
    md5: str = Field(pattern=r"^[0-9a-f]{32}$", description="MD5 of the archive, as published.")
    addresses: tuple[str, ...] = Field(min_length=1, description="Where it lies; the first that works is taken.")
    licence: str = Field(description="Terms of use, and what to cite.")
    expected: dict[str, int] = Field(default_factory=dict, description="Lengths of the lists made from it.")


def load_datasets(path: str | Path = "config/datasets.yaml") -> dict[str, Archive]:
    """Read the archives by name.

    Raises:
        WeaksegError: no such file, or fields that cannot be used.
    """
    try:
        rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Archive]).validate_python(rows)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; run from the project's root") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise WeaksegError(f"{path}: cannot be used: {error}") from error


def fetch(archive: Archive, folder: str | Path, *, timeout_s: float = TIMEOUT_S) -> Path:
    """The archive's file in `folder`, fetched if it is not there; its checksum is right.

    What an interrupted transfer left (`{file}.partial`) is continued where the server allows it.

    Raises:
        WeaksegError: a file with another checksum is in the way, or no address gives the right one; the message says
            how to bring the file by hand.
    """
    target = Path(folder) / archive.file
    if target.exists():
        if (found := _md5(target)) != archive.md5:
            raise WeaksegError(
                f"{target}: its MD5 is {found}, {archive.version} has {archive.md5}; delete the file and run again"
            )
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    failures = []
    for address in archive.addresses:
        try:
            _transfer(address, partial, timeout_s)
        except (OSError, urllib.error.URLError, ValueError) as error:  # offline, refused, broken off
            failures.append(f"{address}: {error}")
            continue
        if (found := _md5(partial)) == archive.md5:
            partial.rename(target)
            return target
        partial.unlink()
        failures.append(f"{address}: came with MD5 {found} in place of {archive.md5}")
    raise WeaksegError(
        f"{target}: cannot be fetched.\n  "
        + "\n  ".join(failures)
        + "\nWithout a connection, fetch the file elsewhere "
        f"(from one of these addresses), put it at {target} and run again; or set dataset.source to `path` in the "
        "study and dataset.path to a folder in the VOC layout"
    )


def _transfer(address: str, partial: Path, timeout_s: float) -> None:
    """Append to `partial` what it lacks, or write it anew where the server knows no ranges."""
    begun = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # nothing beyond what is there: the checksum will tell
            return
        raise
    with answer:
        continued = getattr(answer, "status", None) == 206
        length = int(answer.headers.get("Content-Length") or 0)
        with (
            open(partial, "ab" if continued else "wb") as out,
            tqdm(desc=partial.stem, total=length or None, unit="B", unit_scale=True, mininterval=2) as bar,
        ):
            received = 0
            while block := answer.read(1 << 20):
                out.write(block)
                received += len(block)
                bar.update(len(block))
    if length and received < length:
        raise OSError(f"broken off after {received} of {length} bytes; what came is kept")


def _md5(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download_voc(folder: str | Path, datasets: str | Path = "config/datasets.yaml") -> Path:
    """Fetch VOC 2012 and SBD to `folder`/downloads and join them in the VOC layout at `folder`/voc.

    `train_aug` is (SBD and VOC train) without VOC val. Its masks are those of SBD, over which VOC's own are written
    where they exist, so that train and val keep VOC's labels and void borders.

    Returns:
        The root of the VOC layout; what is complete there is kept.

    Raises:
        WeaksegError: an archive cannot be fetched or read, the lists have unexpected lengths, or another folder is in
            the way.
    """
    archives = load_datasets(datasets)
    if missing := {"voc2012", "sbd"} - set(archives):
        raise WeaksegError(f"{datasets}: no archive named {min(missing)}")
    folder = Path(folder)
    root = folder / "voc"
    made_of = {name: archives[name].md5 for name in ("voc2012", "sbd")}
    marker = root / "downloaded.json"
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == made_of:
        return root
    if root.exists():
        raise WeaksegError(f"{root}: in the way, and not made from these archives; move it elsewhere and run again")
    files = {name: fetch(archives[name], folder / "downloads") for name in made_of}
    part = root.with_name(".voc.partial")
    shutil.rmtree(part, ignore_errors=True)
    expected = {**archives["voc2012"].expected, **archives["sbd"].expected}
    join_voc_and_sbd(files["voc2012"], files["sbd"], part, expected)
    atomic_write_json(part / marker.name, made_of)
    part.rename(root)
    return root


_VOC_MEMBER = re.compile(
    r"(?:.*/)?VOC2012/(JPEGImages|SegmentationClass|SegmentationObject|Annotations|ImageSets/Segmentation)/([\w.-]+)"
)
_SBD_MEMBER = re.compile(r"(?:.*/)?dataset/(cls|inst)/([\w.-]+)\.mat")


def join_voc_and_sbd(voc_tar: Path, sbd_tar: Path, root: Path, expected: dict[str, int]) -> None:
    """Write a folder in the VOC layout from the two archives.

    Args:
        voc_tar, sbd_tar: the archives.
        root: a folder that does not exist yet.
        expected: lengths of lists, by name.

    Raises:
        WeaksegError: an archive that cannot be read, or lists of other lengths.
    """
    for name in ("JPEGImages", "SegmentationClassAug", "SegmentationObject", "Annotations"):
        (root / name).mkdir(parents=True)
    sbd_ids = _unpack_sbd(sbd_tar, root)
    train, val = _unpack_voc(voc_tar, root)
    train_aug = sorted((sbd_ids | set(train)) - set(val))
    lists = {
        "train": sorted(train),
        "val": sorted(val),
        "trainval": sorted({*train, *val}),
        "train_aug": train_aug,
        "trainval_aug": sorted({*train_aug, *val}),
        "crf_val": held_out_ids(val),
    }
    for name, length in expected.items():
        if len(lists[name]) != length:
            raise WeaksegError(
                f"{voc_tar}, {sbd_tar}: {name} has {len(lists[name])} images in place of {length}; the archives are of "
                "another release"
            )
    wanted = {*train_aug, *val}
    for photo in (root / "JPEGImages").iterdir():  # VOC holds photos for its other tasks too
        if photo.stem not in wanted:
            photo.unlink()
    for name, ids in lists.items():
        atomic_write_text(root / "ImageSets" / "Segmentation" / f"{name}.txt", "\n".join(ids) + "\n")


def _unpack_sbd(path: Path, root: Path) -> set[str]:
    """SBD's masks as palette PNGs; the ids of its images."""
    ids = set()
    targets = {
        "cls": ("GTcls", root / "SegmentationClassAug"),
        "inst": ("GTinst", root / "SegmentationObject"),
    }
    for match, content in _members(path, _SBD_MEMBER):
        kind, image_id = match.groups()
        variable, folder = targets[kind]
        try:
            labels = loadmat(io.BytesIO(content))[variable]["Segmentation"][0, 0]
        except (KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            raise WeaksegError(f"{path}: {match.group(0)} holds no {variable}.Segmentation ({error})") from error
        write_index_png(folder / f"{image_id}.png", np.asarray(labels, dtype=np.uint8))
        if kind == "cls":
            ids.add(image_id)
    if not ids:
        raise WeaksegError(f"{path}: no dataset/cls/*.mat inside; this is not the SBD archive")
    return ids


def _unpack_voc(path: Path, root: Path) -> tuple[list[str], list[str]]:
    """VOC's photos, boxes and masks (over SBD's); its train and val lists."""
    lists: dict[str, list[str]] = {}
    masks = {"SegmentationClass": "SegmentationClassAug"}
    for match, content in _members(path, _VOC_MEMBER):
        kind, name = match.groups()
        if kind == "ImageSets/Segmentation":
            lists[name.removesuffix(".txt")] = content.decode("utf-8").split()
        else:
            (root / masks.get(kind, kind) / name).write_bytes(content)
    if not {"train", "val"} <= set(lists):
        raise WeaksegError(f"{path}: no ImageSets/Segmentation/train.txt and val.txt inside; this is not VOC 2012")
    return lists["train"], lists["val"]


def _members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """The archive's files whose whole name matches, one after the other, with their content.

    Targets are built from the matched plain file names alone, so no member can write outside.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in tqdm(archive, desc=f"unpack {path.name}", unit="file", mininterval=2):
                match = pattern.fullmatch(member.name)
                if match and member.isfile():
                    stream = archive.extractfile(member)
                    yield match, stream.read() if stream else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise WeaksegError(f"{path}: not a readable archive ({error}); delete it and run again") from error
