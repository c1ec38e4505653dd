"""Reading pictures from files: photos as the network sees them, and index masks; every fault names its file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path
from weakseg.labels import LabelSet

_TURNED_BY_90 = (5, 6, 7, 8)
"""Values of EXIF's orientation that exchange height and width."""

_ORIENTATION = 0x0112


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """An open picture; whatever goes wrong while it is used becomes an error that names its file."""
    try:
        with Image.open(path) as picture:
            yield picture
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such {what}; add it or take its id out of the list") from None
    except Image.DecompressionBombError as error:
        raise WeaksegError(f"{path}: too large ({error}); scale it down") from error
    except MemoryError as error:
        raise WeaksegError(f"{path}: it does not fit in the memory that is left ({error}); scale it down") from error
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        raise WeaksegError(f"{path}: not a readable image, perhaps truncated ({error}); replace it") from error


def read_photo(path: str | Path) -> np.ndarray:
    """A photo as (H, W, 3) uint8 RGB, turned as its EXIF data says.

    Transparent pixels are laid over white. Grey photos of 16 bits a pixel are scaled by the bits that they use.

    Raises:
        WeaksegError: missing, not an image, truncated, too large, or of a kind without a known range of values (32-bit
            integers, floating point).
    """
    path = Path(path)
    with _opened(path, "photo") as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16") or (upright.mode == "I" and picture.format == "PNG"):
            upright = Image.fromarray(_to_eight_bits(np.asarray(upright)))
        elif upright.mode in ("I", "F"):
            raise WeaksegError(
                f"{path}: mode {upright.mode} (32 bits a pixel) has no known range of values; save it with 8 bits"
            )
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright)
        return np.array(upright.convert("RGB"))


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 bits as uint8, by the smallest number of bits (8 at least) that holds them all."""
    bits = max(8, int(values.max(initial=0)).bit_length())
    return (values.astype(np.float64) * 255 / (2**bits - 1)).round().astype(np.uint8)


def photo_size(path: str | Path) -> tuple[int, int]:
    """Height and width of a photo as `read_photo` gives it, read from its header."""
    with _opened(Path(path), "photo") as picture:
        width, height = picture.size
        # Pillow turns TIFFs itself, and gives their size turned.
        turned = picture.format != "TIFF" and picture.getexif().get(_ORIENTATION) in _TURNED_BY_90
    return (width, height) if turned else (height, width)


def is_turned(path: str | Path) -> bool:
    """Whether a photo's EXIF data says that it is stored turned or mirrored."""
    with _opened(Path(path), "photo") as picture:
        return picture.getexif().get(_ORIENTATION, 1) != 1


def read_png(path: str | Path) -> np.ndarray:
    """The values of a palette or grey PNG, (H, W) uint8: palette indices, not colours.

    Raises:
        WeaksegError: missing, unreadable, not a PNG (whatever its name), or of another mode.
    """
    path = Path(path)
    with _opened(path, "mask") as picture:
        if picture.format != "PNG":
            raise WeaksegError(
                f"{path}: a {picture.format} file under the name of a PNG; its compression changes labels. Save the "
                "mask as a PNG"
            )
        if picture.mode not in ("P", "L"):
            raise WeaksegError(
                f"{path}: mode {picture.mode}; masks must be palette or grey PNGs whose values are the labels"
            )
        return np.array(picture)


def read_index_png(path: str | Path, labels: LabelSet) -> np.ndarray:
    """A label map as (H, W) uint8.

    Raises:
        WeaksegError: as `read_png`, or a value that is neither a label nor 255.
    """
    values = read_png(path)
    if (wrong := labels.first_wrong(values)) is not None:
        raise WeaksegError(f"{path}: label {wrong} is out of range; 0..{len(labels) - 1} and 255 (void) are known")
    return values


def write_index_png(path: str | Path, values: np.ndarray, labels: LabelSet) -> None:
    """Write a label map (H, W) uint8 as a palette PNG in the colours of its labels, in one step."""
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.uint8), mode="P")
    picture.putpalette(labels.palette().reshape(-1).tolist())
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
