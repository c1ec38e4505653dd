"""Fetching PASCAL VOC 2012 and the SBD labels, joined in the VOC layout, or MS-COCO 2014, as it is; all checked."""

import io
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import Field, TypeAdapter, ValidationError
from scipy.io import loadmat
from tqdm import tqdm

from weakseg.config.dataset import ARCHIVES, Fetched
from weakseg.data.images import write_index_png
from weakseg.data.transfer import cache_folder, cache_writing, fetch, locked
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, atomic_write_text, fresh_folder, sha256_json
from weakseg.labels import VOC
from weakseg.strict import Strict

LAYOUT = 1
"""Counted up when `join_voc_and_sbd` or `unpack_coco` writes something else from the same archives."""


class Archive(Strict):
    """An archive of a data set: a row of `datasets.yaml`."""

    version: str = Field(description="Release of the data set.")
    file: str = Field(pattern=r"^[\w.-]+$", description="File name of the archive.")
    unpacked: str | None = Field(
        None, pattern=r"^[\w.-]+$", description="Its top folder, taken where it lies unpacked."
    )
    checksum: str = Field(
        pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$", description="Checksum of the archive, as published."
    )
    addresses: tuple[Annotated[str, Field(pattern="^https?://")], ...] = Field(
        min_length=1, description="Where it lies; the first that works is taken."
    )
    size_mb: int | None = Field(None, ge=1, description="Its size, 10^6 bytes; said before it is fetched.")
    licence: str = Field(description="Terms of use, and what to cite.")
    expected: dict[str, int] = Field(
        default_factory=dict, description="Lengths of the lists made from it; of MS-COCO, numbers of photos."
    )


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


def download_voc(
    folder: str | Path, datasets: str | Path = "config/datasets.yaml", cache: str | Path | None = None
) -> Path:
    """Fetch VOC 2012 and SBD and join them in the VOC layout, once for all studies.

    An archive, or its top folder unpacked, that lies in `folder`/downloads or in downloads of the cache is used as it
    is. `train_aug` is (SBD and VOC train) without VOC val. Its masks are those of SBD, over which VOC's own are written
    where they exist, so that train and val keep VOC's labels and void borders.

    Args:
        folder: the study's own folder of data.
        datasets: the archives.
        cache: see `weakseg.data.transfer.cache_folder`.

    Returns:
        The root of the VOC layout, in the cache; what is complete there is kept.

    Raises:
        WeaksegError: an archive cannot be fetched or read, the lists have unexpected lengths, another folder is in the
            way, or the cache cannot be written.
    """

    def join(sources: Mapping[str, Path], part: Path, expected: dict[str, int]) -> None:
        join_voc_and_sbd(sources["voc2012"], sources["sbd"], part, expected)

    return _download("voc", folder, datasets, cache, join)


def download_coco(
    folder: str | Path, datasets: str | Path = "config/datasets.yaml", cache: str | Path | None = None
) -> Path:
    """Fetch MS-COCO 2014 and unpack it as people have it, once for all studies.

    Archives, or the folders `annotations`, `train2014` and `val2014` unpacked from them, are used as in `download_voc`;
    to folders the result has links.

    Returns:
        The folder with `annotations`, `train2014` and `val2014`, in the cache.

    Raises:
        WeaksegError: as in `download_voc`.
    """
    return _download("coco", folder, datasets, cache, unpack_coco)


def _download(
    kind: Fetched,
    folder: str | Path,
    datasets: str | Path,
    cache: str | Path | None,
    make: Callable[[Mapping[str, Path], Path, dict[str, int]], None],
) -> Path:
    """The folder that `make` writes of the archives, or folders unpacked from them, in the cache."""
    archives = archives_of(kind, datasets)
    cache = cache_folder(cache)
    made_of = {name: archive.checksum for name, archive in archives.items()}
    root, marker = layout_of(archives, cache, kind)
    if marker.is_file():
        return root
    with cache_writing(cache), locked(root):
        if marker.is_file():  # another process was faster
            return root
        if root.exists():
            raise WeaksegError(f"{root}: in the way, and not complete; move it elsewhere and run again")
        places = download_places(folder, cache)
        sources = {name: _find_or_fetch(archives[name], places) for name in made_of}
        with fresh_folder(root) as part:
            make(sources, part, {name: n for archive in archives.values() for name, n in archive.expected.items()})
            made_of |= {name: f"{path}, unchecked" for name, path in sources.items() if path.is_dir()}
            atomic_write_json(part / marker.name, made_of)
    return root


def archives_of(kind: Fetched, datasets: str | Path) -> dict[str, Archive]:
    """The archives of which a data set is made, by name.

    Raises:
        WeaksegError: `datasets` cannot be read, or has not all of them.
    """
    archives = load_datasets(datasets)
    names = ARCHIVES[kind]
    if missing := set(names) - set(archives):
        raise WeaksegError(f"{datasets}: no archive named {min(missing)}")
    return {name: archives[name] for name in names}


