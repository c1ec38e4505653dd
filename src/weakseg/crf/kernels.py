"""Compiled kernels of the fast engine: reading the unary, one mean-field update, the last step to labels or Q.

Layout: lattice values are (groups, points, lanes), so that one pixel's or point's values of a group are one SIMD vector
and each group is filtered in a compact array of its own; values of pixels are planes (columns, n), so that the softmax
runs over pixels side by side. All arithmetic is float32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from weakseg.crf.simd import STRIDE, as_float, gather, lanes_of, load, madd, scatter, store, zeros4, zeros8

BLOCK = STRIDE
"""Pixels that are sliced, updated and splatted together; their values stay in the first cache."""

# Unsigned: an index that cannot be negative needs no wrap-around code.
_ROW = 512
_U1 = np.uint64(1)
_FAST = {"nnan", "nsz", "contract", "reassoc"}


@njit(inline="always", fastmath=_FAST)
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


@njit(nogil=True, cache=True, fastmath=_FAST)
def survey(unary, log_sum):
    """Read a unary (L+1, n) once: fill log_sum (n,) with -log sum exp(-U).

    Returns:
        (largest probability (L+1,) float32, pixels where a label is best (L+1,) int64, whether all values are finite
        and below 1e30 in size; else the rest is not complete).
    """
    labels, n = unary.shape
    largest = np.full(labels, np.float32(-1e30))
    share = np.zeros(labels, np.int64)
    smallest = np.empty(_ROW, np.float32)
    total = np.empty(_ROW, np.float32)
    for first in range(0, n, _ROW):
        size = min(_ROW, n - first)
        bad = np.int32(0)
        smallest[:] = np.float32(1e30)
        total[:] = 0
        for k in range(labels):
            energy = unary[k, first : first + size]
            for b in range(size):
                smallest[b] = min(smallest[b], energy[b])
            for b in range(size):
                bad += np.int32(0) if abs(energy[b]) < np.float32(1e30) else np.int32(1)
        if bad > 0:
            return largest, share, False
        for k in range(labels):
            energy = unary[k, first : first + size]
            for b in range(size):
                total[b] += exp_negative(smallest[b] - energy[b])
        result = log_sum[first : first + size]
        for b in range(size):
            result[b] = smallest[b] - np.log(total[b])
        for k in range(labels):
            energy = unary[k, first : first + size]
            top = np.float32(-1e30)
            wins = np.int32(0)
            for b in range(size):
                top = max(top, result[b] - energy[b])
            for b in range(size):
                wins += np.int32(1) if energy[b] == smallest[b] else np.int32(0)
            largest[k] = max(largest[k], top)
            share[k] += wins
    for k in range(labels):
        largest[k] = np.exp(min(largest[k], np.float32(0)))
    return largest, share, True


@njit(nogil=True, cache=True, fastmath=_FAST)
def advantages(unary, log_sum, base, kept, rest, out):
    """Fill out (columns, n) with U_base - U_k for the kept labels, then log P(rest) + U_base where `rest` is not empty.

    A label set's energy is -log of its labels' summed probability.
    """
    n = unary.shape[1]
    total = np.empty(_ROW, np.float32)
    for first in range(0, n, _ROW):
        size = min(_ROW, n - first)
        reference = unary[base, first : first + size]
        for c in range(kept.size):
            energy = unary[kept[c], first : first + size]
            result = out[c, first : first + size]
            for b in range(size):
                result[b] = reference[b] - energy[b]
        if rest.size > 0:
            normal = log_sum[first : first + size]
            total[:] = np.float32(1e-37)
            for r in range(rest.size):
                energy = unary[rest[r], first : first + size]
                for b in range(size):
                    total[b] += exp_negative(min(normal[b] - energy[b], np.float32(0)))
            result = out[kept.size, first : first + size]
            for b in range(size):
                result[b] = np.log(total[b]) + reference[b] - normal[b]


@njit(nogil=True, cache=True, fastmath=_FAST)
def merge_column(advantage, into, added):
    """advantage[into] <- log(exp(advantage[into]) + exp(advantage[added])), stably."""
    for i in range(advantage.shape[1]):
        a = advantage[into, i]
        b = advantage[added, i]
        advantage[into, i] = max(a, b) + np.log(np.float32(1) + exp_negative(min(a, b) - max(a, b)))


@njit(nogil=True, cache=True, fastmath=_FAST)
def _blur(zero, sums, kernel_weight, chains, values):
    """values <- blur of kernel_weight * sums; both (groups, points * lanes), 1/2, 1, 1/2 along each chain."""
    half = np.float32(0.5)
    width = lanes_of(zero)
    for g in range(sums.shape[0]):
        source, target = sums[g], values[g]
        for p in range(np.uint64(source.size) // width):
            store(target, np.uint64(p) * width, madd(zero, kernel_weight, load(source, np.uint64(p) * width, zero)))
        p = np.uint64(0)
        while p < np.uint64(chains.size):
            here = np.uint64(chains[p]) * width
            previous = zero
            current = load(target, here, zero)
            last = False
            while not last:
                p += _U1
                coded = chains[p]
                last = coded < 0
                neighbour = np.uint64(~coded if last else coded) * width
                following = load(target, neighbour, zero)
                store(target, here, madd(madd(current, half, previous), half, following))
                previous = current
                current = following
                here = neighbour
            store(target, here, madd(current, half, previous))
            p += _U1


@njit(nogil=True, cache=True, fastmath=_FAST)
def _slice_block(zero, values1, index1, weight1, factor1, values2, index2, weight2, factor2, first, size, planes, at):
    """Set planes, (lanes, BLOCK) flat at `at`, to the two kernels' normalised values at the pixels."""
    width = lanes_of(zero)
    corners1, corners2 = np.uint64(index1.shape[1]), np.uint64(index2.shape[1])
    for b in range(size):
        i = np.uint64(first) + np.uint64(b)
        one, two = zero, zero
        for r in range(corners1):
            one = madd(one, weight1[i, np.uint64(r)], load(values1, np.uint64(index1[i, np.uint64(r)]) * width, zero))
        for r in range(corners2):
            two = madd(two, weight2[i, np.uint64(r)], load(values2, np.uint64(index2[i, np.uint64(r)]) * width, zero))
        scatter(planes, at + np.uint64(b), madd(madd(zero, factor1[i], one), factor2[i], two))


