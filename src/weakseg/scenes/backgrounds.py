"""Backgrounds of the generated scenes: five kinds of place, and clutter that belongs to no class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from weakseg.scenes.drawing import coverage, hsv, signed_distance, smooth_noise, texture


@dataclass(frozen=True)
class Background:
    """A painted place.

    Attributes:
        rgb: (H, W, 3) float32, 0..255.
        horizon: row at which the ground begins; what stands on the ground stands below it.
    """

    rgb: np.ndarray
    horizon: int


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return (first + np.clip(share, 0, 1)[..., None] * (second - first)).astype(np.float32)


def _sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Blue, grey or evening sky with clouds, (height, width, 3)."""
    hue, saturation, value = ((0.57, 0.45, 0.9), (0.6, 0.12, 0.75), (0.06, 0.35, 0.95), (0.57, 0.65, 0.75))[
        rng.integers(4)
    ]
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None] * np.ones((1, width), dtype=np.float32)
    sky = _mix(hsv(hue, saturation, value), hsv(hue, saturation * 0.4, min(1, value * 1.15)), down)
    clouds = smooth_noise(rng, height, width, height / 2) + 0.5 * smooth_noise(rng, height, width, height / 6 + 2)
    return _mix(sky, np.full(3, 245, np.float32), 1.2 * clouds - rng.uniform(-0.1, 0.6))


def _ground_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    fine = smooth_noise(rng, height, width, 2.2)
    return 0.55 * fine + 0.45 * smooth_noise(rng, height, width, 14)


