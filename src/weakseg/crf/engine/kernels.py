"""Compiled kernels of the engine: reading the unary, one mean-field update, the last step to labels or Q.

Layout: pixels stand in the order of tiles, BLOCK places a tile; lattice values are (groups, points, lanes), so that
one pixel's or point's values of a group are one SIMD vector and each group is filtered in a compact array of its own;
values of pixels are planes (columns, places), so that the softmax runs over pixels side by side. All arithmetic is
float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from weakseg.crf.engine.compiled import compiled
from weakseg.crf.engine.lattice import Corners
from weakseg.crf.engine.simd import (
    add,
    as_bits,
    as_float,
    difference,
    exp_of_negative,
    fill,
    gather,
    lanes_of,
    larger,
    largest_lane,
    largest_size,
    load,
    madd,
    product,
    quotient,
    scatter,
    store,
    sum_of_lanes,
    where_above,
    zeros4,
    zeros8,
)
from weakseg.crf.engine.tiles import BLOCK, TILE, tile_at

# Unsigned: an index that cannot be negative needs no wrap-around code.
_ROW = 512
_LARGEST = int(np.float32(1e30).view(np.int32))
_U1, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_BLOCK = np.uint64(BLOCK)
# Corners of a pixel's simplex on the lattices of five and two features; loops of a known length are unrolled.
_CORNERS1, _CORNERS2 = np.uint64(6), np.uint64(3)


@compiled(fast=True, inline=True)
def exp_negative(x):
    """exp(x) for x <= 0 to 2 units in the last place, 0 below -87; vectorises, which the library's does not."""
    x = max(x, np.float32(-87.0))
    whole = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    value = np.float32(1.9875691500e-4)
    value = value * rest + np.float32(1.3981999507e-3)
    value = value * rest + np.float32(8.3334519073e-3)
    value = value * rest + np.float32(4.1665795894e-2)
    value = value * rest + np.float32(1.6666665459e-1)
    value = value * rest + np.float32(5.0000001201e-1)
    value = value * rest * rest + rest + np.float32(1.0)
    return value * as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


@compiled(fast=True, inline=True)
def log_positive(x):
    """log(x) of a normal positive float32, to 2 units in the last place; vectorises, which the library's does not."""
    bits = as_bits(x)
    # x = 2^whole * m with m in [sqrt(1/2), sqrt(2)); a polynomial of m - 1 (Cephes, logf).
    whole = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    rest = as_float(bits - (whole << np.int32(23))) - np.float32(1.0)
    value = np.float32(7.0376836292e-2)
    value = value * rest - np.float32(1.1514610310e-1)
    value = value * rest + np.float32(1.1676998740e-1)
    value = value * rest - np.float32(1.2420140846e-1)
    value = value * rest + np.float32(1.4249322787e-1)
    value = value * rest - np.float32(1.6668057665e-1)
    value = value * rest + np.float32(2.0000714765e-1)
    value = value * rest - np.float32(2.4999993993e-1)
    value = value * rest + np.float32(3.3333331174e-1)
    square = rest * rest
    scale = np.float32(whole)
    value = value * rest * square - scale * np.float32(2.12194440e-4) - np.float32(0.5) * square
    return rest + value + scale * np.float32(0.693359375)


@compiled(fast=True, inline=True)
def _room(tolerance, odds):
    """What messages may change before Q can change by more than the tolerance, a little less rather than more.

    See "settled tiles" in `weakseg.crf.engine.savings`; log(1 + x) is no less than what the bits of the float give for
    it.
    """
    bits = as_bits(np.float32(1) + tolerance / odds) - np.int32(0x3F800000)
    return max(np.float32(2) * tolerance, np.float32(0.5 * 0.6931471 / 8388608) * np.float32(bits))


