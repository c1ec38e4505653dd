"""Drawing an object of a class, with colours, proportions and a pose of its own."""

from dataclasses import dataclass

import numpy as np

from weakseg.scenes.drawing import Shape, coverage, hsv, signed_distance, texture
from weakseg.scenes.looks import ObjectClass
from weakseg.scenes.objects import VOC_OBJECTS
from weakseg.scenes.objects_more import MORE_OBJECTS

OBJECTS: dict[str, ObjectClass] = VOC_OBJECTS | MORE_OBJECTS
"""All classes that can be drawn, by name."""

PART_SHARE = 0.85
"""Share of the objects that show their tell-tale part."""

_SKIN = ((0.06, 0.35, 0.92), (0.06, 0.45, 0.75), (0.06, 0.55, 0.5), (0.06, 0.5, 0.33))


@dataclass(frozen=True)
class Sprite:
    """A drawn object.

    Attributes:
        rgb: (h, w, 3) float32, 0..255.
        cover: (h, w) float32, share of the pixel that it covers.
        part: (h, w) bool, pixels of its tell-tale part.
    """

    rgb: np.ndarray
    cover: np.ndarray
    part: np.ndarray


def _jittered(shape: Shape, rng: np.random.Generator) -> Shape:
    kind, numbers = shape
    return kind, tuple(n + d for n, d in zip(numbers, rng.normal(0, 0.012, len(numbers)).tolist(), strict=True))


def _own_colours(look: ObjectClass, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The two tones of each of the object's own paints."""
    hue, saturation, value = look.colours[rng.integers(len(look.colours))]

    def tone(lighter: float, turn: float) -> np.ndarray:
        return hsv(
            (hue + turn + rng.normal(0, 0.03)) % 1,
            float(np.clip(saturation * rng.uniform(0.7, 1.25), 0, 1)),
            float(np.clip(value * lighter * rng.uniform(0.85, 1.15), 0.08, 1)),
        )

    body = (tone(0.68, 0.0), tone(1.25, float(rng.choice([0.0, 0.0, 0.04, -0.06]))))
    turn = float(rng.choice([0.0, 0.5, 0.33, 0.08]))
    skin = hsv(*_SKIN[rng.integers(len(_SKIN))])
    return {"body": body, "trim": (tone(0.5, turn), tone(0.85, turn)), "skin": (skin, skin)}


def draw_object(name: str, height_px: float, rng: np.random.Generator, *, part: bool | None = None) -> Sprite:
    """Draw one object of a class, with its own proportions, pose, colours and texture phase.

    Args:
        name: a class name, not the background.
        height_px: height of the upright body in pixels.
        rng: source of all its randomness.
        part: whether the tell-tale part shows; None: in `PART_SHARE` of the objects.
    """
    look = OBJECTS[name]
    stretch, shear, turn = rng.uniform(0.88, 1.14), rng.normal(0, 0.05), rng.normal(0, 0.05)
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    shows_part = bool(rng.random() < PART_SHARE) if part is None else part
    pixel = 2 / height_px
    half_h = int(np.ceil(height_px * (0.54 + 0.03 * look.aspect))) + 1
    half_w = int(np.ceil(height_px * 0.54 * look.aspect * stretch)) + 3
    y, x = np.mgrid[-half_h : half_h + 1, -half_w : half_w + 1].astype(np.float32) * np.float32(pixel)
    x *= mirrored
    u = ((np.cos(turn) * x + np.sin(turn) * y) / stretch + shear * y).astype(np.float32)
    v = (np.cos(turn) * y - np.sin(turn) * x).astype(np.float32)
    colours = _own_colours(look, rng)
    patterns: dict[str, np.ndarray] = {}
    rgb = np.zeros((*u.shape, 3), dtype=np.float32)
    cover = np.zeros(u.shape, dtype=np.float32)
    marked = np.zeros(u.shape, dtype=bool)
    for number, layer in enumerate((*look.layers, *(look.part if shows_part else ()))):
        of_part = number >= len(look.layers)
        shape = layer.shape if of_part else _jittered(layer.shape, rng)
        share = coverage(signed_distance(shape, u, v), pixel).astype(np.float32)
        if isinstance(layer.paint, str):
            first, second = colours[layer.paint]
            pattern = layer.texture or (look.texture if layer.paint != "skin" else "plain")
        else:
            first, second = (np.float32(0.6) * np.array(layer.paint, np.float32), np.array(layer.paint, np.float32))
            pattern = layer.texture or "solid"
        if pattern == "solid":
            paint: np.ndarray = second
        elif pattern == "spokes":  # turns about the wheel's own axle
            about = layer.shape[1]
            paint = _blend(first, second, texture(pattern, u - about[0], v - about[1], rng))
        else:
            if pattern not in patterns:
                patterns[pattern] = texture(pattern, u, v, rng)
            paint = _blend(first, second, patterns[pattern])
        weight = np.where(cover > 0, share, share > 0).astype(np.float32)  # nothing below: no dark fringe
        rgb += weight[..., None] * (paint - rgb)
        cover = np.maximum(cover, share)
        marked = (marked | (share > 0.5)) if of_part else marked
    shade = 1 - 0.12 * v[..., None]  # light comes from above
    return Sprite(np.clip(rgb * shade, 0, 255), cover, marked)


def _blend(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + share[..., None].astype(np.float32) * (second - first)
