"""Small pictures of photos and label maps, of which a page can hold thousands."""

import base64
import io
import zlib

import numpy as np
from PIL import Image


def small_size(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Height and width of a picture of `size` when its longer side is `longest_px` at most; never larger than it is."""
    scale = min(1.0, longest_px / max(size))
    height, width = (max(1, round(length * scale)) for length in size)
    return height, width


def photo_jpeg(photo: np.ndarray, longest_px: int, *, quality: int = 72) -> bytes:
    """A photo (H, W, 3) uint8 RGB as a JPEG whose longer side is `longest_px` at most."""
    height, width = small_size(photo.shape[:2], longest_px)
    picture = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
    return _encoded(picture, "JPEG", quality=quality, progressive=True, optimize=True)


def map_png(labels: np.ndarray, longest_px: int) -> bytes:
    """A label map (H, W) uint8 as a palette PNG in which label n has the colour (n, n, n), thinned out to `longest_px`.

    The palette holds the labels that occur and no others, so that most maps need one, two or four bits a pixel. A
    browser that draws it on a canvas finds the label in the red channel. (It would in a grey PNG as well, but some
    browsers take grey values for those of another colour space.)
    """
    height, width = small_size(labels.shape, longest_px)
    nearest = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
    occurring, places = np.unique(np.asarray(nearest), return_inverse=True)
    picture = Image.fromarray(places.reshape(height, width).astype(np.uint8), mode="P")
    picture.putpalette(np.repeat(occurring, 3).tolist())
    # Label maps are runs of one value: looking for other repetitions takes ten times as long and saves 5 %.
    return _encoded(picture, "PNG", compress_type=zlib.Z_RLE)


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def base64_text(content: bytes) -> str:
    """Bytes as the text of a data URL."""
    return base64.b64encode(content).decode("ascii")
