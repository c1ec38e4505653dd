"""Permutohedral lattices of an image, built once and shared by everything that filters with the same widths.

Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice"; the embedding, the order
of the features and the blur are those of Krähenbühl and Koltun 2011, so that results can be held against theirs.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numba import njit

from weakseg.errors import WeaksegError

_KEY_BITS = 62


@dataclass(frozen=True)
class Lattice:
    """Splat, blur and slice of one Gaussian kernel over the n pixels of an image, d features a pixel.

    Attributes:
        index: (n, d+1) uint32, the lattice points of each pixel, in order of first use.
        weight: (n, d+1) float32, barycentric weights; rows sum to 1.
        chains: int32, lattice points along the d+1 blur axes, neighbour after neighbour, axis after axis; the last of a
            chain is stored as its complement (~i). Points without a neighbour along an axis are not listed.
        points: number of lattice points.
        mass: (n,) float32, `filter` of ones.
    """

    index: np.ndarray
    weight: np.ndarray
    chains: np.ndarray
    points: int
    mass: np.ndarray

    def filter(self, column: np.ndarray) -> np.ndarray:
        """The kernel's filter of one column, (n,) float32 -> (n,) float32, up to a constant factor."""
        return kernels_of(self.index.shape[1] - 1)[2](self.index, self.weight, self.chains, self.points, column)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.index.nbytes + self.weight.nbytes + self.chains.nbytes + self.mass.nbytes


def bilateral_lattice(image: np.ndarray, sigma_xy: float, sigma_rgb: float) -> Lattice:
    """The lattice of the bilateral kernel: features x/sigma_xy, y/sigma_xy, r/sigma_rgb, g/sigma_rgb, b/sigma_rgb.

    Args:
        image: (H, W, 3) uint8.
        sigma_xy: width in position, pixels.
        sigma_rgb: width in colour, of 0..255.

    Raises:
        WeaksegError: widths so small that lattice keys do not fit 62 bits.
    """
    return _build(np.ascontiguousarray(image), (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb))


def position_lattice(height: int, width: int, sigma: float) -> Lattice:
    """The lattice of the position kernel: features x/sigma, y/sigma; the same for all images of a size."""
    return _build(np.empty((height, width, 0), dtype=np.uint8), (sigma, sigma))


class Lattices:
    """The lattices of one image; each is built on first use and kept while it is among the last few used.

    Position lattices depend on the size alone and are shared between images and threads.
    """

    _shared: ClassVar[OrderedDict[tuple[int, int, float], Lattice]] = OrderedDict()
    _shared_keep = 4
    _lock = threading.Lock()

    def __init__(self, image: np.ndarray, *, keep: int = 1) -> None:
        """Lattices of an (H, W, 3) uint8 image; `keep` bilateral ones are held at a time."""
        self.image = image
        self._keep = keep
        self._bilateral: OrderedDict[tuple[float, float], Lattice] = OrderedDict()

    def forget(self) -> None:
        """Drop all lattices, the shared ones too."""
        self._bilateral.clear()
        with self._lock:
            self._shared.clear()

    def bilateral(self, sigma_xy: float, sigma_rgb: float) -> Lattice:
        """The bilateral lattice of these widths."""
        key = (float(sigma_xy), float(sigma_rgb))
        if key not in self._bilateral:
            while len(self._bilateral) >= self._keep:
                self._bilateral.popitem(last=False)
            self._bilateral[key] = bilateral_lattice(self.image, *key)
        self._bilateral.move_to_end(key)
        return self._bilateral[key]

    def position(self, sigma: float) -> Lattice:
        """The position lattice of this width."""
        key = (*self.image.shape[:2], float(sigma))
        with self._lock:
            if key in self._shared:
                self._shared.move_to_end(key)
                return self._shared[key]
        lattice = position_lattice(*key)
        with self._lock:
            self._shared[key] = lattice
            while len(self._shared) > self._shared_keep:
                self._shared.popitem(last=False)
        return lattice


def _build(channels: np.ndarray, sigmas: tuple[float, ...]) -> Lattice:
    height, width = channels.shape[:2]
    dimension = len(sigmas)
    scale = feature_scale(sigmas)
    low, high = np.zeros(dimension), np.array([width - 1, height - 1] + [0] * (dimension - 2), dtype=np.float64)
    if dimension > 2:
        colours = channels.reshape(-1, dimension - 2)
        low[2:], high[2:] = colours.min(0), colours.max(0)
    lowest, shifts = key_layout(low, high, scale)
    index = np.empty((height * width, dimension + 1), dtype=np.uint32)
    weight = np.empty((height * width, dimension + 1), dtype=np.float32)
    embed, link, filter_column = kernels_of(dimension)
    keys, table_keys, table_points = embed(channels, scale, lowest, shifts, index, weight)
    chains = link(keys, table_keys, table_points, shifts)
    mass = filter_column(index, weight, chains, len(keys), np.ones(height * width, dtype=np.float32))
    return Lattice(index, weight, chains, len(keys), mass)