@njit(nogil=True, cache=True, fastmath=_FAST)
def _splat_block(zero, sums, index, weight, first, size, symmetric, factor, planes, at, wanted):
    """Add planes to the sums at the wanted pixels."""
    width = lanes_of(zero)
    corners = np.uint64(index.shape[1])
    for b in range(size):
        if wanted[np.uint64(b)]:
            i = np.uint64(first) + np.uint64(b)
            column = gather(planes, at + np.uint64(b), zero)
            if symmetric:
                column = madd(zero, factor[i], column)
            for r in range(corners):
                o = np.uint64(index[i, np.uint64(r)]) * width
                store(sums, o, madd(load(sums, o, zero), weight[i, np.uint64(r)], column))


@njit(nogil=True, cache=True, fastmath=_FAST)
def _update(
    zero, advantage, started, index1, weight1, factor1, values1, sums1, index2, weight2, factor2, values2, sums2,
    symmetric, total, weights, splatted, tolerance, top, out,
):  # fmt: skip
    """One update of all pixels: slice, softmax, splat of what changed.

    Args:
        zero: a vector of zeros, which gives the width.
        advantage: (labels, n) U_base - U_k of the labels but the base; padded to groups * lanes on the lattices.
        started: False for the first call, which takes messages as 0.
        index1, weight1, factor1, values1, sums1: first kernel's lattice: corners, barycentric weights,
            normalisation (n,), blurred weighted values and sums to splat to, (groups, points * lanes).
        symmetric: factors enter before filtering, too.
        total: (2, n) message of all labels together for a weight of 1, a kernel, where symmetric; else unused.
        weights: (2,) weights of the kernels.
        splatted: (labels, n) what the sums hold; Q that differs by at most `tolerance` is not splatted anew.
        top: (labels,) is filled with the largest Q.
        out: (labels, n) is filled with Q where it is not empty, in place of splatting.

    Returns:
        Number of pixels splatted.
    """
    labels, n = advantage.shape
    groups = values1.shape[0]
    group_block = lanes_of(zero) * np.uint64(BLOCK)
    planes = np.zeros(groups * np.int64(group_block), np.float32)
    base = np.empty(BLOCK, np.float32)
    most = np.empty(BLOCK, np.float32)
    change = np.empty(BLOCK, np.float32)
    wanted = np.empty(BLOCK, np.bool_)
    top[:] = 0
    count = 0
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        if started:
            for g in range(groups):
                at = np.uint64(g) * group_block
                _slice_block(
                    zero, values1[g], index1, weight1, factor1, values2[g], index2, weight2, factor2,
                    first, size, planes, at,
                )  # fmt: skip
        change[:] = 0
        # Message of the base label: the total less the others'.
        w1, w2 = weights[0], weights[1]
        if not started:
            base[:] = 0
            planes[: labels * BLOCK] = 0
        elif symmetric:
            total1, total2 = total[0, first : first + size], total[1, first : first + size]
            for b in range(size):
                base[b] = w1 * total1[b] + w2 * total2[b]
        else:
            base[:] = w1 + w2
        for k in range(labels):
            row = planes[k * BLOCK : k * BLOCK + size]
            for b in range(size):
                base[b] -= row[b]
        most[:] = 0  # the base's own exponent
        for k in range(labels):
            row = planes[k * BLOCK : k * BLOCK + size]
            ahead = advantage[k, first : first + size]
            for b in range(size):
                row[b] += ahead[b] - base[b]
                most[b] = max(most[b], row[b])
        for b in range(size):
            base[b] = exp_negative(-most[b])
        for k in range(labels):
            row = planes[k * BLOCK : k * BLOCK + size]
            for b in range(size):
                row[b] = exp_negative(row[b] - most[b])
                base[b] += row[b]
        for b in range(size):
            base[b] = np.float32(1) / base[b]
        for k in range(labels):
            row = planes[k * BLOCK : k * BLOCK + size]
            before = splatted[k, first : first + size]
            largest = np.float32(0)
            for b in range(size):
                row[b] *= base[b]
                largest = max(largest, row[b])
                change[b] = max(change[b], abs(row[b] - before[b]))
            top[k] = max(top[k], largest)
        if out.size > 0:
            for k in range(labels):
                out[k, first : first + size] = planes[k * BLOCK : k * BLOCK + size]
            continue
        here = np.int32(0)
        for b in range(size):
            wanted[b] = change[b] > tolerance
            here += np.int32(1) if wanted[b] else np.int32(0)
        if here == 0:
            continue
        count += here
        for k in range(labels):
            row = planes[k * BLOCK : k * BLOCK + size]
            before = splatted[k, first : first + size]
            for b in range(size):
                value = row[b]
                row[b] = value - before[b]
                before[b] = value if wanted[b] else before[b]
        for g in range(groups):
            at = np.uint64(g) * group_block
            _splat_block(zero, sums1[g], index1, weight1, first, size, symmetric, factor1, planes, at, wanted)
            _splat_block(zero, sums2[g], index2, weight2, first, size, symmetric, factor2, planes, at, wanted)
    return count


