"""MS-COCO as people have it, converted once into the VOC layout that everything else reads.

Labels are the raw category ids 1..90 (`weakseg.labels.COCO`), 0 is the background and 255 void. An image's label map is
painted from its annotations:

- a crowd is void wherever no other object is, for its outline holds gaps that nobody drew;
- other objects are painted from large to small, so that a smaller one wins where two overlap, as in Bbox-Rect; of two
  of equal area the later one wins;
- an image without annotations is background everywhere. MS-COCO has looked for all 80 classes in every image, so that
  this is knowledge, and the 123,287 images of 2014 are those that the paper counts.

An image is known by its number, twelve digits long: `COCO_train2014_000000000009.jpg` of 2014 and `000000000009.jpg` of
2017 are one image. Masks are decoded by pycocotools.
"""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO as CocoApi

from weakseg.data.contents import FileFact, read_facts
from weakseg.data.images import is_turned, photo_size, write_index_png
from weakseg.data.transfer import locked
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json, atomic_write_text, replace_folder, sha256_file
from weakseg.labels import BACKGROUND, COCO, IGNORE
from weakseg.parallel import parallel_map

LAYOUT = 1
"""Counted up when the conversion writes something else from the same annotation."""

PAIRS = (
    ("annotations/instances_train2014.json", "annotations/instances_val2014.json"),
    ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    ("annotations/instances.json",),
)
"""Files of annotation that a folder may hold; the first of these sets that is there is taken."""

PHOTO_FOLDERS = ("train2014", "val2014", "train2017", "val2017", "images")
"""Folders in which photos are looked for, in this order."""

_PHOTO_NAME = re.compile(r"(?:COCO_(?:train|val)\d{4}_)?(\d{12})\.jpg")
"""Name of a photo in 2014 or in 2017, with its number."""

_FAULTS_SHOWN = 5

Annotation = Mapping[str, Any]
"""An annotation or an image as the JSON file has it."""


def annotation_files(folder: str | Path, names: Sequence[str] | None = None) -> dict[str, Path]:
    """The files of annotation of a folder of MS-COCO, by their place in it.

    Args:
        folder: as people have it.
        names: the files to take, relative to the folder; None: the first of `PAIRS` that is there.

    Raises:
        WeaksegError: no such folder, or a file that is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise WeaksegError(f"{folder}: no such folder; dataset.path must be a folder with MS-COCO's annotations")
    if names is None:
        found = next((pair for pair in PAIRS if any((folder / name).is_file() for name in pair)), None)
        if found is None:
            raise WeaksegError(
                f"{folder / PAIRS[0][0]}: no such file, nor {', '.join(pair[0] for pair in PAIRS[1:])}; put MS-COCO's "
                "annotation of instances there, or name the files in dataset.annotations"
            )
        names = found
    for name in names:
        if not (folder / name).is_file():
            raise WeaksegError(
                f"{folder / name}: no such file; add it, or name the files that there are in dataset.annotations"
            )
    return {name: folder / name for name in names}


def photo_files(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """The photos of a folder of MS-COCO in the order of `PHOTO_FOLDERS`, in each by name."""
    for name in PHOTO_FOLDERS:
        place = Path(folder).absolute() / name
        if place.is_dir():
            with os.scandir(place) as entries:
                yield from sorted((e for e in entries if e.name.endswith(".jpg")), key=lambda entry: entry.name)


class Photos:
    """The photos of a folder of MS-COCO, found by the name that the annotation gives them, or by the other year's."""

    def __init__(self, folder: str | Path) -> None:
        """Note the names of all photos.

        Raises:
            WeaksegError: the folder has no photos.
        """
        self.folder = Path(folder)
        self._by_name: dict[str, str] = {}
        self._by_number: dict[str, str] = {}
        for entry in photo_files(folder):
            self._by_name.setdefault(entry.name, entry.path)
            if match := _PHOTO_NAME.fullmatch(entry.name):
                self._by_number.setdefault(match[1], entry.path)
        if not self._by_name:
            raise WeaksegError(f"{folder}: no photos (*.jpg) in {', '.join(PHOTO_FOLDERS)}; put them into one of these")

    def find(self, file_name: str) -> Path | None:
        """The photo of this name, else the one with its number; None where there is none."""
        name = file_name.rsplit("/", 1)[-1]
        found = self._by_name.get(name)
        if found is None and (match := _PHOTO_NAME.fullmatch(name)):
            found = self._by_number.get(match[1])
        return None if found is None else Path(found)