def feature_scale(sigmas: tuple[float, ...]) -> np.ndarray:
    """Factors (d,) float32 of the features, so that the lattice's blur is a Gaussian of width 1."""
    # Expected standard deviation of the blur along each axis of the lattice (Adams et al. 2010, section 3.1).
    deviation = math.sqrt(2 / 3) * (len(sigmas) + 1)
    return np.array(
        [deviation / (math.sqrt((i + 1) * (i + 2)) * sigma) for i, sigma in enumerate(sigmas)], dtype=np.float32
    )


def key_layout(low: np.ndarray, high: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest quotient of each key coordinate and its shift in a packed 64-bit key.

    A coordinate of a lattice point is (d+1) q + r with the point's remainder r, so that a key is r and d quotients.

    Args:
        low, high: (d,) smallest and largest value of each feature before scaling.
        scale: (d,) float32 factors of the features.

    Returns:
        Smallest quotients and shifts, both (d,) int64.

    Raises:
        WeaksegError: the keys do not fit.
    """
    d = len(scale)
    low, high = low * scale, high * scale
    # elevated[j] = sum of later scaled features - j * (feature j - 1): an interval by the signs.
    lowest, shifts, shift = np.empty(d, dtype=np.int64), np.empty(d, dtype=np.int64), 3
    for j in range(d):
        smallest = low[j:].sum() - (j * high[j - 1] if j else 0)
        largest = high[j:].sum() - (j * low[j - 1] if j else 0)
        lowest[j] = math.floor(smallest / (d + 1)) - 4
        quotients = math.ceil(largest / (d + 1)) + 4 - lowest[j]
        shifts[j] = shift
        shift += int(quotients).bit_length()
    if shift > _KEY_BITS:
        raise WeaksegError("CRF: a sigma is too small for this image (its lattice has more cells than keys)")
    return lowest, shifts


@lru_cache
def kernels_of(dimension: int) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Compiled kernels (embed, link, filter_column) for d features; d is a constant in them."""
    d = dimension
    corners = d + 1

    @njit(nogil=True, cache=True)
    def embed(channels, scale, lowest, shifts, index, weight):
        """Fill index and weight; return the packed key of each lattice point and the hash table."""
        height, width = channels.shape[0], channels.shape[1]
        table_bits = 16
        mask = np.int64((1 << table_bits) - 1)
        table_keys = np.empty(1 << table_bits, np.int64)
        table_points = np.full(1 << table_bits, -1, np.int32)
        keys = np.empty(height * width * corners + 1, np.int64)
        points = 0
        step = np.empty(d, np.int64)
        for j in range(d):
            step[j] = np.int64(1) << shifts[j]
        elevated = np.empty(corners, np.float32)
        rounded = np.empty(corners, np.int64)
        rank = np.empty(corners, np.int64)
        owner = np.empty(corners, np.int64)
        offset = np.empty(corners, np.float32)
        bary = np.empty(corners + 1, np.float32)
        last_keys = np.full(corners, -1, np.int64)
        last_points = np.zeros(corners, np.int64)
        down = np.float32(1.0) / np.float32(corners)
        pixel = 0
        for y in range(height):
            for x in range(width):
                # Elevate onto the hyperplane of coordinates that sum to zero.
                total = np.float32(0)
                for j in range(d, 0, -1):
                    if j == 1:
                        feature = np.float32(x) * scale[0]
                    elif j == 2:
                        feature = np.float32(y) * scale[1]
                    else:
                        feature = np.float32(channels[y, x, j - 3]) * scale[j - 1]
                    elevated[j] = total - np.float32(j) * feature
                    total += feature
                elevated[0] = total
                # Nearest point of remainder 0, coordinate by coordinate.
                excess = 0
                for j in range(corners):
                    value = elevated[j] * down
                    above = np.ceil(value)
                    below = np.floor(value)
                    nearest = above if above * corners - elevated[j] < elevated[j] - below * corners else below
                    rounded[j] = np.int64(nearest)
                    excess += rounded[j]
                    offset[j] = elevated[j] - np.float32(rounded[j] * corners)
                    rank[j] = 0
                for i in range(d):
                    for j in range(i + 1, corners):
                        less = np.int64(offset[i] < offset[j])
                        rank[i] += less
                        rank[j] += 1 - less
                # Bring the point back onto the hyperplane.
                if excess > 0:
                    for j in range(corners):
                        if rank[j] >= corners - excess:
                            rounded[j] -= 1
                            rank[j] += excess - corners
                        else:
                            rank[j] += excess
                elif excess < 0:
                    for j in range(corners):
                        if rank[j] < -excess:
                            rounded[j] += 1
                            rank[j] += corners + excess
                        else:
                            rank[j] += excess
                for j in range(corners + 1):
                    bary[j] = 0
                for j in range(corners):
                    value = (elevated[j] - np.float32(rounded[j] * corners)) * down
                    bary[d - rank[j]] += value
                    bary[corners - rank[j]] -= value
                    owner[rank[j]] = j
                bary[0] += np.float32(1) + bary[corners]
                # Keys of the simplex: the corner of remainder r lowers the coordinate whose rank is d + 1 - r.
                key = np.int64(0)
                for j in range(d):
                    key += (rounded[j] - lowest[j]) << shifts[j]
                for r in range(corners):
                    if r > 0:
                        key += 1
                        lowered = owner[corners - r]
                        if lowered < d:
                            key -= step[lowered]
                    if key != last_keys[r]:
                        slot = _slot(key, mask)
                        while table_points[slot] >= 0 and table_keys[slot] != key:
                            slot = (slot + 1) & mask
                        if table_points[slot] < 0:
                            table_keys[slot] = key
                            table_points[slot] = points
                            keys[points] = key
                            points += 1
                        last_keys[r] = key
                        last_points[r] = table_points[slot]
                    index[pixel, r] = last_points[r]
                    weight[pixel, r] = bary[r]
                pixel += 1
                if 2 * (points + corners) > mask:
                    table_bits += 2
                    mask = np.int64((1 << table_bits) - 1)
                    table_keys = np.empty(1 << table_bits, np.int64)
                    table_points = np.full(1 << table_bits, -1, np.int32)
                    for p in range(points):
                        slot = _slot(keys[p], mask)
                        while table_points[slot] >= 0:
                            slot = (slot + 1) & mask
                        table_keys[slot] = keys[p]
                        table_points[slot] = p
        return keys[:points].copy(), table_keys, table_points

    @njit(nogil=True, cache=True)
    def link(keys, table_keys, table_points, shifts):
        """Chains of neighbours along the d+1 axes; see `Lattice.chains`."""
        points = keys.size
        mask = np.int64(table_keys.size - 1)
        chains = np.empty(points * corners, np.int32)
        following = np.empty(points, np.int32)
        has_previous = np.empty(points, np.bool_)
        everywhere = np.int64(0)
        for j in range(d):
            everywhere += np.int64(1) << shifts[j]
        used = 0
        for axis in range(corners):
            along = np.int64(1) << shifts[axis] if axis < d else np.int64(0)
            has_previous[:] = False
            for p in range(points):
                # All coordinates one less, that of the axis d more; a remainder of 0 wraps to d.
                key = keys[p]
                key += along - 1 if key & 7 else along - everywhere + d
                slot = _slot(key, mask)
                while table_points[slot] >= 0 and table_keys[slot] != key:
                    slot = (slot + 1) & mask
                neighbour = table_points[slot]
                following[p] = neighbour
                if neighbour >= 0:
                    has_previous[neighbour] = True
            for p in range(points):
                if following[p] >= 0 and not has_previous[p]:
                    here = np.int32(p)
                    while following[here] >= 0:
                        chains[used] = here
                        used += 1
                        here = following[here]
                    chains[used] = ~here
                    used += 1
        return chains[:used].copy()

    @njit(nogil=True, cache=True)
    def filter_column(index, weight, chains, points, column):
        """Splat, blur and slice of a column (n,) float32."""
        values = np.zeros(points, np.float32)
        for i in range(index.shape[0]):
            for r in range(corners):
                values[index[i, r]] += weight[i, r] * column[i]
        blur_column(values, chains)
        result = np.empty(index.shape[0], np.float32)
        for i in range(index.shape[0]):
            total = np.float32(0)
            for r in range(corners):
                total += weight[i, r] * values[index[i, r]]
            result[i] = total
        return result

    return embed, link, filter_column


@njit(nogil=True, cache=True)
def _slot(key, mask):
    """Slot of a key in a table of mask + 1 entries (Fibonacci hashing)."""
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) & mask


@njit(nogil=True, cache=True)
def blur_column(values, chains):
    """Blur one column in place: 1/2, 1, 1/2 along each chain (constant factors cancel in the normalisation)."""
    half = np.float32(0.5)
    p = 0
    while p < chains.size:
        here = np.int64(chains[p])
        previous = np.float32(0)
        current = values[here]
        last = False
        while not last:
            p += 1
            coded = np.int64(chains[p])
            last = coded < 0
            neighbour = ~coded if last else coded
            following = values[neighbour]
            values[here] = current + half * (previous + following)
            previous = current
            current = following
            here = neighbour
        values[here] = current + half * previous
        p += 1
