"""Reading a folder in the VOC layout: photos, index masks and lists; every fault names its file."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.labels import IGNORE, NUM_LABELS, palette


class VocFolder:
    """A folder with JPEGImages, SegmentationClassAug (or SegmentationClass) and ImageSets/Segmentation."""

    def __init__(self, root: str | Path) -> None:
        """Open a folder.

        Raises:
            WeaksegError: a sub-folder of the layout is missing.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise WeaksegError(f"{self.root}: no such folder; dataset.path must be a folder in the VOC layout")
        masks = [self.root / name for name in ("SegmentationClassAug", "SegmentationClass")]
        self.mask_folder = next((folder for folder in masks if folder.is_dir()), masks[0])
        for folder in (self.root / "JPEGImages", self.mask_folder, self.root / "ImageSets" / "Segmentation"):
            if not folder.is_dir():
                raise WeaksegError(
                    f"{folder}: no such folder; the VOC layout needs JPEGImages, SegmentationClassAug (or "
                    "SegmentationClass) and ImageSets/Segmentation"
                )

    def list_path(self, name: str) -> Path:
        """The file of a list."""
        return self.root / "ImageSets" / "Segmentation" / f"{name}.txt"

    def has_list(self, name: str) -> bool:
        """Whether the list's file is there."""
        return self.list_path(name).is_file()

    def ids(self, name: str) -> list[str]:
        """The image ids of a list, in the file's order.

        Raises:
            WeaksegError: no such list, an empty one, or an id that stands in it twice.
        """
        path = self.list_path(name)
        try:
            ids = path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            raise WeaksegError(f"{path}: no such list; write one image id a line (without suffix)") from None
        if not ids:
            raise WeaksegError(f"{path}: the list is empty; write one image id a line (without suffix)")
        if len(set(ids)) < len(ids):
            doubled = next(image_id for image_id in ids if ids.count(image_id) > 1)
            raise WeaksegError(f"{path}: image {doubled} stands in the list twice; remove one")
        return ids

    def image_path(self, image_id: str) -> Path:
        """The photo's file."""
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def mask_path(self, image_id: str) -> Path:
        """The index mask's file."""
        return self.mask_folder / f"{image_id}.png"

    def instance_path(self, image_id: str) -> Path:
        """The instance mask's file, which a folder may lack."""
        return self.root / "SegmentationObject" / f"{image_id}.png"

    def annotation_path(self, image_id: str) -> Path:
        """The XML file with the image's boxes, which a folder may lack."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def image(self, image_id: str) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB."""
        return read_image(self.image_path(image_id))

    def labels(self, image_id: str) -> np.ndarray:
        """The label map, (H, W) uint8, 0..20 and 255."""
        return read_index_png(self.mask_path(image_id))

    def instances(self, image_id: str) -> np.ndarray | None:
        """The instance map, (H, W) uint8, 0 background, 255 void; None where the folder has none."""
        path = self.instance_path(image_id)
        return _read_png(path) if path.is_file() else None

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo, read from its header."""
        path = self.image_path(image_id)
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except (FileNotFoundError, UnidentifiedImageError) as error:
            raise WeaksegError(f"{path}: missing or not a JPEG ({error})") from error
        return height, width

    def check(self, lists: Iterable[str], *, threads: int = 4) -> dict[str, np.ndarray]:
        """Read every photo and mask of the lists whole and hold one against the other.

        Returns:
            For each image id the labels present, (L+1,) bool.

        Raises:
            WeaksegError: missing pair, wrong size, RGB mask, label out of range, truncated JPEG; the first five
                faults are named, with their number.
        """
        ids = list(dict.fromkeys(image_id for name in lists for image_id in self.ids(name)))
        with ThreadPoolExecutor(threads) as pool:
            checked = list(pool.map(self._check_pair, ids))
        faults = [fault for fault in checked if isinstance(fault, str)]
        if faults:
            raise WeaksegError(f"{self.root}: {len(faults)} faulty image(s):\n  " + "\n  ".join(faults[:5]))
        return {i: present for i, present in zip(ids, checked, strict=True) if isinstance(present, np.ndarray)}

    def _check_pair(self, image_id: str) -> np.ndarray | str:
        try:
            image, labels = self.image(image_id), self.labels(image_id)
        except WeaksegError as error:
            return str(error)
        if image.shape[:2] != labels.shape:
            return (
                f"{self.mask_path(image_id)}: mask is {labels.shape[1]}x{labels.shape[0]}, its photo "
                f"{image.shape[1]}x{image.shape[0]}; they must have one size"
            )
        return np.bincount(labels.reshape(-1), minlength=NUM_LABELS)[:NUM_LABELS] > 0


def read_image(path: str | Path) -> np.ndarray:
    """A photo as (H, W, 3) uint8 RGB.

    Raises:
        WeaksegError: missing, not an image, or truncated.
    """
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such photo; add it or take its id out of the list") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise WeaksegError(f"{path}: not a readable image, perhaps truncated ({error}); replace it") from error


def _read_png(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise WeaksegError(
                    f"{path}: mode {picture.mode}; masks must be palette or grey PNGs whose values are the labels"
                )
            return np.array(picture)
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such mask; add it or take its id out of the list") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise WeaksegError(f"{path}: not a readable PNG ({error}); replace it") from error


def read_index_png(path: str | Path) -> np.ndarray:
    """A label map as (H, W) uint8: palette indices, not colours.

    Raises:
        WeaksegError: missing, unreadable, not an index PNG, or a value that is neither 0..20 nor 255.
    """
    labels = _read_png(Path(path))
    counts = np.bincount(labels.reshape(-1), minlength=256)
    if counts[NUM_LABELS:IGNORE].any():
        value = NUM_LABELS + int(counts[NUM_LABELS:IGNORE].argmax())
        raise WeaksegError(f"{path}: label {value} is out of range; 0..{NUM_LABELS - 1} and {IGNORE} (void) are known")
    return labels


def write_index_png(path: str | Path, labels: np.ndarray) -> None:
    """Write a label map (H, W) uint8 as a palette PNG in VOC colours, in one step."""
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8), mode="P")
    picture.putpalette(palette().reshape(-1).tolist())
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
