"""Plain twins: mean field as double loops over pixels, and images and unaries to try engines on."""

import math

import numpy as np

from weakseg.crf import CRFParams


def mean_field_loops(
    unary: np.ndarray, image: np.ndarray, params: CRFParams, iterations: int, normalization: str = "after"
) -> np.ndarray:
    """Q by Krähenbühl and Koltun 2011, Algorithm 1, one pair of pixels after the other; (L+1, H, W) float64."""
    labels, height, width = unary.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]

    def kernel(a: tuple[int, int], b: tuple[int, int], which: int) -> float:
        distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        if which == 1:
            return math.exp(-distance / (2 * params.sigma_pos**2))
        colour = sum((float(image[a][c]) - float(image[b][c])) ** 2 for c in range(3))
        return math.exp(-distance / (2 * params.sigma_xy**2) - colour / (2 * params.sigma_rgb**2))

    def softmax(values: list[float]) -> list[float]:
        top = max(values)
        powers = [math.exp(v - top) for v in values]
        return [p / sum(powers) for p in powers]

    q = {p: softmax([-float(unary[k][p]) for k in range(labels)]) for p in pixels}
    mass = {(p, which): sum(kernel(p, o, which) for o in pixels) for p in pixels for which in (0, 1)}
    for _ in range(iterations):
        following = {}
        for p in pixels:
            values = [-float(unary[k][p]) for k in range(labels)]
            for which, weight in ((0, params.w), (1, params.w_pos)):
                for o in pixels:
                    norm = mass[p, which]
                    if normalization == "symmetric":
                        norm = math.sqrt(mass[p, which] * mass[o, which])
                    for k in range(labels):
                        values[k] += weight * kernel(p, o, which) / norm * q[o][k]
            following[p] = softmax(values)
        q = following
    return np.array([[[q[y, x][k] for x in range(width)] for y in range(height)] for k in range(labels)])


def patches(height: int, width: int, seed: int = 0, noise: float = 8.0) -> np.ndarray:
    """An image of a few smooth coloured patches with noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for _ in range(6):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.1, 0.5) * min(height, width)
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    image += x[..., None] * 20 / width + rng.normal(0, noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def blobs(labels: int, height: int, width: int, seed: int = 0, sharpness: float = 4.0, likely: int = 4) -> np.ndarray:
    """A unary like a network's: smooth score maps on a coarse grid, few labels likely; (labels, H, W) float32."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (labels, height // 16 + 2, width // 16 + 2)) * sharpness
    coarse[likely:] -= 2 * sharpness
    ys = np.linspace(0, coarse.shape[1] - 1.001, height)
    xs = np.linspace(0, coarse.shape[2] - 1.001, width)
    iy, ix = ys.astype(int), xs.astype(int)
    fy, fx = (ys - iy)[:, None], (xs - ix)[None]

    def corner(dy: int, dx: int) -> np.ndarray:
        return coarse[:, iy + dy][:, :, ix + dx]

    scores = (1 - fy) * ((1 - fx) * corner(0, 0) + fx * corner(0, 1)) + fy * (
        (1 - fx) * corner(1, 0) + fx * corner(1, 1)
    )
    shifted = scores - scores.max(0)
    return (np.log(np.exp(shifted).sum(0)) - shifted).astype(np.float32)
