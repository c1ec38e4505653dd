"""The order in which the engine goes through an image: square tiles, each as one block of pixels.

Pixels of a tile lie close together, so that they share lattice points, and mostly have the same label, so that what
holds for one of them mostly holds for all. Tiles follow each other down strips of the image: those that share lattice
points come soon after each other, while the points are still in the cache.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from weakseg.crf.engine.compiled import compiled
from weakseg.crf.engine.simd import STRIDE

TILE = 8
"""Height and width of a tile in pixels; a tile fills one block."""

STRIP = 16
"""Width of a strip in tiles."""

BLOCK = STRIDE
"""Pixels of a whole tile; those at the right and lower edge may have fewer."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of an image, strip after strip; in a strip, and in a tile, in row-major order.

    Each tile has BLOCK places; at the right and lower edge some hold no pixel.

    Attributes:
        order: (tiles * BLOCK,) uint32, the pixel (row-major) at each place; 0 where there is none.
        place: (n,) uint32, the place of each pixel.
        sizes: (tiles,) uint32, pixels of each tile, which stand at its first places.
        empty: (tiles * BLOCK - n,) uint32, places without a pixel.
    """

    order: np.ndarray
    place: np.ndarray
    sizes: np.ndarray
    empty: np.ndarray

    def back(self, columns: np.ndarray) -> np.ndarray:
        """Columns (..., tiles * BLOCK) from places to pixels, (..., n)."""
        return columns[..., self.place]


@lru_cache(maxsize=8)
def tiles(height: int, width: int) -> Tiles:
    """The tiles of an image of this size; shared between images."""
    count = -(-height // TILE) * -(-width // TILE)
    order = np.zeros(count * BLOCK, dtype=np.uint32)
    place = np.empty(height * width, dtype=np.uint32)
    sizes = np.empty(count, dtype=np.uint32)
    empty = np.empty(order.size - place.size, dtype=np.uint32)
    _fill(height, width, order, place, sizes, empty)
    for array in (order, place, sizes, empty):
        array.flags.writeable = False
    return Tiles(order, place, sizes, empty)


@compiled()
def _fill(height, width, order, place, sizes, empty):
    used = 0
    for top in range(0, height, TILE):
        bottom = min(top + TILE, height)
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            tile = tile_at(top // TILE, left // TILE, height, width)
            at = tile * BLOCK
            for y in range(top, bottom):
                for x in range(left, right):
                    order[at] = y * width + x
                    place[y * width + x] = at
                    at += 1
            sizes[tile] = at - tile * BLOCK
            for place_left in range(at, (tile + 1) * BLOCK):
                empty[used] = place_left
                used += 1


@compiled()
def tile_at(down, right, height, width):
    """Number of the tile that is the `down`th from above and the `right`th from the left."""
    first = right // STRIP * STRIP
    rows = -(-height // TILE)
    columns = -(-width // TILE)
    return first * rows + down * min(STRIP, columns - first) + right - first
