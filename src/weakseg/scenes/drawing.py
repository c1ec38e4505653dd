"""Drawing with NumPy: shapes as signed distances, two-tone textures, smooth noise.

Coordinates u (right) and v (down) are in units of half the height of what is drawn, its centre at 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Shape = tuple[str, tuple[float, ...]]
"""Kind and numbers of a shape; the kinds and the meaning of their numbers stand at `signed_distance`."""


def _ellipse(u: np.ndarray, v: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    turn = p[4] if len(p) > 4 else 0.0
    cosine, sine = np.cos(turn), np.sin(turn)
    x, y = u - p[0], v - p[1]
    x, y = (cosine * x + sine * y) / p[2], (cosine * y - sine * x) / p[3]
    return (np.sqrt(x * x + y * y) - 1) * min(p[2], p[3])


def _box(u: np.ndarray, v: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    rounding = p[4] if len(p) > 4 else 0.0
    x, y = np.abs(u - p[0]) - (p[2] - rounding), np.abs(v - p[1]) - (p[3] - rounding)
    outside = np.sqrt(np.maximum(x, 0) ** 2 + np.maximum(y, 0) ** 2)
    return outside + np.minimum(np.maximum(x, y), 0) - rounding


def _line(u: np.ndarray, v: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    x0, y0, x1, y1, radius = p
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return np.hypot(u - x0 - along * dx, v - y0 - along * dy) - radius


def _polygon(u: np.ndarray, v: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    x, y = np.array(p[0::2]), np.array(p[1::2])
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:  # the outer side of an edge needs one sense of rotation
        x, y = x[::-1], y[::-1]
    distance = np.full(u.shape, -np.inf, dtype=np.float32)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        length = np.hypot(x1 - x0, y1 - y0) + 1e-9
        distance = np.maximum(distance, ((u - x0) * (y1 - y0) - (v - y0) * (x1 - x0)) / length)
    return distance


def _ring(u: np.ndarray, v: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    return np.abs(np.hypot(u - p[0], v - p[1]) - p[2]) - p[3]


_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, tuple[float, ...]], np.ndarray]] = {
    "ellipse": _ellipse,
    "box": _box,
    "line": _line,
    "polygon": _polygon,
    "ring": _ring,
}


def signed_distance(shape: Shape, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the outline, negative within (near it exact enough to smooth an edge).

    Args:
        shape: ("ellipse", (centre u, v, radii u, v[, turn in radians])), ("box", (centre u, v, half sides u, v
            [, rounding])), ("line", (u0, v0, u1, v1, radius)) with round ends, ("polygon", (u0, v0, u1, v1, ...))
            convex, ("ring", (centre u, v, radius, half width)).
        u, v: coordinates, (h, w).
    """
    kind, numbers = shape
    return _SHAPES[kind](u, v, numbers)


def coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of each pixel within the outline, 0..1, from signed distances and the side of a pixel in their unit."""
    return np.clip(0.5 - distance / pixel, 0, 1)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell_px: float) -> np.ndarray:
    """Noise (height, width) float32 in [-1, 1]: random values at a grid of `cell_px`, bilinear between them."""
    rows, columns = _interpolation(height, cell_px), _interpolation(width, cell_px)
    grid = rng.uniform(-1, 1, (rows.shape[1], columns.shape[1])).astype(np.float32)
    return rows @ grid @ columns.T


def _interpolation(size: int, cell_px: float) -> np.ndarray:
    """Matrix (size, cells) that interpolates linearly from grid points every `cell_px` pixels."""
    position = np.arange(size) / cell_px
    cell = position.astype(int)
    weights = np.zeros((size, int(cell[-1]) + 2), dtype=np.float32)
    share = (position - cell).astype(np.float32)
    weights[np.arange(size), cell] = 1 - share
    weights[np.arange(size), cell + 1] = share
    return weights


def _sharp(values: np.ndarray) -> np.ndarray:
    """Waves with flatter tops, still smooth at the pixel scale."""
    return np.tanh(2.5 * values)


def _noise(u: np.ndarray, rng: np.random.Generator, cells: float) -> np.ndarray:
    """Noise with this many cells over the height of what is drawn (u spans a patch of its size)."""
    return smooth_noise(rng, u.shape[0], u.shape[1], max(1.5, u.shape[0] / cells))


# Any: the types check takes four seconds over the overloads of these formulas.
_TEXTURES: dict[str, Callable[[Any, Any, np.random.Generator], np.ndarray]] = {
    "plain": lambda u, v, rng: np.zeros_like(u),
    "gloss": lambda u, v, rng: np.clip(-2.2 * v - 0.2, -1, 1) + 0.5 * np.exp(-((v + 0.35) ** 2) / 0.01),
    "glass": lambda u, v, rng: 1.6 * np.exp(-((u + 0.14) ** 2) / 0.006) - 0.6 + 0.4 * u,
    "stripes_h": lambda u, v, rng: _sharp(np.sin(15 * v + rng.uniform(0, 6.3))),
    "stripes_v": lambda u, v, rng: _sharp(np.sin(15 * u + rng.uniform(0, 6.3))),
    "stripes_d": lambda u, v, rng: _sharp(np.sin(11 * (u + v) + rng.uniform(0, 6.3))),
    "panels": lambda u, v, rng: 1 - 2.0 * (np.sin(7 * u + rng.uniform(0, 6.3)) > 0.9) + 0.4 * v,
    "planks": lambda u, v, rng: 1 - 2.0 * (np.sin(22 * v + rng.uniform(0, 6.3)) > 0.6) + 0.3 * _noise(u, rng, 9),
    "checks": lambda u, v, rng: _sharp(2 * np.sin(11 * u + rng.uniform(0, 6.3)) * np.sin(17 * v)),
    "diamonds": lambda u, v, rng: _sharp(np.sin(9 * (u + v) + rng.uniform(0, 6.3)) * np.sin(9 * (u - v)) * 2),
    "weave": lambda u, v, rng: 0.8 * np.sin(26 * u + rng.uniform(0, 6.3)) * np.sin(26 * v) + 0.4 * u,
    "blotches": lambda u, v, rng: np.tanh(7 * _noise(u, rng, 4.5)),
    "wool": lambda u, v, rng: (
        np.sin(17 * u + 3 * np.sin(8 * v)) * np.sin(17 * v + 3 * np.sin(9 * u + rng.uniform(0, 6.3)))
    ),
    "grain": lambda u, v, rng: np.sin(20 * u + 5 * _noise(u, rng, 4) + rng.uniform(0, 6.3)),
    "scales": lambda u, v, rng: np.cos(15 * (u + 0.35 * np.abs(np.sin(8 * v)))),
    "fur": lambda u, v, rng: 1.2 * _noise(u, rng, 16) + 0.3 * v,
    "tabby": lambda u, v, rng: _sharp(np.sin(15 * v + 2.2 * np.sin(4 * u + rng.uniform(0, 6.3)))),
    "spokes": lambda u, v, rng: np.cos(9 * np.arctan2(v, u + 1e-6) + rng.uniform(0, 6.3)),
    "leaf": lambda u, v, rng: np.sin(13 * (np.abs(u) + v) + rng.uniform(0, 6.3)) + 0.4 * _noise(u, rng, 8),
    "net": lambda u, v, rng: (
        1
        - 5
        * np.minimum(np.abs(np.sin(9 * u + np.sin(6 * v) + rng.uniform(0, 6.3))), np.abs(np.sin(8 * v + np.sin(7 * u))))
    ),
    "spots": lambda u, v, rng: np.tanh(6 * (_noise(u, rng, 11) + 0.35)),
    "scan": lambda u, v, rng: 0.8 * np.sin(24 * v) + 0.9 * _noise(u, rng, 5),
}

TEXTURES: tuple[str, ...] = tuple(_TEXTURES)
"""Names of the textures."""


def texture(name: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A two-tone pattern (h, w) in [0, 1]: 0 shows the first colour, 1 the second."""
    return np.clip(0.5 + 0.5 * _TEXTURES[name](u, v, rng), 0, 1)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB (3,) float32, 0..255, of a hue in turns and saturation and value in 0..1."""
    turn = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return (255 * value * (1 - saturation * np.clip(np.minimum(turn, 4 - turn), 0, 1))).astype(np.float32)
