"""Reading a folder in the VOC layout: photos, and what annotation of them it holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from weakseg.data.boxes import Box
from weakseg.data.images import is_turned, photo_size, read_index_png, read_photo, read_png
from weakseg.data.tag_files import read_tags
from weakseg.data.voc_xml import boxes_from_xml
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet

TAG_FILE = "image_labels.csv"
"""File of a folder that holds image-level labels by hand."""


class VocFolder:
    """A data set in the VOC layout: JPEGImages and ImageSets/Segmentation, and any of the rest.

    Pixel labels lie in SegmentationClassAug or SegmentationClass, instance masks in SegmentationObject, boxes in
    Annotations, image-level labels in `image_labels.csv`. An image may have any of them, or none.
    """

    def __init__(
        self,
        root: str | Path,
        labels: LabelSet = VOC,
        lists: Mapping[str, Sequence[str]] | None = None,
        tag_file: str | Path | None = None,
        test_photos: str | Path | None = None,
    ) -> None:
        """Open a folder.

        Args:
            root: the folder.
            labels: what its labels mean.
            lists: image ids by what they are for, as `ids` gives them.
            tag_file: image-level labels, in place of the folder's own file.
            test_photos: another folder with photos that this one lacks, and with their list.

        Raises:
            WeaksegError: the folder, its photos or its lists are missing.
        """
        self.root, self.labels, self.lists = Path(root), labels, dict(lists or {})
        if not self.root.is_dir():
            raise WeaksegError(f"{self.root}: no such folder; dataset.path must be a folder in the VOC layout")
        for folder in (self.root / "JPEGImages", self.root / "ImageSets" / "Segmentation"):
            if not folder.is_dir():
                raise WeaksegError(
                    f"{folder}: no such folder; the VOC layout needs JPEGImages and ImageSets/Segmentation, and of "
                    "SegmentationClassAug, SegmentationObject, Annotations and image_labels.csv what there is"
                )
        masks = [self.root / name for name in ("SegmentationClassAug", "SegmentationClass")]
        self.mask_folder = next((folder for folder in masks if folder.is_dir()), masks[0])
        if tag_file is not None and not Path(tag_file).is_file():
            raise WeaksegError(f"{tag_file}: no such file; dataset.image_labels must name a CSV of image-level labels")
        self.tag_file = Path(tag_file) if tag_file is not None else self.root / TAG_FILE
        self._tags: dict[str, np.ndarray] | None = None
        self.test_photos = None if test_photos is None else Path(test_photos)

    def list_path(self, name: str) -> Path:
        """The file of a list; where the folder has none of this name, that of the other folder with photos."""
        return self._first(Path("ImageSets", "Segmentation", f"{name}.txt"))

    def _first(self, name: Path) -> Path:
        """A file of the folder, or of the other one if that has it alone."""
        own = self.root / name
        if self.test_photos is None or own.is_file() or not (other := self.test_photos / name).is_file():
            return own
        return other

    def read_list(self, name: str) -> list[str] | None:
        """The image ids of a list, in the file's order; None where there is no such list.

        Raises:
            WeaksegError: not UTF-8, an empty list, or an id that stands in it twice.
        """
        path = self.list_path(name)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise WeaksegError(f"{path}: not UTF-8 text ({error}); save it in this encoding") from error
        if "\0" in text:  # UTF-16 of plain letters can be read as UTF-8
            raise WeaksegError(f"{path}: not UTF-8 text (it holds zero bytes); save it in this encoding")
        ids = text.split()
        if not ids:
            raise WeaksegError(f"{path}: the list is empty; write one image id a line (without suffix)")
        if len(set(ids)) < len(ids):
            doubled = next(image_id for image_id in ids if ids.count(image_id) > 1)
            raise WeaksegError(f"{path}: image {doubled} stands in the list twice; remove one")
        return ids

    def ids(self, role: str) -> list[str]:
        """The image ids that are there for `pixel_labelled`, `training`, `evaluation`, `held_out` or `test`."""
        return list(self.lists.get(role, ()))

    def image_path(self, image_id: str) -> Path:
        """The photo's file."""
        return self._first(Path("JPEGImages", f"{image_id}.jpg"))

    def mask_path(self, image_id: str) -> Path:
        """The file of the pixel labels, which an image may lack."""
        return self.mask_folder / f"{image_id}.png"

    def instance_path(self, image_id: str) -> Path:
        """The instance mask's file, which an image may lack."""
        return self.root / "SegmentationObject" / f"{image_id}.png"

    def annotation_path(self, image_id: str) -> Path:
        """The XML file with the image's boxes, which an image may lack."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def image(self, image_id: str) -> np.ndarray:
        """The photo, (H, W, 3) uint8 RGB."""
        return read_photo(self.image_path(image_id))

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo, read from its header."""
        return photo_size(self.image_path(image_id))

    def has_pixel_labels(self, image_id: str) -> bool:
        """Whether the image has pixel labels."""
        return self.mask_path(image_id).is_file()

    def pixel_labels(self, image_id: str) -> np.ndarray:
        """The label map, (H, W) uint8, 0..L and 255.

        Raises:
            WeaksegError: there is none, it cannot be used, or it has another size than the photo.
        """
        values = read_index_png(self.mask_path(image_id), self.labels)
        self._same_size(image_id, self.mask_path(image_id), values)
        return values

    def instances(self, image_id: str) -> np.ndarray | None:
        """The instance map, (H, W) uint8, 0 background, 255 void; None where there is none."""
        path = self.instance_path(image_id)
        if not path.is_file():
            return None
        values = read_png(path)
        self._same_size(image_id, path, values)
        return values

    def boxes(self, image_id: str) -> list[Box] | None:
        """The boxes of the XML annotation; None where there is none."""
        path = self.annotation_path(image_id)
        return boxes_from_xml(path, self.size(image_id), self.labels) if path.is_file() else None

    def tags(self, image_id: str) -> np.ndarray | None:
        """Image-level labels written by hand, (L+1,) bool; None where there are none."""
        return self.tagged().get(image_id)

    def tagged(self) -> dict[str, np.ndarray]:
        """All image-level labels written by hand, also of images that no list names."""
        if self._tags is None:
            self._tags = read_tags(self.tag_file, self.labels) if self.tag_file.is_file() else {}
        return self._tags

    def files(self, image_id: str) -> dict[str, Path]:
        """The files that say something of an image, by kind: photo, mask, instances, boxes; those that are there."""
        paths = {
            "photo": self.image_path(image_id),
            "mask": self.mask_path(image_id),
            "instances": self.instance_path(image_id),
            "boxes": self.annotation_path(image_id),
        }
        return {kind: path for kind, path in paths.items() if path.is_file()}

    def shared_files(self, lists: Sequence[str]) -> dict[str, Path]:
        """The files that say something of many images: the lists, by name, and the image-level labels."""
        paths = {f"list {name}": self.list_path(name) for name in lists} | {"tags": self.tag_file}
        return {kind: path for kind, path in paths.items() if path.is_file()}

    def _same_size(self, image_id: str, path: Path, values: np.ndarray) -> None:
        size = self.size(image_id)
        if values.shape != size:
            photo = self.image_path(image_id)
            turned = (
                "; the photo's EXIF data turns it, and a mask must fit the turned photo" if is_turned(photo) else ""
            )
            raise WeaksegError(
                f"{path}: mask is {values.shape[1]}x{values.shape[0]}, its photo {size[1]}x{size[0]}; they must have "
                f"one size{turned}"
            )