@compiled(fast=True)
def survey(unary, bits, smallest, chances):
    """Read a unary (L+1, n) once: fill smallest (n,) with the lowest energy of each pixel, chances (n,) with its Q.

    `bits` is the unary's memory as int32: what is compiled for finite floats cannot find others.

    Returns:
        (largest probability (L+1,) float32, pixels where a label is best (L+1,) int64, whether all values are finite
        and below 1e30 in size; else the rest is not complete).
    """
    labels, n = unary.shape
    zero = zeros8()
    largest = np.zeros(labels, np.float32)
    share = np.zeros(labels, np.int64)
    chance = np.zeros((labels, _ROW), np.float32)
    total = np.empty(_ROW, np.float32)
    for first in range(0, n, _ROW):
        size = min(_ROW, n - first)
        low = smallest[first : first + size]
        low[:] = np.float32(1e30)
        bad = np.int32(0)
        for k in range(labels):
            energy = unary[k, first : first + size]
            code = bits[k, first : first + size]
            for b in range(size):
                low[b] = min(low[b], energy[b])
                bad += np.int32((code[b] & np.int32(0x7FFFFFFF)) >= np.int32(_LARGEST))
        if bad > 0:
            return largest, share, False
        total[:] = 0
        for k in range(labels):
            energy, power = unary[k, first : first + size], chance[k]
            wins = np.int32(0)
            for b in range(size):
                power[b] = exp_negative(low[b] - energy[b])
                total[b] += power[b]
                wins += np.int32(energy[b] == low[b])
            share[k] += wins
        for b in range(size):
            total[b] = np.float32(1) / total[b]
            chances[first + b] = total[b]
        total[size:] = 0
        for k in range(labels):
            # The compiler does not find the vectors of a largest value by itself.
            most, power = zero, chance[k]
            for v in range(np.uint64(_ROW // 8)):
                b = v * np.uint64(8)
                most = larger(most, product(load(power, b, zero), load(total, b, zero)))
            largest[k] = max(largest[k], largest_lane(most))
    return largest, share, True


@compiled(fast=True)
def advantages(unary, smallest, chances, base, kept, rest, width, out):
    """Fill out (columns, m) with U_base - U_k for the kept labels, then log P(rest) + U_base where `rest` is not empty.

    A label set's energy is -log of its labels' summed probability, up to the pixel's constant. Columns of `out` stand
    in the order of tiles of an image so wide; places without a pixel are left as they are.

    Returns:
        The largest probability of the rest together.
    """
    most = np.float32(0)
    height = unary.shape[1] // width
    columns = out.shape[0]
    row = np.empty((columns, width), np.float32)
    total = np.empty(width, np.float32)
    across = -(-width // TILE)
    for y in range(height):
        first = y * width
        reference = unary[base, first : first + width]
        for c in range(kept.size):
            energy = unary[kept[c], first : first + width]
            result = row[c]
            for x in range(width):
                result[x] = reference[x] - energy[x]
        if rest.size > 0:
            low = smallest[first : first + width]
            total[:] = np.float32(1e-37)
            for r in range(rest.size):
                energy = unary[rest[r], first : first + width]
                for x in range(width):
                    total[x] += exp_negative(low[x] - energy[x])
            chance = chances[first : first + width]
            for x in range(width):
                share = total[x] * chance[x]
                most = max(most, share)
            result = row[kept.size]
            for x in range(width):
                result[x] = log_positive(total[x]) + reference[x] - low[x]
        for c in range(columns):
            result = out[c]
            for t in range(across):
                left = t * TILE
                here = min(TILE, width - left)
                at = tile_at(y // TILE, t, height, width) * BLOCK + (y % TILE) * here
                for x in range(here):
                    result[at + x] = row[c, left + x]
    return most


@compiled(fast=True)
def merge_columns(advantage, into, added):
    """log(exp(advantage[into]) + sum of exp(advantage[added])), stably; (m,) float32."""
    m = advantage.shape[1]
    merged = np.empty(m, np.float32)
    most = np.empty(_ROW, np.float32)
    total = np.empty(_ROW, np.float32)
    for first in range(0, m, _ROW):
        size = min(_ROW, m - first)
        own = advantage[into, first : first + size]
        for b in range(size):
            most[b] = own[b]
        for c in added:
            ahead = advantage[c, first : first + size]
            for b in range(size):
                most[b] = max(most[b], ahead[b])
        for b in range(size):
            total[b] = exp_negative(own[b] - most[b])
        for c in added:
            ahead = advantage[c, first : first + size]
            for b in range(size):
                total[b] += exp_negative(ahead[b] - most[b])
        for b in range(size):
            merged[first + b] = most[b] + log_positive(total[b])
    return merged


@compiled(fast=True)
def regroup(sums, lanes, target, columns, new_lanes):
    """Lattice sums (groups, points * lanes) with column c added to column target[c] of (new groups, points * lanes)."""
    points = sums.shape[1] // lanes
    result = np.zeros((-(-columns // new_lanes), points * new_lanes), np.float32)
    for c in range(target.size):
        source, into = sums[c // lanes], result[target[c] // new_lanes]
        lane, new_lane = c % lanes, target[c] % new_lanes
        for p in range(points):
            into[p * new_lanes + new_lane] += source[p * lanes + lane]
    return result


@compiled(fast=True)
def _blur(zero, sums, chains, runs, values):
    """values <- blur of sums, both (points * lanes): 1/2, 1, 1/2 along each chain. They may be the same array."""
    if values.ctypes.data != sums.ctypes.data:
        for v in range(values.size):
            values[v] = sums[v]
    p = np.uint64(0)
    for run in range(runs.shape[0]):
        length, count = np.uint64(runs[run, 0]), np.uint64(runs[run, 1])
        # The shortest are most; a loop of a known length is unrolled.
        if length == _TWO:
            p = _blur_chains(zero, values, chains, p, _TWO, count)
        elif length == _THREE:
            p = _blur_chains(zero, values, chains, p, _THREE, count)
        else:
            p = _blur_chains(zero, values, chains, p, length, count)


@compiled(fast=True, inline=True)
def _blur_chains(zero, values, chains, p, length, count):
    """Blur `count` chains of one length that start at p; return where they end."""
    half = np.float32(0.5)
    width = lanes_of(zero)
    for _ in range(count):
        here = np.uint64(chains[p]) * width
        previous = zero
        current = load(values, here, zero)
        for k in range(_U1, length):
            neighbour = np.uint64(chains[p + k]) * width
            following = load(values, neighbour, zero)
            store(values, here, madd(madd(current, half, previous), half, following))
            previous = current
            current = following
            here = neighbour
        store(values, here, madd(current, half, previous))
        p += length
    return p


@compiled(fast=True)
def _moves(zero, before, after, moves):
    """Add a group's columns to moves (2, points): the largest change of a value, and the sum of the changes."""
    width = lanes_of(zero)
    for p in range(np.uint64(moves.shape[1])):
        change = difference(load(after, p * width, zero), load(before, p * width, zero))
        moves[0, p] = max(moves[0, p], largest_lane(largest_size(zero, change)))
        moves[1, p] += sum_of_lanes(change)


@compiled(fast=True)
def settle(moves, w, point_mass, corners, room):
    """Take what messages can change at most from the room of each tile; below 0 it has none left.

    A message, normalised after filtering, is w sum_r b_r V_r / sum_r b_r m_r over a pixel's corners r with weights b,
    values V and masses m, so that it changes by w max_r |V_r' - V_r| / m_r at most. That of the label without a column
    changes by the sum of the others.

    Args:
        moves: (2, points) of `_moves`.
        w: the kernel's weight.
        point_mass: (points,) m.
        corners: `Corners` of the kernel's lattice.
        room: (tiles,) what messages may still change before the tile is computed again.
    """
    touched, starts = corners.touched, corners.starts
    bound = np.empty(point_mass.size, np.float32)
    for p in range(bound.size):
        bound[p] = w * max(moves[0, p], abs(moves[1, p])) / (point_mass[p] + np.float32(1e-20))
    for tile in range(room.size):
        left = room[tile]
        most = np.float32(0)
        for t in range(starts[tile], starts[tile + 1]):
            if most > left:
                break
            most = max(most, bound[touched[t]])
        room[tile] = left - most


@compiled(fast=True)
def _fetch(zero, values, points, near):
    """Copy the values of a tile's lattice points to `near`, which stays in the first cache."""
    width = lanes_of(zero)
    for t in range(np.uint64(points.size)):
        store(near, t * width, load(values, np.uint64(points[t]) * width, zero))


@compiled(fast=True)
def _slice_tile(zero, tile, bilateral, position, scratch, at):
    """Set the scratch planes, (lanes, BLOCK) flat at `at`, to the messages of the two kernels together."""
    width = lanes_of(zero)
    number1, weight1, near1 = bilateral.corners.number, bilateral.corners.weight, scratch.near1
    number2, weight2, near2 = position.corners.number, position.corners.weight, scratch.near2
    factor1, factor2, planes = bilateral.factor, position.factor, scratch.planes
    w1, w2 = bilateral.w, position.w
    for b in range(np.uint64(BLOCK)):
        i = tile * _BLOCK + b
        one, two = zero, zero
        for r in range(_CORNERS1):
            one = madd(one, weight1[tile, r, b], load(near1, np.uint64(number1[tile, r, b]) * width, zero))
        for r in range(_CORNERS2):
            two = madd(two, weight2[tile, r, b], load(near2, np.uint64(number2[tile, r, b]) * width, zero))
        scatter(planes, at + b, madd(madd(zero, w1 * factor1[i], one), w2 * factor2[i], two))


@compiled(fast=True)
def _splat_tile(zero, tile, bilateral, position, symmetric, scratch, at):
    """Add planes at the wanted pixels to the sums near a tile, of both kernels together: each waits for its memory."""
    width = lanes_of(zero)
    number1, weight1, near1 = bilateral.corners.number, bilateral.corners.weight, scratch.near1
    number2, weight2, near2 = position.corners.number, position.corners.weight, scratch.near2
    factor1, factor2, planes, wanted = bilateral.factor, position.factor, scratch.planes, scratch.wanted
    for b in range(_BLOCK):
        if wanted[b]:
            one = gather(planes, at + b, zero)
            two = one
            if symmetric:
                one = madd(zero, factor1[tile * _BLOCK + b], one)
                two = madd(zero, factor2[tile * _BLOCK + b], two)
            for r in range(_CORNERS1):
                o = np.uint64(number1[tile, r, b]) * width
                store(near1, o, madd(load(near1, o, zero), weight1[tile, r, b], one))
            for r in range(_CORNERS2):
                o = np.uint64(number2[tile, r, b]) * width
                store(near2, o, madd(load(near2, o, zero), weight2[tile, r, b], two))


@compiled(fast=True)
def _bring(zero, near, points, unseen, sums):
    """Add what is near a tile to the sums of its lattice points; those from `unseen` on had none."""
    width = lanes_of(zero)
    for t in range(np.uint64(points.size)):
        o = np.uint64(points[t]) * width
        here = load(near, t * width, zero)
        if points[t] < unseen:
            here = add(load(sums, o, zero), here)
        store(sums, o, here)


@compiled(fast=True)
def _softmax_tile(tile, pixels, bilateral, position, step, scratch, tops):
    """Turn the messages in the scratch planes, (labels, BLOCK), into Q.

    The message of the base is that of all labels together less the others'.

    Args:
        tile: which tile.
        pixels: `Pixels`, flat.
        bilateral, position, step, scratch: as in `_update`; scratch.change is filled with the largest change of each
            pixel against `pixels.waiting`.
        tops: (labels,) is filled with the largest Q.

    Returns:
        The largest (1 - max Q) / max Q of the pixels.
    """
    advantage, waiting, planes = pixels.advantage, pixels.waiting, scratch.planes
    top_lanes, change = scratch.top_lanes, scratch.change
    total1, total2 = bilateral.total, position.total
    labels, first = np.uint64(tops.size), tile * _BLOCK
    m = np.uint64(bilateral.factor.size)
    w1, w2 = bilateral.w, position.w
    if not step.started:
        w1, w2 = np.float32(0), np.float32(0)
    zero = zeros8()
    odds = zero
    top_lanes[:] = 0
    for v in range(np.uint64(BLOCK) // np.uint64(8)):
        b = v * np.uint64(8)
        base = fill(w1 + w2, zero)
        if step.symmetric:
            base = madd(madd(zero, w1, load(total1, first + b, zero)), w2, load(total2, first + b, zero))
        for k in range(labels):
            base = difference(base, load(planes, k * _BLOCK + b, zero))
        most = zero  # the base's own exponent
        for k in range(labels):
            message = load(planes, k * _BLOCK + b, zero)
            ahead = add(message, difference(load(advantage, k * m + first + b, zero), base))
            store(planes, k * _BLOCK + b, ahead)
            most = larger(most, ahead)
        every = exp_of_negative(difference(zero, most))
        for k in range(labels):
            share = exp_of_negative(difference(load(planes, k * _BLOCK + b, zero), most))
            store(planes, k * _BLOCK + b, share)
            every = add(every, share)
        # The largest exponent was 0, so that 1 / every is the largest Q.
        odds = larger(odds, every)
        every = quotient(fill(np.float32(1), zero), every)
        moved, base_step = zero, zero
        for k in range(labels):
            q = product(load(planes, k * _BLOCK + b, zero), every)
            store(planes, k * _BLOCK + b, q)
            store(top_lanes, k * np.uint64(8), larger(load(top_lanes, k * np.uint64(8), zero), q))
            moved_here = difference(q, load(waiting, k * m + first + b, zero))
            moved = largest_size(moved, moved_here)
            base_step = add(base_step, moved_here)
        store(change, b, largest_size(moved, base_step))
    for k in range(labels):
        tops[k] = largest_lane(load(top_lanes, k * np.uint64(8), zero))
    # What the sum is rounded by is added.
    return largest_lane(odds) - np.float32(1) + np.float32(2e-7)


class Pixels(NamedTuple):
    """Columns of labels over the m places of an image: all labels but the base.

    Attributes:
        advantage: (labels, m) float32, U_base - U_k.
        waiting, splatted: (labels, m) float32, what the sums on the lattices hold before and after an update. They may
            be the same array.
    """

    advantage: np.ndarray
    waiting: np.ndarray
    splatted: np.ndarray


class TileStates(NamedTuple):
    """What is known of the tiles.

    Attributes:
        room: (tiles,) float32, what messages may still change before Q of a pixel can have changed by more than the
            tolerance. Tiles where it is not negative are left as they are.
        tops: (tiles, labels) float32, the largest Q.
    """

    room: np.ndarray
    tops: np.ndarray


class Filter(NamedTuple):
    """One Gaussian kernel and the columns on its lattice.

    Attributes:
        corners: where the pixels lie on the lattice.
        factor: (m,) float32, its normalisation.
        total: (m,) float32, message of all labels together for a weight of 1 where the normalisation is symmetric;
            else that is 1, and this is not read.
        w: its weight, float32.
        values, sums: (groups, points * lanes) float32, blurred values to slice from and sums to splat to; columns are
            padded to groups * lanes.
    """

    corners: Corners
    factor: np.ndarray
    total: np.ndarray
    w: np.float32
    values: np.ndarray
    sums: np.ndarray


class Step(NamedTuple):
    """How an update is made.

    Attributes:
        started: False for the first, which takes messages as 0.
        symmetric: factors enter before filtering, too.
        anew: sums are overwritten with those of all pixels, and every tile is computed; else what changed is added.
        tolerance: float32; Q that differs by no more than this from what the sums hold is not splatted anew.
    """

    started: bool
    symmetric: bool
    anew: bool
    tolerance: np.float32


class _Scratch(NamedTuple):
    """Memory of one tile's update: messages, then Q; values or sums near the tile; and what is known of its pixels."""

    planes: np.ndarray
    near1: np.ndarray
    near2: np.ndarray
    top_lanes: np.ndarray
    change: np.ndarray
    wanted: np.ndarray


@compiled(fast=True)
def _update(zero, tiles, pixels, bilateral, position, step, out):
    """One update of all pixels: slice, softmax, splat of what changed.

    Args:
        zero: a vector of zeros, which gives the lanes.
        tiles: `TileStates`; those of the tiles that are computed are filled in.
        pixels: `Pixels`; `splatted` is filled.
        bilateral, position: `Filter` of the two kernels; `sums` are changed.
        step: `Step`.
        out: (labels, m) is filled with Q where it is not empty, in place of splatting.

    Returns:
        Number of pixels whose Q differs by more than the tolerance, which without `step.anew` are those splatted.
    """
    room, tops, tolerance, anew = tiles.room, tiles.tops, step.tolerance, step.anew
    labels, m = np.uint64(pixels.advantage.shape[0]), np.uint64(pixels.advantage.shape[1])
    values1, sums1, values2, sums2 = bilateral.values, bilateral.sums, position.values, position.sums
    touched1, starts1 = bilateral.corners.touched, bilateral.corners.starts
    touched2, starts2 = position.corners.touched, position.corners.starts
    groups = values1.shape[0]
    group_block = lanes_of(zero) * _BLOCK
    near = BLOCK * np.int64(lanes_of(zero))
    planes = np.zeros(groups * np.int64(group_block), np.float32)
    near1 = np.empty(near * bilateral.corners.number.shape[1], np.float32)
    near2 = np.empty(near * position.corners.number.shape[1], np.float32)
    top_lanes = np.empty(tops.shape[1] * 8, np.float32)
    change = np.empty(BLOCK, np.float32)
    wanted = np.empty(BLOCK, np.bool_)
    scratch = _Scratch(planes, near1, near2, top_lanes, change, wanted)
    flat = Pixels(pixels.advantage.reshape(-1), pixels.waiting.reshape(-1), pixels.splatted.reshape(-1))
    waiting, splatted, flat_out = flat.waiting, flat.splatted, out.reshape(-1)
    same = pixels.waiting.ctypes.data == pixels.splatted.ctypes.data
    wide = zeros8()
    count = 0
    # Points are numbered in the order in which tiles touch them.
    everything = np.int32(2**31 - 1)
    unseen1, unseen2 = (np.int32(0), np.int32(0)) if anew else (everything, everything)
    for tile in range(np.uint64(room.size)):
        first = tile * _BLOCK
        if room[tile] >= 0:
            if out.size > 0:
                for k in range(labels):
                    o = k * m + first
                    for v in range(_BLOCK // np.uint64(8)):
                        at = o + v * np.uint64(8)
                        store(flat_out, at, load(waiting, at, wide))
            continue
        points1 = touched1[starts1[tile] : starts1[tile + 1]]
        points2 = touched2[starts2[tile] : starts2[tile + 1]]
        if step.started:
            for g in range(groups):
                _fetch(zero, values1[g], points1, near1)
                _fetch(zero, values2[g], points2, near2)
                _slice_tile(zero, tile, bilateral, position, scratch, np.uint64(g) * group_block)
        else:
            planes[:] = 0
        odds = _softmax_tile(tile, flat, bilateral, position, step, scratch, tops[tile])
        room[tile] = _room(tolerance, odds)
        if out.size > 0:
            for k in range(labels):
                for v in range(_BLOCK // np.uint64(8)):
                    b = v * np.uint64(8)
                    store(flat_out, k * m + first + b, load(planes, k * _BLOCK + b, wide))
            continue
        here = np.int32(0)
        for b in range(BLOCK):
            wanted[b] = change[b] > tolerance
            here += np.int32(wanted[b])
        if here == 0 and same and not anew:
            continue
        count += here
        if anew:  # no pixel waits
            wanted[:] = True
            change[:] = np.float32(np.inf)
        for k in range(labels):
            for v in range(_BLOCK // np.uint64(8)):
                b = v * np.uint64(8)
                q = load(planes, k * _BLOCK + b, wide)
                before = load(waiting, k * m + first + b, wide)
                if not anew:
                    store(planes, k * _BLOCK + b, difference(q, before))
                kept = where_above(load(change, b, wide), tolerance, q, before)
                store(splatted, k * m + first + b, kept)
        for g in range(groups):
            near1[: points1.size * np.int64(lanes_of(zero))] = 0
            near2[: points2.size * np.int64(lanes_of(zero))] = 0
            _splat_tile(zero, tile, bilateral, position, step.symmetric, scratch, np.uint64(g) * group_block)
            _bring(zero, near1, points1, unseen1, sums1[g])
            _bring(zero, near2, points2, unseen2, sums2[g])
        if anew:
            unseen1 = max(unseen1, points1.max() + np.int32(1))
            unseen2 = max(unseen2, points2.max() + np.int32(1))
    return count


@compiled()
def _blur4(*arguments):
    _blur(zeros4(), *arguments)


@compiled()
def _blur8(*arguments):
    _blur(zeros8(), *arguments)


@compiled()
def _moves4(*arguments):
    _moves(zeros4(), *arguments)


@compiled()
def _moves8(*arguments):
    _moves(zeros8(), *arguments)


@compiled()
def _update4(*arguments):
    return _update(zeros4(), *arguments)


@compiled()
def _update8(*arguments):
    return _update(zeros8(), *arguments)


@compiled(fast=True)
def filter_columns(columns, corners, chains, runs, points):
    """Splat, blur and slice of 8 columns (m, 8) together, up to a constant factor; (m, 8) float32."""
    number, weight, touched, starts = corners
    zero = zeros8()
    width = lanes_of(zero)
    count = np.uint64(number.shape[1])
    flat = columns.reshape(columns.size)
    sums = np.zeros(points * np.int64(width), np.float32)
    blurred = np.empty_like(sums)
    for tile in range(np.uint64(number.shape[0])):
        here = touched[starts[tile] :]
        for b in range(_BLOCK):
            column = load(flat, (tile * _BLOCK + b) * width, zero)
            for r in range(count):
                o = np.uint64(here[number[tile, r, b]]) * width
                store(sums, o, madd(load(sums, o, zero), weight[tile, r, b], column))
    _blur(zero, sums, chains, runs, blurred)
    out = np.empty(columns.size, np.float32)
    for tile in range(np.uint64(number.shape[0])):
        here = touched[starts[tile] :]
        for b in range(_BLOCK):
            total = zero
            for r in range(count):
                value = load(blurred, np.uint64(here[number[tile, r, b]]) * width, zero)
                total = madd(total, weight[tile, r, b], value)
            store(out, (tile * _BLOCK + b) * width, total)
    return out.reshape(columns.shape)


class Kernels(NamedTuple):
    """Compiled kernels for values in vectors of one width; arguments as `_blur`, `_moves`, `_update`."""

    blur: Callable[..., None]
    moves: Callable[..., None]
    update: Callable[..., int]


def kernels_of(lanes: int) -> Kernels:
    """The kernels for vectors of 4 or 8 lanes."""
    return {4: Kernels(_blur4, _moves4, _update4), 8: Kernels(_blur8, _moves8, _update8)}[lanes]


@compiled()
def to_labels(planes, column_labels, base, place, labels):
    """First label of largest Q, from planes (columns, n) of all labels but the base; column label -1 is no label.

    Pixel p of the row-major labels stands at place[p] of the planes.
    """
    for p in range(labels.size):
        i = place[p]
        rest = np.float32(1)
        for c in range(planes.shape[0]):
            rest -= planes[c, i]
        best, largest = base, rest
        for c in range(planes.shape[0]):
            k = column_labels[c]
            q = planes[c, i]
            if k >= 0 and (q > largest or (q == largest and k < best)):
                best, largest = k, q
        labels[p] = best


@compiled(fast=True)
def to_marginals(planes, column_labels, base, unary, smallest, place, q):
    """Fill q (L+1, n) from planes of all labels but the base, where pixel p stands at place[p].

    What a column of merged labels (-1) has is shared among the labels without a column by softmax(-U).
    """
    left = np.empty(_ROW, np.float32)
    share = np.empty(_ROW, np.float32)
    labels, n = unary.shape
    has_column = np.zeros(labels, np.bool_)
    has_column[base] = True
    merged = -1
    for c in range(planes.shape[0]):
        if column_labels[c] >= 0:
            has_column[column_labels[c]] = True
        else:
            merged = c
    for first in range(0, n, _ROW):
        size = min(_ROW, n - first)
        places = place[first : first + size]
        left[:] = 1
        for c in range(planes.shape[0]):
            plane = planes[c]
            for b in range(size):
                left[b] -= plane[places[b]]
            if column_labels[c] >= 0:
                result = q[column_labels[c], first : first + size]
                for b in range(size):
                    result[b] = plane[places[b]]
        result = q[base, first : first + size]
        for b in range(size):
            result[b] = max(left[b], np.float32(0))
        if merged >= 0:
            plane, low = planes[merged], smallest[first : first + size]
            share[:] = np.float32(1e-37)
            for k in range(labels):
                if not has_column[k]:
                    energy, result = unary[k, first : first + size], q[k, first : first + size]
                    for b in range(size):
                        result[b] = exp_negative(low[b] - energy[b])
                        share[b] += result[b]
            for b in range(size):
                share[b] = plane[places[b]] / share[b]
            for k in range(labels):
                if not has_column[k]:
                    result = q[k, first : first + size]
                    for b in range(size):
                        result[b] *= share[b]