@njit(nogil=True, cache=True)
def _blur4(*arguments):
    _blur(zeros4(), *arguments)


@njit(nogil=True, cache=True)
def _blur8(*arguments):
    _blur(zeros8(), *arguments)


@njit(nogil=True, cache=True)
def _update4(*arguments):
    return _update(zeros4(), *arguments)


@njit(nogil=True, cache=True)
def _update8(*arguments):
    return _update(zeros8(), *arguments)


@njit(nogil=True, cache=True, fastmath=_FAST)
def filter_columns(columns, index, weight, chains, points):
    """Splat, blur and slice of 8 columns (n, 8) together, up to a constant factor; (n, 8) float32."""
    zero = zeros8()
    width = lanes_of(zero)
    n, corners = np.uint64(columns.shape[0]), np.uint64(index.shape[1])
    flat = columns.reshape(columns.size)
    sums = np.zeros((1, points * np.int64(width)), np.float32)
    values = np.empty_like(sums)
    splatted = sums[0]
    for i in range(n):
        column = load(flat, np.uint64(i) * width, zero)
        for r in range(corners):
            o = np.uint64(index[i, np.uint64(r)]) * width
            store(splatted, o, madd(load(splatted, o, zero), weight[i, np.uint64(r)], column))
    _blur(zero, sums, np.float32(1), chains, values)
    blurred = values[0]
    out = np.empty(columns.size, np.float32)
    for i in range(n):
        total = zero
        for r in range(corners):
            o = np.uint64(index[i, np.uint64(r)]) * width
            total = madd(total, weight[i, np.uint64(r)], load(blurred, o, zero))
        store(out, np.uint64(i) * width, total)
    return out.reshape(columns.shape)


def kernels_of(lanes: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compiled kernels (blur, update) for values in vectors of 4 or 8 lanes; arguments as `_blur`, `_update`."""
    return {4: (_blur4, _update4), 8: (_blur8, _update8)}[lanes]


@njit(nogil=True, cache=True)
def to_labels(planes, column_labels, base, labels):
    """First label of largest Q, from planes (columns, n) of all labels but the base; column label -1 is no label."""
    for i in range(planes.shape[1]):
        rest = np.float32(1)
        for c in range(planes.shape[0]):
            rest -= planes[c, i]
        best, largest = base, rest
        for c in range(planes.shape[0]):
            k = column_labels[c]
            q = planes[c, i]
            if k >= 0 and (q > largest or (q == largest and k < best)):
                best, largest = k, q
        labels[i] = best


@njit(nogil=True, cache=True, fastmath=_FAST)
def to_marginals(planes, column_labels, base, unary, log_sum, q):
    """Fill q (L+1, n) from planes (columns, n) of all labels but the base.

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
        left[:] = 1
        for c in range(planes.shape[0]):
            plane = planes[c, first : first + size]
            for b in range(size):
                left[b] -= plane[b]
            if column_labels[c] >= 0:
                result = q[column_labels[c], first : first + size]
                for b in range(size):
                    result[b] = plane[b]
        result = q[base, first : first + size]
        for b in range(size):
            result[b] = max(left[b], np.float32(0))
        if merged >= 0:
            plane, normal = planes[merged, first : first + size], log_sum[first : first + size]
            share[:] = np.float32(1e-37)
            for k in range(labels):
                if not has_column[k]:
                    energy, result = unary[k, first : first + size], q[k, first : first + size]
                    for b in range(size):
                        result[b] = exp_negative(min(normal[b] - energy[b], np.float32(0)))
                        share[b] += result[b]
            for b in range(size):
                share[b] = plane[b] / share[b]
            for k in range(labels):
                if not has_column[k]:
                    result = q[k, first : first + size]
                    for b in range(size):
                        result[b] *= share[b]
