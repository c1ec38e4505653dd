"""Permutohedral lattices of an image, built once and shared by everything that filters with the same widths.

Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice"; the embedding, the order
of the features and the blur are those of Krähenbühl and Koltun 2011, so that results can be held against theirs.
"""

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from weakseg.crf.engine.compiled import compiled
from weakseg.crf.engine.tiles import BLOCK, Tiles, tiles
from weakseg.errors import WeaksegError

_KEY_BITS = 62
# Whole numbers up to here are exact in float32.
_WIDEST = 2**24
# Entries of the table of one tile's keys: more than twice what a tile can have.
_HERE_BITS = 10
# Entries of the table of points are at least so many times the points, so that few keys meet.
_ROOM = 4
# Chains of so many points or more are not sorted by length.
_LONG = 32
# Keys that are looked up together, and what is found where another key has the entry.
_BATCH = 256
_COLLISION = -2


class Corners(NamedTuple):
    """Where the pixels of an image lie on a lattice of d features: each on d+1 lattice points, its simplex's corners.

    Attributes:
        number: (tiles, d+1, BLOCK) uint16, the lattice points of each pixel, as numbers of those that its tile touches.
        weight: (tiles, d+1, BLOCK) float32, barycentric weights, which sum to 1 for a pixel.
        touched: int32, the lattice points of each tile's pixels, each once, tile after tile; points are numbered in
            order of first use.
        starts: (tiles + 1,) int64, where those of each tile start in `touched`, and their number.
    """

    number: np.ndarray
    weight: np.ndarray
    touched: np.ndarray
    starts: np.ndarray


class Features(NamedTuple):
    """How d features become the key of a lattice point.

    A coordinate of a lattice point is (d+1) q + r with the point's remainder r, so that a key is r and d quotients.

    Attributes:
        scale: (d,) float32, factors of the features.
        lowest: (d,) int64, smallest quotient of each coordinate.
        shifts: (d,) int64, shift of each quotient in the packed 64-bit key.
    """

    scale: np.ndarray
    lowest: np.ndarray
    shifts: np.ndarray


@dataclass(frozen=True)
class Lattice:
    """Splat, blur and slice of one Gaussian kernel over the n pixels of an image, d features a pixel.

    Pixels stand in the order of `tiles`, m places; those without a pixel have no weight.

    Attributes:
        tiles: order of the pixels.
        corners: the pixels' lattice points and their weights.
        chains: int32, lattice points along the d+1 blur axes, neighbour after neighbour, axis after axis. Points
            without a neighbour along an axis are not listed.
        runs: (runs, 2) int32, how many chains of which length follow one another: (length, chains).
        mass: (m,) float32, the filter of ones.
        point_mass: (points,) float32, the same before slicing: `mass` is its mean over a pixel's corners.
    """

    tiles: Tiles
    corners: Corners
    chains: np.ndarray
    runs: np.ndarray
    mass: np.ndarray
    point_mass: np.ndarray

    @property
    def points(self) -> int:
        """Number of lattice points."""
        return self.point_mass.size

    def filter(self, column: np.ndarray) -> np.ndarray:
        """The kernel's filter of one column of pixels in row-major order, (n,) float32, up to a constant factor."""
        values = _splat(self.corners, self.points, column[self.tiles.order])
        blur_column(values, self.chains, self.runs)
        return self.tiles.back(_slice(self.corners, values))

    def factor(self, normalization: str) -> np.ndarray:
        """What a filter is normalised with, (m,) float32: 1 / mass after filtering, 1 / sqrt(mass) before and after."""
        # pydensecrf's guard against division by zero; a pixel's own weight keeps the mass well above it.
        mass = self.mass + np.float32(1e-20)
        return 1 / (np.sqrt(mass) if normalization == "symmetric" else mass)

    @property
    def nbytes(self) -> int:
        """Memory in bytes, without the tiles, which images of a size share."""
        return sum(a.nbytes for a in (*self.corners, self.chains, self.runs, self.mass, self.point_mass))