def _meadow(rng: np.random.Generator, height: int, width: int) -> Background:
    horizon = int(height * rng.uniform(0.25, 0.45))
    rgb = _sky(rng, height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    hills = horizon - 0.1 * height * (0.6 + smooth_noise(rng, 1, width, width / 4)[0])
    hue = rng.uniform(0.2, 0.36)
    rgb = _mix(rgb, hsv(hue + 0.05, 0.35, 0.5), rows - hills[None])
    tall = 0.5 + 0.5 * np.sin(columns * 1.9 + 6 * smooth_noise(rng, height, width, 9))
    grass = _mix(
        hsv(hue, 0.6, 0.38),
        hsv(hue - 0.04, 0.55, 0.7),
        0.5 + 0.4 * _ground_noise(rng, height, width) + 0.25 * (tall - 0.5),
    )
    return Background(_mix(rgb, grass, rows - horizon), horizon)


def _water(rng: np.random.Generator, height: int, width: int) -> Background:
    horizon = int(height * rng.uniform(0.3, 0.5))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    hue = rng.uniform(0.48, 0.6)
    depth = np.maximum(rows - horizon, 0) / (height - horizon)
    waves = np.sin(26 * np.sqrt(depth + 0.01) * 2.2 + 2.5 * smooth_noise(rng, height, width, 16) + columns * 0.03)
    sea = _mix(hsv(hue, 0.6, 0.4), hsv(hue, 0.4, 0.75), 0.45 + 0.3 * waves + 0.2 * smooth_noise(rng, height, width, 3))
    return Background(_mix(_sky(rng, height, width), sea, rows - horizon), horizon)


def _street(rng: np.random.Generator, height: int, width: int) -> Background:
    horizon = int(height * rng.uniform(0.38, 0.52))
    rgb = _sky(rng, height, width)
    rows, columns = np.mgrid[0:height, 0:width]
    left = -int(rng.integers(0, width // 6))
    while left < width:
        wide, top = int(width * rng.uniform(0.16, 0.32)), int(horizon * rng.uniform(0.05, 0.65))
        face = hsv(rng.uniform(0, 0.15), rng.uniform(0.05, 0.45), rng.uniform(0.4, 0.85))
        step = int(rng.integers(7, 11))
        x, y = columns - left, rows - top
        inside = (x >= 0) & (x < wide) & (y >= 0) & (rows < horizon)
        windows = inside & (x % step > step // 2) & (y % (step + 1) > step // 2) & (x > 2)
        rgb[inside] = face
        rgb[windows] = face * 0.45 + (30 if rng.random() < 0.7 else 110)
        left += wide
    grey = rng.uniform(85, 140)
    road = grey + 16 * _ground_noise(rng, height, width)[..., None] + np.zeros(3, np.float32)
    rgb = _mix(rgb, road.astype(np.float32), (rows - horizon).astype(np.float32))
    line = int(horizon + (height - horizon) * rng.uniform(0.35, 0.8))
    dashes = (np.abs(rows - line) < 1.5) & ((columns + int(rng.integers(0, 30))) % 30 < 16)
    rgb[dashes] = 215
    rgb[(rows >= horizon) & (rows < horizon + 3)] = grey + 40
    return Background(rgb.astype(np.float32), horizon)


def _room(rng: np.random.Generator, height: int, width: int) -> Background:
    horizon = int(height * rng.uniform(0.42, 0.58))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    hue, value = rng.uniform(0, 1), rng.uniform(0.55, 0.92)
    pattern = ("stripes_v", "plain", "diamonds", "plain")[rng.integers(4)]
    paper = 0.5 + 0.5 * (texture(pattern, columns / 45, rows / 45, rng) - 0.5)
    wall = _mix(hsv(hue, 0.22, value * 0.85), hsv(hue, 0.16, value), paper)
    if rng.random() < 0.6:  # a picture or a window on the wall
        left, top = rng.uniform(0.05, 0.65) * width, rng.uniform(0.05, 0.2) * height
        wide, high = rng.uniform(0.15, 0.28) * width, rng.uniform(0.4, 0.65) * horizon
        frame = (columns > left) & (columns < left + wide) & (rows > top) & (rows < top + high)
        inner = (columns > left + 3) & (columns < left + wide - 3) & (rows > top + 3) & (rows < top + high - 3)
        wall[frame] = hsv(0.08, 0.5, rng.uniform(0.25, 0.8))
        wall[inner] = hsv(rng.uniform(0, 1), 0.35, 0.75)
        wall[inner & (smooth_noise(rng, height, width, 9) > 0.1)] = hsv(rng.uniform(0, 1), 0.3, 0.55)
    depth = np.maximum(rows - horizon, 0) / (height - horizon)
    if rng.random() < 0.6:  # boards that run away from the viewer
        board = np.floor((columns - width / 2) / (12 + 16 * depth))
        tone = 0.5 + 0.25 * np.sin(board * 12.9) + 0.3 * smooth_noise(rng, height, width, 5)
        floor = _mix(hsv(0.08, 0.55, 0.45), hsv(0.09, 0.45, 0.72), tone)
    else:  # a carpet
        floor = _mix(hsv(hue + 0.4, 0.35, 0.4), hsv(hue + 0.4, 0.3, 0.6), 0.5 + 0.5 * _ground_noise(rng, height, width))
    rgb = _mix(wall, floor, rows - horizon)
    rgb[horizon - 3 : horizon] = hsv(hue, 0.08, min(1, value * 1.08))
    return Background(rgb, horizon)


def _field(rng: np.random.Generator, height: int, width: int) -> Background:
    """Mostly sky, over sand or an airfield."""
    horizon = int(height * rng.uniform(0.6, 0.75))
    rows = np.mgrid[0:height, 0:width][0].astype(np.float32)
    hue = rng.choice([0.1, 0.12, 0.25, 0.6])
    sand = _mix(hsv(hue, 0.3, 0.5), hsv(hue, 0.25, 0.8), 0.5 + 0.4 * _ground_noise(rng, height, width))
    return Background(_mix(_sky(rng, height, width), sand, rows - horizon), horizon)


_PLACES: dict[str, Callable[[np.random.Generator, int, int], Background]] = {
    "meadow": _meadow,
    "water": _water,
    "street": _street,
    "room": _room,
    "field": _field,
}

PLACES: tuple[str, ...] = tuple(_PLACES)
"""Kinds of background."""


def paint_background(place: str, rng: np.random.Generator, height: int, width: int) -> Background:
    """A background of one kind, with colours and details of its own."""
    return _PLACES[place](rng, height, width)


_PATTERNS = ("plain", "stripes_d", "checks", "blotches", "fur", "gloss", "weave")


def paint_clutter(
    rgb: np.ndarray, rng: np.random.Generator, *, count: int, size: tuple[float, float], top: int
) -> np.ndarray:
    """Paint things of no class (stones, crates, balls, posts) into `rgb` (H, W, 3), below row `top`.

    Args:
        rgb: changed in place.
        rng: source of randomness.
        count: how many.
        size: smallest and largest half height in pixels.
        top: first row where their centres may lie.

    Returns:
        (H, W) bool, the pixels they cover by more than half.
    """
    height, width = rgb.shape[:2]
    covered = np.zeros((height, width), dtype=bool)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    for _ in range(count):
        half = rng.uniform(*size)
        u = (columns - rng.uniform(0, width)) / half
        v = (rows - rng.uniform(top, height)) / half
        near = np.maximum(np.abs(u), np.abs(v)) < 2.2
        if not near.any():
            continue
        y0, y1 = np.flatnonzero(near.any(1))[[0, -1]]
        x0, x1 = np.flatnonzero(near.any(0))[[0, -1]]
        window = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        u, v = u[window], v[window]
        kind = rng.integers(4)
        wide = rng.uniform(0.5, 1.5)
        shapes = (
            ("ellipse", (0.0, 0.0, wide, 0.8, rng.uniform(-0.5, 0.5))),
            ("box", (0.0, 0.0, wide, 0.8, 0.1)),
            ("polygon", (-wide, 0.8, wide, 0.8, rng.uniform(-0.5, 0.5), -0.9)),
            ("line", (0.0, -1.6, rng.uniform(-0.2, 0.2), 1.6, 0.18)),
        )
        share = coverage(signed_distance(shapes[kind], u, v), 1 / half)
        hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.1, 0.65), rng.uniform(0.25, 0.85)
        pattern = texture(_PATTERNS[rng.integers(len(_PATTERNS))], u, v, rng)
        paint = _mix(hsv(hue, saturation, value * 0.65), hsv(hue, saturation, value), pattern)
        patch = rgb[window]
        patch += share[..., None].astype(np.float32) * (paint - patch)
        covered[window] |= share > 0.5
    return covered