class Recipe(NamedTuple):
    """What a converted folder was made of."""

    folder: str
    """The folder of MS-COCO, absolute."""
    annotations: dict[str, FileFact]
    """Its files of annotation, by their place in it."""

    def same(self, other: "Recipe | None") -> bool:
        """Whether another one gives the same conversion; dates of the files are nothing."""
        return other is not None and (self.folder, self._hashes()) == (other.folder, other._hashes())

    def _hashes(self) -> dict[str, str]:
        return {name: fact.sha256 for name, fact in self.annotations.items()}


def read_recipe(converted: str | Path) -> Recipe | None:
    """What a converted folder was made of; None where it is not there, not whole, or of another version."""
    try:
        read = json.loads(_recipe_path(Path(converted)).read_text(encoding="utf-8"))
        facts = {name: FileFact(int(s), int(m), str(h)) for name, (s, m, h) in read["annotations"].items()}
        return Recipe(str(read["folder"]), facts) if read["layout"] == LAYOUT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _recipe_path(converted: Path) -> Path:
    return converted / "recipe.json"


def convert_coco(
    folder: str | Path, converted: str | Path, annotations: Sequence[str] | None = None, *, processes: int = 1
) -> None:
    """Write the VOC layout of a folder of MS-COCO, unless it is there already and made of the same annotation.

    It gets `JPEGImages` (links to the photos, which are neither copied nor read whole), `SegmentationClassAug`, and in
    `ImageSets/Segmentation` the list `train_aug` of all images and one of each file of annotation, named after it
    (`instances_val2014.json`: `val2014`). It has another name until it is whole; label maps that an interrupted
    conversion left are kept.

    Args:
        folder: as people have it.
        converted: the folder to write.
        annotations: see `annotation_files`.
        processes: that paint label maps.

    Raises:
        WeaksegError: a file is missing, is no annotation of instances, or has something that cannot be used; photos
            that are missing or have another size than the annotation says. It is named.
    """
    folder, converted = Path(folder).absolute(), Path(converted)
    files = annotation_files(folder, annotations)
    converted.parent.mkdir(parents=True, exist_ok=True)
    with locked(converted):
        before = read_recipe(converted)
        recipe = Recipe(str(folder), read_facts(files, before.annotations if before else {}))
        if recipe.same(before) and all(link.exists() for link in _links(converted)):
            return
        part = converted.with_name(f".{converted.name}.partial")
        if not recipe.same(read_recipe(part)):
            shutil.rmtree(part, ignore_errors=True)
            facts = {name: [f.size, f.mtime_ns, f.sha256] for name, f in recipe.annotations.items()}
            atomic_write_json(_recipe_path(part), {"layout": LAYOUT, "folder": recipe.folder, "annotations": facts})
        photos = Photos(folder)
        lists: dict[str, list[str]] = {}
        taken: dict[str, Path] = {}
        for path in files.values():
            ids = _convert_file(path, photos, part, processes)
            if doubled := next((image_id for image_id in ids if image_id in taken), None):
                raise WeaksegError(
                    f"{path}: image {int(doubled)} is in {taken[doubled]} too; name one of them in dataset.annotations"
                )
            taken |= dict.fromkeys(ids, path)
            lists.setdefault(path.stem.removeprefix("instances_"), []).extend(ids)
        lists["train_aug"] = list(taken)
        for name, ids in lists.items():
            text = "".join(f"{image_id}\n" for image_id in sorted(ids))
            atomic_write_text(part / "ImageSets" / "Segmentation" / f"{name}.txt", text)
        replace_folder(part, converted)


def _links(converted: Path) -> Iterator[Path]:
    return (converted / "JPEGImages").glob("*.jpg")


def linked_photos(converted: str | Path) -> dict[str, str]:
    """Image id by the absolute path of its photo, for a converted folder; empty where there is none."""
    return {os.readlink(link): link.stem for link in _links(Path(converted)) if link.is_symlink()}


def _convert_file(path: Path, photos: Photos, part: Path, processes: int) -> list[str]:
    """Write label maps and links of one file's images; their ids, sorted.

    No other file's content is in memory meanwhile, and processes are sent the annotations of one image at a time.
    """
    coco = read_instances(path)
    found = {number: photos.find(image["file_name"]) for number, image in coco.imgs.items()}
    if missing := sorted(image["file_name"] for number, image in coco.imgs.items() if found[number] is None):
        raise WeaksegError(
            f"{photos.folder / missing[0]}: no such photo in any of {', '.join(PHOTO_FOLDERS)}, nor under its name of "
            f"another year; {len(missing)} of the {len(coco.imgs)} photos of {path} are missing. Add them"
        )
    links, maps = part / "JPEGImages", part / "SegmentationClassAug"
    links.mkdir(exist_ok=True)
    maps.mkdir(exist_ok=True)
    ids = {number: f"{number:012d}" for number in sorted(coco.imgs)}
    items = []
    for number, image_id in ids.items():
        _link(links / f"{image_id}.jpg", str(found[number]))
        if not (target := maps / f"{image_id}.png").exists():
            items.append((image_id, str(path), coco.imgs[number], coco.imgToAnns[number], str(found[number]), target))
    empty = sum(not coco.imgToAnns[number] for number in ids)
    print(
        f"{path}: {len(ids)} images, {empty} of them without annotations, which are background; {len(coco.anns)} "
        f"annotations, {sum(bool(one.get('iscrowd')) for one in coco.anns.values())} of crowds, which are void"
    )
    painted = parallel_map(_write_label_map, items, processes=processes, description=f"label maps, {path.name}")
    if faults := [fault for fault in painted if fault is not None]:
        raise WeaksegError(f"{path}: {len(faults)} faulty image(s):\n  " + "\n  ".join(faults[:_FAULTS_SHOWN]))
    return list(ids.values())


