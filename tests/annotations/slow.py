"""Plain twins of what makes label maps from boxes: one pixel and one box at a time, after the released code."""

import numpy as np
from scipy import ndimage


def covers(box, row, column):
    return box.top <= row <= box.bottom and box.left <= column <= box.right


def bbox_rect(boxes, size):
    """The smallest box at each pixel; of equal extent the later one."""
    out = np.zeros(size, dtype=np.uint8)
    for row in range(size[0]):
        for column in range(size[1]):
            best = None
            for box in boxes:
                if covers(box, row, column) and (best is None or box.extent <= best.extent):
                    best = box
            out[row, column] = 0 if best is None else best.label
    return out


def core(box, size, alpha):
    """The mask of a box's core, eroded as an image."""
    mask = np.zeros(size, dtype=bool)
    mask[box.top : box.bottom + 1, box.left : box.right + 1] = True
    if mask.sum() < 121 or box.height < 10 or box.width < 10:
        return mask
    whole = mask.sum()
    mask[[0, -1]] = False
    mask[:, [0, -1]] = False
    while True:
        smaller = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
        if not smaller.any():
            return mask
        mask = smaller
        if mask.sum() / whole < alpha + 0.05:
            return mask


def probabilities(boxes, size, alpha, occluder_bias=0.0, labels=21):
    """(21, H, W) float64: every label of VOC, the absent ones too."""
    chances = np.full((labels, *size), 1e-12)
    count = np.zeros((labels, *size))
    by_size = sorted(boxes, key=lambda box: -box.extent)
    for k, box in enumerate(by_size, start=1):
        middle = core(box, size, alpha)
        for row in range(box.top, box.bottom + 1):
            for column in range(box.left, box.right + 1):
                inner = middle[row, column]
                chances[box.label, row, column] += (0.75 + occluder_bias * k) if inner else 0.5
                chances[0, row, column] += 0.25 if inner else 0.5
                count[box.label, row, column] += 1
                count[0, row, column] += 1
    outside = count[0] == 0
    chances[0, outside] = 1 - 1e-12
    count[0, outside] = 1
    for label in range(labels):
        chances[label] /= np.where(count[label] == 0, 1, count[label])
    return chances / chances.sum(0)