def bilateral_lattice(image: np.ndarray, sigma_xy: float, sigma_rgb: float) -> Lattice:
    """The lattice of the bilateral kernel: features x/sigma_xy, y/sigma_xy, r/sigma_rgb, g/sigma_rgb, b/sigma_rgb.

    Args:
        image: (H, W, 3) uint8.
        sigma_xy: width in position, pixels.
        sigma_rgb: width in colour, of 0..255.

    Raises:
        WeaksegError: widths so small that lattice keys do not fit 62 bits.
    """
    # Kernels are compiled for arrays that may be written to; others would be compiled for anew.
    return _build(np.require(image, requirements=["C", "W"]), (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb))


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
        for k in range(2, dimension):
            low[k], high[k] = _range(channels[:, :, k - 2])
    features = Features(scale, *key_layout(low, high, scale))
    order = tiles(height, width)
    shape = order.sizes.size, dimension + 1, BLOCK
    # Room for the most there can be; memory that is not written to is not used. It comes from NumPy, which asks for
    # large pages: without them a third of the time goes to finding the pages of the table.
    most = math.prod(shape)
    corners = Corners(
        np.empty(shape, dtype=np.uint16), np.empty(shape, dtype=np.float32), np.empty(most, dtype=np.int32),
        np.empty(order.sizes.size + 1, dtype=np.int64),
    )  # fmt: skip
    keys = np.empty(most, dtype=np.int64)
    space = np.empty(1 << (_ROOM * (most + BLOCK * (dimension + 1))).bit_length(), dtype=np.int32)
    points, listed, entries = _embed(
        channels.reshape(-1), width, order.order, order.sizes, features, corners, keys, space
    )
    corners = corners._replace(touched=corners.touched[:listed].copy())
    keys, table = keys[:points], space[:entries]
    chains = np.empty(keys.size * (dimension + 1), dtype=np.int32)
    used, runs = _link(keys, table, features.shifts, chains)
    chains = chains[:used]
    point_mass = _splat(corners, len(keys), np.ones(order.order.size, dtype=np.float32))
    blur_column(point_mass, chains, runs)
    return Lattice(order, corners, chains, runs, _slice(corners, point_mass), point_mass)


def feature_scale(sigmas: tuple[float, ...]) -> np.ndarray:
    """Factors (d,) float32 of the features, so that the lattice's blur is a Gaussian of width 1."""
    # Expected standard deviation of the blur along each axis of the lattice (Adams et al. 2010, section 3.1).
    deviation = math.sqrt(2 / 3) * (len(sigmas) + 1)
    return np.array(
        [deviation / (math.sqrt((i + 1) * (i + 2)) * sigma) for i, sigma in enumerate(sigmas)], dtype=np.float32
    )