def _link(link: Path, target: str) -> None:
    if link.is_symlink() and os.readlink(link) == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _write_label_map(item: tuple[str, str, Annotation, Sequence[Annotation], str, Path]) -> str | None:
    """Write an image's label map; what is wrong with it, or None."""
    _, path, image, annotations, photo, target = item
    try:
        height, width = photo_size(photo)
        if (height, width) != (image["height"], image["width"]):
            turned = (
                "; its EXIF data turns it, and the annotation must fit the turned photo" if is_turned(photo) else ""
            )
            return (
                f"{photo}: the photo is {width}x{height}, but {path} says {image['width']}x{image['height']}{turned}; "
                "take the photo that was annotated, as it was published"
            )
        write_index_png(target, label_map(image, annotations, path), COCO)
    except WeaksegError as error:
        return str(error)
    return None


def label_map(image: Annotation, annotations: Iterable[Annotation], path: str | Path) -> np.ndarray:
    """The label map of an image, (H, W) uint8, painted by the rules that the module's text gives.

    Args:
        image: `id`, `height` and `width`.
        annotations: of this image, each with `id`, `category_id`, `segmentation` and perhaps `iscrowd`.
        path: their file, for messages.

    Raises:
        WeaksegError: a segmentation that cannot be decoded; it is named.
    """
    coco = CocoApi()
    coco.imgs = {image["id"]: image}
    size = int(image["height"]), int(image["width"])
    crowds: list[tuple[int, int, Any]] = []
    objects: list[tuple[int, int, Any]] = []
    for one in annotations:
        try:
            rle = coco.annToRLE({**one, "image_id": image["id"], "segmentation": _checked(one, size)})
            area = int(rle_masks.area(rle))
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise WeaksegError(
                f"{path}: annotation {one.get('id')} of image {image['id']}: its segmentation cannot be decoded "
                f"({error}); take it out, or fetch the file again"
            ) from error
        (crowds if one.get("iscrowd") else objects).append((area, one["category_id"], rle))
    labels = np.full(size, BACKGROUND, dtype=np.uint8)
    for _, _, rle in crowds:
        labels[rle_masks.decode(rle) > 0] = IGNORE
    for _, label, rle in sorted(objects, key=lambda thing: -thing[0]):
        labels[rle_masks.decode(rle) > 0] = label
    return labels


