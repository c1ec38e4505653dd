"""Plain twins of the E-steps: one image, one label, one cell at a time, after the released layers."""

import math

import numpy as np


def argmax_higher(scores):
    """Label of the largest score at each cell of (L+1, h, w); the higher of equal ones."""
    labels, height, width = scores.shape
    out = np.zeros((height, width), dtype=np.int64)
    for i in range(height):
        for j in range(width):
            for label in range(labels):
                if scores[label, i, j] >= scores[out[i, j], i, j]:
                    out[i, j] = label
    return out


def em_fixed(scores, present, bg_bias, fg_bias):
    biased = scores.copy()
    for label in range(len(present)):
        if present[label]:
            biased[label] += np.asarray(bg_bias if label == 0 else fg_bias, dtype=scores.dtype)
    return argmax_higher(biased)


def bbox_em_fixed(scores, box_map, bg_bias, fg_bias):
    biased = scores.copy()
    for i in range(box_map.shape[0]):
        for j in range(box_map.shape[1]):
            if box_map[i, j] != 255:
                biased[0, i, j] += np.asarray(bg_bias, dtype=scores.dtype)
                if box_map[i, j] != 0:
                    biased[box_map[i, j], i, j] += np.asarray(fg_bias, dtype=scores.dtype)
    return argmax_higher(biased)


def em_adapt(scores, present, bg_portion, fg_portion, orders, valid=None):
    """`orders`: for each round the labels in the order to visit. Returns the label map and the biases by label."""
    f = scores.copy()
    labels, height, width = f.shape
    valid = np.ones((height, width), dtype=bool) if valid is None else valid
    shown = [label for label in range(labels) if present[label]]
    biases = {label: [0.0] for label in shown}
    if not shown:
        return argmax_higher(f), biases
    lowest = np.min([f[label] for label in shown], axis=0)
    for label in range(labels):
        if label not in shown:
            # Below the lowest present one, also where 1e-5 is lost to rounding.
            below = np.minimum(lowest - np.asarray(1e-5, f.dtype), np.nextafter(lowest, -np.inf, dtype=f.dtype))
            f[label] = np.where(f[label] >= lowest, below, f[label])
    for order in orders:
        for label in order:
            highest = np.max([f[k] for k in shown], axis=0)
            gaps = sorted((highest - f[label])[valid])
            if not gaps:
                continue
            portion = bg_portion if label == 0 else fg_portion
            raise_by = gaps[min(math.floor(portion * len(gaps)), len(gaps) - 1)]
            f[label] = f[label] + raise_by
            biases[label].append(biases[label][-1] + float(raise_by))
    return argmax_higher(f), biases