def key_layout(low: np.ndarray, high: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest quotient of each key coordinate and its shift in a packed 64-bit key; see `Features`.

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
    widest = 0.0
    for j in range(d):
        smallest = low[j:].sum() - (j * high[j - 1] if j else 0)
        largest = high[j:].sum() - (j * low[j - 1] if j else 0)
        lowest[j] = math.floor(smallest / (d + 1)) - 4
        quotients = math.ceil(largest / (d + 1)) + 4 - lowest[j]
        shifts[j] = shift
        shift += int(quotients).bit_length()
        widest = max(widest, abs(smallest), abs(largest))
    if shift > _KEY_BITS or widest > _WIDEST:
        raise WeaksegError("CRF: a sigma is too small for this image (its lattice has more cells than keys)")
    return lowest, shifts


@compiled()
def _embed(channels, width, order, sizes, features, corners_found, keys, space):
    """Find the lattice points of all pixels.

    Args:
        channels: colours of the pixels, flat, in row-major order.
        width: of the image in pixels.
        order, sizes: of the image's tiles.
        features: how features become keys.
        corners_found: `Corners` to be filled.
        keys: filled with the key of each lattice point.
        space: filled with a hash table of the keys.

    Returns:
        Number of points, of points that tiles touch, and of the table's entries.
    """
    scale, lowest, shifts = features.scale, features.lowest, features.shifts
    corner, weight = corners_found.number, corners_found.weight
    touched, touched_starts = corners_found.touched, corners_found.starts
    d = scale.size
    corners = d + 1
    colours = d - 2
    # A part of the space that a usual photo's points fit; when a quarter is taken it is a larger one, filled anew.
    entries = 1 << 12
    while entries < sizes.size * BLOCK:
        entries *= 2
    table = space[:entries]
    table[:] = -1
    points = 0
    listed = 0
    scaled = np.zeros((d, BLOCK), np.float32)
    total = np.empty(BLOCK, np.float32)
    all_keys = np.empty((corners, BLOCK), np.int64)
    elevated = np.empty((corners, BLOCK), np.float32)
    rounded = np.empty((corners, BLOCK), np.float32)
    offset = np.empty((corners, BLOCK), np.float32)
    rank = np.empty((corners, BLOCK), np.int32)
    by_rank = np.empty((corners, BLOCK), np.float32)
    here_keys = np.empty(1 << _HERE_BITS, np.int64)
    here_places = np.empty(1 << _HERE_BITS, np.uint16)
    new_keys = np.empty(BLOCK * corners, np.int64)
    candidates = np.empty(BLOCK * corners, np.int32)
    down = np.float32(1.0) / np.float32(corners)
    up = np.float32(corners)
    for tile in range(sizes.size):
        first = tile * BLOCK
        size = np.int64(sizes[tile])
        touched_starts[tile] = listed
        for b in range(size):
            i = order[first + b]
            y = i // np.uint32(width)
            scaled[0, b] = np.float32(i - y * np.uint32(width)) * scale[0]
            scaled[1, b] = np.float32(y) * scale[1]
            for c in range(colours):
                scaled[2 + c, b] = np.float32(channels[np.int64(i) * colours + c]) * scale[2 + c]
        # Elevate onto the hyperplane of coordinates that sum to zero.
        so_far = elevated[0]
        so_far[:] = 0
        for j in range(d, 0, -1):
            feature, high = scaled[j - 1], elevated[j]
            for b in range(BLOCK):
                high[b] = so_far[b] - np.float32(j) * feature[b]
                so_far[b] += feature[b]
        # Nearest point of remainder 0, coordinate by coordinate; `total` holds the excess of the sum.
        total[:] = 0
        for j in range(corners):
            high, whole = elevated[j], rounded[j]
            for b in range(BLOCK):
                value = high[b] * down
                above = np.ceil(value)
                below = np.floor(value)
                nearest = above if above * up - high[b] < high[b] - below * up else below
                whole[b] = nearest
                total[b] += nearest
                offset[j, b] = high[b] - nearest * up
        rank[:] = 0
        for i in range(d):
            one, rank_one = offset[i], rank[i]
            for j in range(i + 1, corners):
                other, rank_other = offset[j], rank[j]
                for b in range(BLOCK):
                    less = np.int32(one[b] < other[b])
                    rank_one[b] += less
                    rank_other[b] += np.int32(1) - less
        # Bring the point back onto the hyperplane, then leave each coordinate's distance in `offset`.
        first_key = all_keys[0]
        first_key[:] = 0
        for j in range(corners):
            high, whole, place, rest = elevated[j], rounded[j], rank[j], offset[j]
            for b in range(BLOCK):
                moved = place[b] + np.int32(total[b])
                wrap = np.int32(moved < 0) - np.int32(moved > d)
                place[b] = moved + wrap * np.int32(corners)
                nearest = whole[b] + np.float32(wrap)
                whole[b] = nearest
                rest[b] = (high[b] - nearest * up) * down
            if j < d:
                lowest_j, shift = lowest[j], shifts[j]
                for b in range(BLOCK):
                    first_key[b] += (np.int64(np.int32(whole[b])) - lowest_j) << shift
        # Barycentric weights are differences of these distances in the order of ranks, the last with the first; the
        # corner of remainder r lowers the coordinate whose rank is d + 1 - r.
        by_rank[:] = 0
        for m in range(corners):
            sorted_m = by_rank[m]
            for j in range(corners):
                place, rest = rank[j], offset[j]
                for b in range(BLOCK):
                    sorted_m[b] += rest[b] if place[b] == m else np.float32(0)
        for r in range(corners):
            one, other, share, key = by_rank[d - r], by_rank[(corners - r) % corners], weight[tile, r], all_keys[r]
            more = np.float32(1) if r == 0 else np.float32(0)
            for b in range(BLOCK):
                share[b] = one[b] + (more - other[b])
            if r > 0:
                previous, m = all_keys[r - 1], np.int32(corners - r)
                for b in range(BLOCK):
                    key[b] = previous[b] + 1
                for j in range(d):
                    place, step = rank[j], np.int64(1) << shifts[j]
                    for b in range(BLOCK):
                        key[b] -= step if place[b] == m else np.int64(0)
            weight[tile, r, size:] = 0
            corner[tile, r, size:] = 0
        # Number the tile's keys in a small table that stays in the first cache.
        here_keys[:] = -1
        found = 0
        for r in range(corners):
            last = np.int64(-1)
            number = np.uint16(0)
            for b in range(size):
                key = all_keys[r, b]
                if key != last:
                    last = key
                    entry = _hash(key) >> np.uint64(64 - _HERE_BITS)
                    while here_keys[entry] != key and here_keys[entry] >= 0:
                        entry = (entry + np.uint64(1)) & np.uint64((1 << _HERE_BITS) - 1)
                    if here_keys[entry] < 0:
                        here_keys[entry] = key
                        here_places[entry] = found
                        new_keys[found] = key
                        found += 1
                    number = here_places[entry]
                corner[tile, r, b] = number
        # Then find those in the whole table.
        _look_up(table, keys, new_keys, found, candidates)
        for f in range(found):
            point = candidates[f]
            if point < 0:
                entry = _find(table, keys, new_keys[f])
                point = table[entry]
                if point < 0:
                    point = np.int32(points)
                    table[entry] = point
                    keys[points] = new_keys[f]
                    points += 1
            touched[listed + f] = point
        listed += found
        if _ROOM * (points + BLOCK * corners) > table.size:
            table = space[: min(4 * table.size, space.size)]
            table[:] = -1
            for p in range(points):
                table[_find(table, keys, keys[p])] = p
    touched_starts[sizes.size] = listed
    return points, listed, table.size


@compiled()
def _link(keys, table, shifts, chains):
    """Fill chains with those of neighbours along the d+1 axes; return what is filled and the runs: see `Lattice`."""
    d = shifts.size
    corners = d + 1
    points = keys.size
    runs = np.empty((64, 2), np.int32)
    wanted = np.empty(_BATCH, np.int64)
    wanted_by = np.empty(_BATCH, np.int32)
    candidates = np.empty(_BATCH, np.int32)
    bits, bits_shift = _bits(keys)
    following = np.empty(points, np.int32)
    has_previous = np.empty(points, np.bool_)
    walked = np.empty(points, np.int32)
    begins = np.empty(points // 2 + 1, np.int32)
    place = np.empty(_LONG, np.int64)
    everywhere = np.int64(0)
    for j in range(d):
        everywhere += np.int64(1) << shifts[j]
    used = 0
    run = 0
    for axis in range(corners):
        along = np.int64(1) << shifts[axis] if axis < d else np.int64(0)
        has_previous[:] = False
        following[:] = -1
        for first in range(0, points, _BATCH):
            possible = 0
            for p in range(first, min(first + _BATCH, points)):
                # All coordinates one less, that of the axis d more; a remainder of 0 wraps to d.
                key = keys[p]
                key += along - 1 if key & 7 else along - everywhere + d
                wanted[possible] = key
                wanted_by[possible] = p
                bit = _hash(key) >> bits_shift
                possible += np.int64((bits[bit >> np.uint64(3)] >> (bit & np.uint64(7))) & np.uint64(1))
            _look_up(table, keys, wanted, possible, candidates)
            for b in range(possible):
                neighbour = candidates[b]
                if neighbour == _COLLISION:
                    neighbour = table[_find(table, keys, wanted[b])]
                if neighbour >= 0:
                    following[wanted_by[b]] = neighbour
                    has_previous[neighbour] = True
        count = 0
        end = 0
        place[:] = 0
        for p in range(points):
            if following[p] >= 0 and not has_previous[p]:
                begins[count] = end
                here = np.int32(p)
                while here >= 0:
                    walked[end] = here
                    end += 1
                    here = following[here]
                length = end - begins[count]
                if length < _LONG:
                    place[length] += 1
                count += 1
        begins[count] = end
        # Short chains stand by length, long ones each for themselves.
        if run + _LONG + count > runs.shape[0]:
            more = np.empty((run + _LONG + count, 2), np.int32)
            for r in range(run):
                more[r, 0], more[r, 1] = runs[r, 0], runs[r, 1]
            runs = more
        at = used
        for length in range(2, _LONG):
            if place[length] > 0:
                runs[run, 0], runs[run, 1] = length, place[length]
                run += 1
            place[length], at = at, at + length * place[length]
        for c in range(count):
            length = begins[c + 1] - begins[c]
            if length < _LONG:
                to = place[length]
                place[length] += length
            else:
                to = at
                at += length
                runs[run, 0], runs[run, 1] = length, 1
                run += 1
            for k in range(length):
                chains[to + k] = walked[begins[c] + k]
        used = at
    return used, runs[:run].copy()


@compiled()
def _splat(corners, points, column):
    """Sums of a column (m,) float32 at the lattice points, (points,)."""
    corner, weight, touched, touched_starts = corners
    values = np.zeros(points, np.float32)
    for tile in range(corner.shape[0]):
        here = touched[touched_starts[tile] :]
        for r in range(corner.shape[1]):
            for b in range(BLOCK):
                values[here[corner[tile, r, b]]] += weight[tile, r, b] * column[tile * BLOCK + b]
    return values


@compiled()
def _slice(corners, values):
    """Values of the lattice points (points,) at the pixels, (m,)."""
    corner, weight, touched, touched_starts = corners
    result = np.zeros(corner.shape[0] * BLOCK, np.float32)
    for tile in range(corner.shape[0]):
        here = touched[touched_starts[tile] :]
        for r in range(corner.shape[1]):
            for b in range(BLOCK):
                result[tile * BLOCK + b] += weight[tile, r, b] * values[here[corner[tile, r, b]]]
    return result


@compiled()
def _hash(key):
    """Fibonacci hashing; the upper bits are the good ones."""
    return np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)


@compiled()
def _bits(keys):
    """A bit for each hash of a key, in bytes, and the shift that makes a hash the number of its bit.

    They say of most keys that are not there that they are not, and fit the cache where the table does not.
    """
    size, shift = 8, np.uint64(61)
    while size < 8 * keys.size:
        size *= 2
        shift -= np.uint64(1)
    bits = np.zeros(size // 8, np.uint8)
    for p in range(keys.size):
        place = _hash(keys[p]) >> shift
        bits[place >> np.uint64(3)] |= np.uint8(1) << np.uint8(place & np.uint64(7))
    return bits, shift


@compiled()
def _find(table, keys, key):
    """Entry of a key in the table of points, or the free one (-1) where it belongs."""
    mask = np.uint64(table.size - 1)
    entry = (_hash(key) >> np.uint64(33)) & mask
    while table[entry] >= 0 and keys[table[entry]] != key:
        entry = (entry + np.uint64(1)) & mask
    return entry


@compiled()
def _range(channel):
    """Lowest and highest value of a channel (H, W)."""
    low, high = channel[0, 0], channel[0, 0]
    for y in range(channel.shape[0]):
        for x in range(channel.shape[1]):
            low, high = min(low, channel[y, x]), max(high, channel[y, x])
    return low, high


@compiled()
def _look_up(table, keys, wanted, count, found):
    """Points of the first `count` wanted keys: -1 where there is none, _COLLISION where that takes a closer look.

    The table lies in slow memory: its entries are read one after the other with nothing in between that waits for them.
    """
    mask = np.uint64(table.size - 1)
    for f in range(count):
        found[f] = table[(_hash(wanted[f]) >> np.uint64(33)) & mask]
    for f in range(count):
        point = found[f]
        other = keys[max(point, np.int32(0))] != wanted[f]
        found[f] = np.int32(_COLLISION) if point >= 0 and other else point


@compiled()
def blur_column(values, chains, runs):
    """Blur one column in place: 1/2, 1, 1/2 along each chain (constant factors cancel in the normalisation)."""
    half = np.float32(0.5)
    p = 0
    for run in range(runs.shape[0]):
        for _ in range(runs[run, 1]):
            here = chains[p]
            previous = np.float32(0)
            current = values[here]
            for k in range(1, runs[run, 0]):
                neighbour = chains[p + k]
                following = values[neighbour]
                values[here] = current + half * (previous + following)
                previous = current
                current = following
                here = neighbour
            values[here] = current + half * previous
            p += runs[run, 0]