def _checked(annotation: Annotation, size: tuple[int, int]) -> Any:
    """A segmentation that pycocotools can be given: of what it should not be it makes masks all the same.

    Polygons of one or two points have no area and are left out.

    Raises:
        ValueError: what is wrong with it.
    """
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != list(size):
            raise ValueError(f"its size is {segmentation['size']}, that of the image {list(size)}")
        counts = segmentation["counts"]
        runs = counts if isinstance(counts, list) else _runs(counts)
        if any(type(run) is not int or run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
            raise ValueError(f"its runs do not make up {size[0]} x {size[1]} pixels")
        return segmentation
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it has no polygon")
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not polygon:
            raise ValueError("a polygon must be a list of x, y, x, y, ...")
        if not np.isfinite(np.array(polygon, dtype=float)).all():
            raise ValueError("a polygon has a coordinate that is no number")
    shapes = [polygon for polygon in segmentation if len(polygon) >= 6]
    return shapes or {"size": list(size), "counts": [size[0] * size[1]]}


def _runs(text: str) -> list[int]:
    """The run lengths of a compressed segmentation, as pycocotools writes them.

    A number is a chain of characters from `0` on, five bits each, the lowest first; the sixth bit says that more come,
    and the fifth of the last is the sign. From the fourth on, a run is the difference to the one before the last.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - ord("0")
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} is no character of compressed runs")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("its runs break off")
    return runs


def read_instances(path: str | Path) -> CocoApi:
    """The annotation of instances in a file, indexed by pycocotools.

    Raises:
        WeaksegError: not JSON, other annotation than that of instances, categories that are not MS-COCO's, or an
            image or annotation that lacks a field or has one that cannot be used; it is named.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.load(stream)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; add MS-COCO's annotation of instances") from None
    except (ValueError, RecursionError) as error:
        raise WeaksegError(f"{path}: not JSON, perhaps truncated ({error}); fetch it again") from error
    lists = [content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations")]
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists) or not lists[0]:
        raise WeaksegError(
            f"{path}: not annotation in MS-COCO's format (lists `images` and `annotations`); take a file "
            "instances_*.json"
        )
    _check_categories(path, content.get("categories") or [])
    numbers = _check_images(path, content["images"])
    _check_annotations(path, content["annotations"], numbers)
    coco = CocoApi()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
        coco.createIndex()
    return coco


def _check_categories(path: Path, categories: Sequence[Annotation]) -> None:
    for row in categories:
        name = str(row.get("name"))
        number = _checked_category(path, row.get("id"), f"category {name!r}")
        if COCO.names[number].casefold() != name.strip().casefold():
            raise WeaksegError(
                f"{path}: category {number} is {name!r}, in MS-COCO it is {COCO.names[number]!r}; a data set with "
                "other classes can be read in the VOC layout (dataset.source: path)"
            )


def _checked_category(path: Path, number: Any, where: str) -> int:
    """A category id that is one of MS-COCO's."""
    if type(number) is not int or not 1 <= number < len(COCO) or number in COCO.unused:
        raise WeaksegError(
            f"{path}: {where}: category id {number} is not one of MS-COCO's (80 of 1..{len(COCO) - 1}); a data set "
            "with other classes can be read in the VOC layout (dataset.source: path)"
        )
    return number


def _check_images(path: Path, images: Sequence[Annotation]) -> set[int]:
    """The numbers of the images."""
    numbers: set[int] = set()
    for row in images:
        number, name = row.get("id"), row.get("file_name")
        if type(number) is not int or not 0 <= number < 10**12:
            raise WeaksegError(f"{path}: image id {number!r} is not a number of twelve digits at most; correct it")
        if number in numbers:
            raise WeaksegError(f"{path}: two images have the id {number}; take one out")
        if not isinstance(name, str) or not name:
            raise WeaksegError(f"{path}: image {number} has no file_name; add it")
        for field in ("height", "width"):
            if type(value := row.get(field)) is not int or value < 1:
                raise WeaksegError(f"{path}: image {number}: {field} {value!r} is not a number of pixels; correct it")
        numbers.add(number)
    return numbers


def _check_annotations(path: Path, annotations: Sequence[Annotation], numbers: set[int]) -> None:
    for row in annotations:
        where = f"annotation {row.get('id')}"
        if "id" not in row or "category_id" not in row or "segmentation" not in row:
            raise WeaksegError(
                f"{path}: {where} has no id, category_id or segmentation; take a file instances_*.json, not one of "
                "captions or boxes"
            )
        _checked_category(path, row["category_id"], where)
        if row.get("image_id") not in numbers:
            raise WeaksegError(f"{path}: {where} is of image {row.get('image_id')}, which is not there; take it out")


def folder_state(
    folder: str | Path, converted: str | Path, annotations: Sequence[str] | None, photos: Mapping[str, FileFact]
) -> list[list[str | int]]:
    """Place, size and date of the files of a folder of MS-COCO; those noted before where the content is the same.

    It is the same before and after the conversion. Nothing is read but a file that has another date and its old size.

    Args:
        folder: as people have it.
        converted: where its conversion is or will be.
        annotations: see `annotation_files`.
        photos: facts of photos by image id, as they were when they were last read.

    Raises:
        WeaksegError: as `annotation_files`.
    """
    folder = Path(folder).absolute()
    recipe = read_recipe(converted)
    noted = {} if recipe is None else {str(folder / name): fact for name, fact in recipe.annotations.items()}
    ids = linked_photos(converted)
    files = [str(path) for path in annotation_files(folder, annotations).values()]
    state: list[list[str | int]] = []
    for file in [*files, *(entry.path for entry in photo_files(folder))]:
        fact = photos.get(ids[file]) if file in ids else noted.get(file)
        try:
            status = os.stat(file)
        except FileNotFoundError:  # a broken link
            continue
        now = status.st_size, status.st_mtime_ns
        if fact is not None and now != (fact.size, fact.mtime_ns) and now[0] == fact.size:
            now = (fact.size, fact.mtime_ns) if sha256_file(file) == fact.sha256 else now
        state.append([os.path.relpath(file, folder), *now])
    return state