def layout_of(archives: Mapping[str, Archive], cache: Path, kind: Fetched = "voc") -> tuple[Path, Path]:
    """What is made of these archives in a cache: its root, and the file that is there once it is complete."""
    made_of = {name: archive.checksum for name, archive in archives.items()}
    root = cache / f"{kind}-{sha256_json([LAYOUT, made_of])[:8]}"
    return root, root / "downloaded.json"


def download_places(folder: str | Path, cache: Path) -> tuple[Path, Path]:
    """Where archives are looked for, the study's own folder first; they are fetched to the last."""
    return Path(folder) / "downloads", cache / "downloads"


def find_archive(archive: Archive, places: Sequence[Path]) -> Path | None:
    """The archive, unchecked, or the folder unpacked from it, in the first of `places` that has one."""
    for place in places:
        for name in (archive.unpacked, archive.file):
            if name and (place / name).exists():
                return place / name
    return None


def _find_or_fetch(archive: Archive, places: Sequence[Path]) -> Path:
    """The archive, or the folder unpacked from it, in the first of `places` that has one, else fetched to the last."""
    found = find_archive(archive, places)
    if found is None:
        return fetch(places[-1] / archive.file, archive.addresses, archive.checksum)
    return found if found.is_dir() else fetch(found, (), archive.checksum)


_VOC_MEMBER = re.compile(
    r"(?:.*/)?VOC2012/(JPEGImages|SegmentationClass|SegmentationObject|Annotations|ImageSets/Segmentation)/([\w.-]+)"
)
_SBD_MEMBER = re.compile(r"(?:.*/)?dataset/(cls|inst)/([\w.-]+)\.mat")


def join_voc_and_sbd(voc_tar: Path, sbd_tar: Path, root: Path, expected: dict[str, int]) -> None:
    """Write a folder in the VOC layout from the two archives.

    Args:
        voc_tar, sbd_tar: the archives, or the folders unpacked from them.
        root: an empty folder.
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
        # NotImplementedError is how SciPy says that a file is of MATLAB 7.3, which it cannot read.
        except (KeyError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            raise WeaksegError(f"{path}: {match.group(0)} holds no {variable}.Segmentation ({error})") from error
        write_index_png(folder / f"{image_id}.png", np.asarray(labels, dtype=np.uint8), VOC)
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


_COCO_MEMBER = re.compile(r"(?:.*/)?(?:(annotations)/(instances_[\w.-]+\.json)|((?:train|val)2014)/([\w.-]+\.jpg))")


def unpack_coco(sources: Mapping[str, Path], root: Path, expected: dict[str, int]) -> None:
    """Write MS-COCO 2014 as people have it: `annotations`, `train2014` and `val2014`.

    Args:
        sources: the archives by name, or folders unpacked from them, to which there are links then.
        root: an empty folder.
        expected: numbers of photos, by folder.

    Raises:
        WeaksegError: an archive that cannot be read, or holds other things or another number of photos.
    """
    for path in sources.values():
        if path.is_dir():
            (root / path.name).symlink_to(path.absolute())
        else:
            _unzip(path, root)
    for name in ("annotations", *expected):
        if not (root / name).is_dir():
            raise WeaksegError(f"{', '.join(map(str, sources.values()))}: no folder {name} inside; is it MS-COCO 2014?")
    for name, number in expected.items():
        if (found := len(list((root / name).glob("*.jpg")))) != number:
            raise WeaksegError(
                f"{', '.join(map(str, sources.values()))}: {name} has {found} photos in place of {number}; the archive "
                "is of another release, or its folder not whole"
            )


def _unzip(path: Path, root: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in tqdm(archive.infolist(), desc=f"unpack {path.name}", unit="file", mininterval=2):
                if match := _COCO_MEMBER.fullmatch(member.filename):
                    folder, name = (group for group in match.groups() if group)
                    (root / folder).mkdir(exist_ok=True)
                    with archive.open(member) as stream, (root / folder / name).open("wb") as target:
                        shutil.copyfileobj(stream, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WeaksegError(f"{path}: not a readable archive ({error}); delete it and run again") from error


def _members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """The files of an archive, or of a folder unpacked from it, whose whole name matches, one after the other.

    Targets are built from the matched plain file names alone, so no member can write outside.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            match = pattern.fullmatch(f"{path.name}/{file.relative_to(path).as_posix()}")
            if match and file.is_file():
                yield match, file.read_bytes()
        return
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in tqdm(archive, desc=f"unpack {path.name}", unit="file", mininterval=2):
                match = pattern.fullmatch(member.name)
                if match and member.isfile():
                    stream = archive.extractfile(member)
                    yield match, stream.read() if stream else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise WeaksegError(f"{path}: not a readable archive ({error}); delete it and run again") from error
