"""What the twenty classes of the generated scenes look like: bodies, textures, colours and tell-tale parts.

Each class has a silhouette and a texture of its own and colours that it shares with others, so that shape and texture
decide, and one small mark of fixed high-contrast colours, its tell-tale part: a network that is taught only which
classes occur can live on the mark alone, one that is taught pixels cannot.
"""

from dataclasses import dataclass

import numpy as np

from weakseg.scenes.drawing import Shape, coverage, hsv, signed_distance, texture

Paint = str | tuple[int, int, int]
"""`body` or `trim` (the object's own colours), `skin`, or a fixed RGB colour."""

BLACK, WHITE, DARK, GREY = (18, 18, 20), (245, 245, 240), (45, 45, 50), (150, 152, 158)
RED, ORANGE, YELLOW, GREEN = (215, 30, 40), (240, 130, 25), (250, 210, 40), (60, 200, 80)
BLUE, PINK = (40, 80, 210), (240, 140, 160)
WINDOW = (175, 205, 225)

PART_SHARE = 0.85
"""Share of the objects that show their tell-tale part."""


@dataclass(frozen=True)
class Layer:
    """A painted shape; later layers cover earlier ones."""

    shape: Shape
    paint: Paint = "body"
    texture: str | None = None
    """In place of the class's own texture; a fixed paint is plain."""


@dataclass(frozen=True)
class ObjectClass:
    """How objects of a class look.

    Attributes:
        aspect: width over height.
        height: smallest and largest height as a share of the scene's.
        texture: the texture of `body` layers.
        colours: hue, saturation and value, a centre each, of which an object's body takes one at random.
        layers: the body, back to front, in units of half the height.
        part: the tell-tale part, drawn on top.
    """

    aspect: float
    height: tuple[float, float]
    texture: str
    colours: tuple[tuple[float, float, float], ...]
    layers: tuple[Layer, ...]
    part: tuple[Layer, ...]


def _e(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    return Layer(("ellipse", p), paint, tex)


def _b(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    return Layer(("box", p), paint, tex)


def _l(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    return Layer(("line", p), paint, tex)


def _p(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    return Layer(("polygon", p), paint, tex)


def _r(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    return Layer(("ring", p), paint, tex)


_METAL = ((0.6, 0.1, 0.85), (0.58, 0.5, 0.7), (0.0, 0.7, 0.7), (0.13, 0.6, 0.85), (0.4, 0.4, 0.55))
_FURS = ((0.07, 0.5, 0.55), (0.08, 0.35, 0.8), (0.6, 0.08, 0.35), (0.1, 0.12, 0.85), (0.06, 0.7, 0.4))
_CLOTH = ((0.0, 0.65, 0.6), (0.6, 0.5, 0.6), (0.33, 0.4, 0.5), (0.1, 0.3, 0.8), (0.8, 0.35, 0.55))
_WOOD = ((0.08, 0.6, 0.5), (0.09, 0.45, 0.7), (0.06, 0.6, 0.32), (0.55, 0.15, 0.6))

OBJECTS: dict[str, ObjectClass] = {
    "aeroplane": ObjectClass(
        2.0,
        (0.28, 0.40),
        "gloss",
        _METAL,
        (
            _p(0.55, -0.1, -0.05, -0.1, -0.6, -0.78, -0.3, -0.78, paint="trim"),
            _p(-1.0, -0.1, -1.6, -0.1, -1.95, -0.95, -1.5, -0.95),
            _l(-1.6, -0.02, 1.55, 0.06, 0.3),
            _p(-1.1, 0.02, -1.6, 0.02, -1.95, 0.35, -1.65, 0.35, paint="trim"),
            _e(1.5, -0.06, 0.2, 0.12, paint=DARK),
            *(_e(-0.9 + 0.38 * k, -0.06, 0.08, 0.09, paint=DARK) for k in range(6)),
            _p(0.6, 0.14, -0.2, 0.14, -0.95, 0.95, -0.6, 0.95, paint="trim"),
        ),
        (
            _e(-1.55, -0.55, 0.3, 0.3, paint=BLUE),
            _e(-1.55, -0.55, 0.2, 0.2, paint=WHITE),
            _e(-1.55, -0.55, 0.11, 0.11, paint=RED),
        ),
    ),
    "bicycle": ObjectClass(
        1.5,
        (0.36, 0.50),
        "plain",
        _METAL,
        (
            _e(-0.88, 0.4, 0.58, 0.58, paint=GREY, tex="spokes"),
            _e(0.88, 0.4, 0.58, 0.58, paint=GREY, tex="spokes"),
            _r(-0.88, 0.4, 0.55, 0.08, paint=BLACK),
            _r(0.88, 0.4, 0.55, 0.08, paint=BLACK),
            _l(-0.88, 0.4, -0.35, -0.35, 0.09),
            _l(-0.35, -0.35, 0.55, -0.4, 0.09),
            _l(0.5, -0.6, 0.88, 0.4, 0.09),
            _l(-0.4, -0.5, 0.0, 0.4, 0.09),
            _l(0.0, 0.4, 0.55, -0.4, 0.09),
            _l(-0.88, 0.4, 0.0, 0.4, 0.09),
            _l(-0.62, -0.6, -0.22, -0.6, 0.11, paint=DARK),
            _l(0.45, -0.8, 0.85, -0.72, 0.09, paint=DARK),
            _l(0.48, -0.78, 0.52, -0.5, 0.08, paint=DARK),
        ),
        (_e(0.0, 0.42, 0.25, 0.25, paint=YELLOW), _e(0.0, 0.42, 0.12, 0.12, paint=BLACK)),
    ),
    "bird": ObjectClass(
        1.3,
        (0.28, 0.42),
        "scales",
        ((0.55, 0.5, 0.6), (0.05, 0.5, 0.6), (0.1, 0.15, 0.85), (0.3, 0.4, 0.5), (0.6, 0.1, 0.4)),
        (
            _l(-0.1, 0.5, -0.15, 0.98, 0.05, paint=DARK),
            _l(0.15, 0.5, 0.12, 0.98, 0.05, paint=DARK),
            _p(-0.4, 0.05, -1.3, 0.4, -1.2, 0.65, -0.3, 0.45, paint="trim"),
            _e(0.0, 0.12, 0.75, 0.46, -0.35),
            _e(0.58, -0.48, 0.37, 0.36),
            _e(-0.2, 0.12, 0.5, 0.24, 0.3, paint="trim", tex="stripes_d"),
        ),
        (
            _p(0.85, -0.62, 1.3, -0.36, 0.84, -0.26, paint=ORANGE),
            _e(0.62, -0.55, 0.15, 0.15, paint=WHITE),
            _e(0.64, -0.55, 0.08, 0.08, paint=BLACK),
        ),
    ),
    "boat": ObjectClass(
        1.25,
        (0.42, 0.60),
        "planks",
        ((0.6, 0.5, 0.6), (0.0, 0.6, 0.6), (0.08, 0.6, 0.5), (0.1, 0.08, 0.9), (0.4, 0.45, 0.5)),
        (
            _l(0.0, -0.95, 0.0, 0.5, 0.05, paint=DARK),
            _p(0.07, -0.95, 0.07, 0.34, 0.88, 0.34, paint="trim", tex="stripes_h"),
            _p(-0.07, -0.75, -0.07, 0.34, -0.7, 0.34, paint=WHITE),
            _p(-1.2, 0.44, 1.25, 0.44, 0.85, 1.0, -0.85, 1.0),
            _b(0.02, 0.47, 1.2, 0.06, 0.03, paint="trim", tex="plain"),
        ),
        (
            _r(0.5, 0.7, 0.17, 0.08, paint=ORANGE),
            _e(0.5, 0.7, 0.1, 0.1, paint=WHITE),
            _l(0.3, 0.7, 0.36, 0.7, 0.07, paint=WHITE),
            _l(0.64, 0.7, 0.7, 0.7, 0.07, paint=WHITE),
        ),
    ),
    "bottle": ObjectClass(
        0.42,
        (0.34, 0.52),
        "glass",
        ((0.35, 0.6, 0.35), (0.08, 0.7, 0.35), (0.55, 0.3, 0.6), (0.0, 0.6, 0.4), (0.14, 0.4, 0.7)),
        (
            _b(0.0, -0.5, 0.14, 0.45, 0.05),
            _e(0.0, -0.12, 0.33, 0.3),
            _b(0.0, 0.42, 0.35, 0.57, 0.12),
            _b(0.0, -0.9, 0.17, 0.1, 0.04, paint="trim", tex="plain"),
        ),
        (_b(0.0, 0.4, 0.3, 0.19, 0.03, paint=WHITE), _e(0.0, 0.4, 0.15, 0.15, paint=RED)),
    ),
    "bus": ObjectClass(
        1.7,
        (0.40, 0.54),
        "gloss",
        ((0.0, 0.75, 0.75), (0.14, 0.75, 0.85), (0.6, 0.55, 0.65), (0.4, 0.5, 0.5), (0.1, 0.08, 0.9)),
        (
            _b(0.0, -0.05, 1.65, 0.85, 0.16),
            _b(0.0, 0.28, 1.65, 0.13, paint="trim", tex="plain"),
            *(_b(-1.22 + 0.62 * k, -0.2, 0.26, 0.27, 0.05, paint=WINDOW, tex="plain") for k in range(5)),
            _b(0.0, 0.75, 1.6, 0.07, paint=DARK),
            _e(-1.0, 0.74, 0.26, 0.26, paint=BLACK),
            _e(1.0, 0.74, 0.26, 0.26, paint=BLACK),
            _e(-1.0, 0.74, 0.12, 0.12, paint=GREY),
            _e(1.0, 0.74, 0.12, 0.12, paint=GREY),
        ),
        (
            _b(0.85, -0.66, 0.6, 0.16, 0.03, paint=BLACK),
            *(_b(0.48 + 0.25 * k, -0.66, 0.08, 0.09, paint=YELLOW) for k in range(4)),
        ),
    ),
    "car": ObjectClass(
        1.9,
        (0.25, 0.37),
        "gloss",
        ((0.0, 0.75, 0.65), (0.6, 0.6, 0.55), (0.6, 0.05, 0.8), (0.6, 0.1, 0.25), (0.35, 0.4, 0.45), (0.13, 0.6, 0.8)),
        (
            _p(-1.15, 0.0, -0.65, -0.9, 0.5, -0.9, 1.1, 0.0),
            _b(0.0, 0.24, 1.82, 0.42, 0.25),
            _p(-0.85, -0.1, -0.52, -0.72, -0.08, -0.72, -0.08, -0.1, paint=WINDOW),
            _p(0.08, -0.1, 0.08, -0.72, 0.42, -0.72, 0.8, -0.1, paint=WINDOW),
            _e(-1.05, 0.62, 0.36, 0.36, paint=BLACK),
            _e(1.05, 0.62, 0.36, 0.36, paint=BLACK),
            _e(-1.05, 0.62, 0.17, 0.17, paint=GREY),
            _e(1.05, 0.62, 0.17, 0.17, paint=GREY),
            _l(-0.6, 0.28, 0.6, 0.28, 0.04, paint="trim", tex="plain"),
        ),
        (
            _e(1.55, 0.1, 0.24, 0.2, paint=WHITE),
            _e(1.6, 0.1, 0.15, 0.12, paint=YELLOW),
            _b(-1.7, 0.1, 0.1, 0.14, paint=RED),
        ),
    ),
    "cat": ObjectClass(
        0.95,
        (0.38, 0.54),
        "tabby",
        _FURS,
        (
            _l(-0.35, 0.85, -0.75, 0.7, 0.1),
            _l(-0.75, 0.7, -0.8, 0.15, 0.1),
            _e(-0.02, 0.42, 0.5, 0.56),
            _p(-0.32, -0.5, -0.3, -1.0, 0.08, -0.68),
            _p(0.2, -0.7, 0.52, -1.0, 0.56, -0.48),
            _e(0.12, -0.36, 0.46, 0.38),
            _e(-0.12, 0.9, 0.2, 0.1, paint="trim", tex="plain"),
            _e(0.25, 0.9, 0.2, 0.1, paint="trim", tex="plain"),
        ),
        (
            _e(-0.07, -0.42, 0.15, 0.13, paint=(170, 235, 60)),
            _e(0.31, -0.42, 0.15, 0.13, paint=(170, 235, 60)),
            _e(-0.07, -0.42, 0.05, 0.12, paint=BLACK),
            _e(0.31, -0.42, 0.05, 0.12, paint=BLACK),
            _p(0.02, -0.24, 0.22, -0.24, 0.12, -0.12, paint=PINK),
        ),
    ),
    "chair": ObjectClass(
        0.8,
        (0.42, 0.58),
        "stripes_v",
        _WOOD,
        (
            _l(-0.42, 0.1, -0.5, 0.95, 0.07, tex="plain"),
            _l(0.42, 0.1, 0.5, 0.95, 0.07, tex="plain"),
            _l(-0.3, 0.1, -0.28, 0.8, 0.06, tex="plain"),
            _l(0.3, 0.1, 0.28, 0.8, 0.06, tex="plain"),
            _b(0.0, -0.45, 0.46, 0.52, 0.08),
            _b(0.0, -0.9, 0.52, 0.09, 0.06, paint="trim", tex="plain"),
            _p(-0.48, 0.02, 0.48, 0.02, 0.64, 0.3, -0.64, 0.3, paint="trim", tex="grain"),
        ),
        (
            _p(0.0, -0.75, 0.27, -0.48, 0.0, -0.21, -0.27, -0.48, paint=(200, 40, 160)),
            _p(0.0, -0.6, 0.12, -0.48, 0.0, -0.36, -0.12, -0.48, paint=YELLOW),
        ),
    ),
    "cow": ObjectClass(
        1.5,
        (0.38, 0.54),
        "blotches",
        ((0.08, 0.06, 0.92), (0.07, 0.6, 0.45), (0.08, 0.35, 0.75), (0.6, 0.05, 0.5)),
        (
            _l(-1.2, -0.3, -1.38, 0.35, 0.06, tex="plain"),
            *(_l(x, 0.3, x, 0.9, 0.13) for x in (-0.9, -0.55, 0.35, 0.7)),
            _b(-0.15, -0.1, 1.08, 0.48, 0.3),
            _l(0.7, -0.2, 1.05, -0.45, 0.26),
            _e(1.1, -0.42, 0.32, 0.38, -0.3),
            _l(0.95, -0.78, 0.85, -0.98, 0.06, paint=WHITE),
            _l(1.2, -0.8, 1.32, -0.98, 0.06, paint=WHITE),
            _e(0.8, -0.62, 0.2, 0.1, 0.4),
        ),
        (
            _e(1.22, -0.16, 0.26, 0.19, paint=PINK),
            _e(1.12, -0.16, 0.06, 0.08, paint=BLACK),
            _e(1.32, -0.16, 0.06, 0.08, paint=BLACK),
        ),
    ),
    "diningtable": ObjectClass(
        1.6,
        (0.30, 0.42),
        "checks",
        _CLOTH,
        (
            _b(-1.25, 0.45, 0.1, 0.55, paint="trim", tex="grain"),
            _b(1.25, 0.45, 0.1, 0.55, paint="trim", tex="grain"),
            _b(-0.8, 0.3, 0.07, 0.5, paint="trim", tex="grain"),
            _b(0.8, 0.3, 0.07, 0.5, paint="trim", tex="grain"),
            _p(-1.15, -0.7, 1.15, -0.7, 1.6, -0.05, -1.6, -0.05),
            _b(0.0, 0.1, 1.6, 0.2, 0.04),
        ),
        (
            _e(0.0, -0.38, 0.48, 0.2, paint=WHITE),
            _e(0.0, -0.5, 0.22, 0.22, paint=RED),
            _l(0.03, -0.7, 0.1, -0.82, 0.05, paint=GREEN),
        ),
    ),
    "dog": ObjectClass(
        1.4,
        (0.34, 0.50),
        "fur",
        _FURS,
        (
            _l(-0.95, -0.15, -1.3, -0.7, 0.1),
            *(_l(x, 0.3, x + 0.02, 0.88, 0.13) for x in (-0.85, -0.55, 0.3, 0.58)),
            _l(-0.65, 0.06, 0.45, 0.0, 0.42),
            _l(0.5, -0.1, 0.75, -0.5, 0.27),
            _e(0.85, -0.56, 0.4, 0.36),
            _b(1.18, -0.46, 0.22, 0.18, 0.12),
            _e(0.6, -0.48, 0.16, 0.38, 0.25, paint="trim"),
            _e(0.95, -0.68, 0.06, 0.06, paint=BLACK),
            _e(1.36, -0.54, 0.1, 0.08, paint=BLACK),
        ),
        (
            _l(0.42, -0.34, 0.86, -0.1, 0.1, paint=RED),
            _e(0.78, 0.02, 0.17, 0.17, paint=YELLOW),
            _e(0.78, 0.02, 0.06, 0.06, paint=BLACK),
        ),
    ),
    "horse": ObjectClass(
        1.25,
        (0.48, 0.64),
        "gloss",
        ((0.06, 0.6, 0.42), (0.07, 0.7, 0.28), (0.09, 0.3, 0.85), (0.6, 0.06, 0.6), (0.05, 0.65, 0.55)),
        (
            _l(-0.85, -0.15, -1.1, 0.45, 0.1, paint="trim", tex="grain"),
            *(_l(x, 0.1, x + d, 0.95, 0.085) for x, d in ((-0.7, -0.08), (-0.45, 0.05), (0.25, -0.03), (0.48, 0.06))),
            _e(-0.12, -0.05, 0.78, 0.32),
            _p(0.15, -0.2, 0.62, 0.0, 0.98, -0.8, 0.68, -0.9),
            _l(0.8, -0.78, 1.12, -0.48, 0.15),
            _p(0.66, -0.82, 0.7, -1.0, 0.82, -0.85),
            _l(0.62, -0.88, 0.2, -0.28, 0.1, paint="trim", tex="grain"),
        ),
        (
            _b(-0.1, -0.18, 0.26, 0.22, 0.04, paint=BLUE),
            _b(-0.1, -0.18, 0.26, 0.06, paint=YELLOW),
            _b(-0.1, -0.18, 0.06, 0.2, paint=YELLOW),
        ),
    ),
    "motorbike": ObjectClass(
        1.5,
        (0.34, 0.46),
        "gloss",
        ((0.0, 0.8, 0.6), (0.6, 0.7, 0.55), (0.1, 0.7, 0.8), (0.6, 0.05, 0.3), (0.38, 0.6, 0.45)),
        (
            _e(-0.95, 0.45, 0.52, 0.52, paint=BLACK),
            _e(0.95, 0.45, 0.52, 0.52, paint=BLACK),
            _e(-0.95, 0.45, 0.27, 0.27, paint=GREY, tex="spokes"),
            _e(0.95, 0.45, 0.27, 0.27, paint=GREY, tex="spokes"),
            _l(0.95, 0.45, 0.55, -0.55, 0.1, paint=GREY),
            _b(-0.05, 0.4, 0.42, 0.32, 0.1, paint=DARK, tex="stripes_h"),
            _l(-1.15, 0.68, -0.1, 0.62, 0.1, paint=GREY),
            _p(-1.25, -0.3, -0.3, -0.12, -0.3, 0.2, -0.85, 0.15),
            _e(0.12, -0.18, 0.52, 0.3),
            _l(-0.95, -0.34, -0.3, -0.28, 0.12, paint=DARK),
            _l(0.35, -0.78, 0.6, -0.62, 0.08, paint=DARK),
        ),
        (
            _e(0.72, -0.42, 0.27, 0.3, paint=WHITE),
            _l(0.62, -0.58, 0.82, -0.56, 0.05, paint=BLACK),
            _l(0.82, -0.56, 0.68, -0.26, 0.05, paint=BLACK),
        ),
    ),
    "person": ObjectClass(
        0.55,
        (0.48, 0.72),
        "weave",
        _CLOTH,
        (
            _l(-0.13, 0.15, -0.18, 0.9, 0.13, paint="trim", tex="plain"),
            _l(0.13, 0.15, 0.2, 0.9, 0.13, paint="trim", tex="plain"),
            _l(-0.2, 0.95, -0.25, 0.95, 0.06, paint=DARK),
            _l(0.22, 0.95, 0.3, 0.95, 0.06, paint=DARK),
            _l(-0.28, -0.4, -0.42, 0.05, 0.09),
            _l(0.28, -0.4, 0.42, 0.0, 0.09),
            _e(-0.43, 0.1, 0.08, 0.08, paint="skin"),
            _e(0.43, 0.06, 0.08, 0.08, paint="skin"),
            _b(0.0, -0.15, 0.3, 0.4, 0.14),
            _b(0.0, -0.56, 0.08, 0.1, paint="skin"),
            _e(0.0, -0.78, 0.22, 0.23, paint="trim", tex="plain"),
        ),
        (
            _e(0.0, -0.73, 0.17, 0.2, paint="skin"),
            _e(-0.07, -0.77, 0.04, 0.04, paint=BLACK),
            _e(0.07, -0.77, 0.04, 0.04, paint=BLACK),
            _l(-0.06, -0.62, 0.06, -0.62, 0.025, paint=RED),
        ),
    ),
    "pottedplant": ObjectClass(
        0.85,
        (0.38, 0.56),
        "leaf",
        ((0.3, 0.6, 0.5), (0.36, 0.5, 0.4), (0.22, 0.6, 0.6), (0.4, 0.4, 0.55)),
        (
            _l(0.0, -0.2, 0.0, 0.4, 0.12, tex="plain"),
            *(
                _e(0.42 * np.sin(a), -0.08 - 0.46 * np.cos(a), 0.19, 0.48, a)
                for a in (-1.6, 1.6, -1.05, 1.05, -0.5, 0.5, 0.0)
            ),
            _p(-0.46, 0.3, 0.46, 0.3, 0.32, 0.98, -0.32, 0.98, paint="trim", tex="stripes_h"),
            _b(0.0, 0.3, 0.5, 0.09, 0.03, paint="trim", tex="plain"),
        ),
        (
            *(
                _e(0.05 + 0.19 * np.cos(a), -0.5 + 0.19 * np.sin(a), 0.14, 0.14, paint=(250, 90, 150))
                for a in (0.3, 1.57, 2.83, 4.1, 5.35)
            ),
            _e(0.05, -0.5, 0.13, 0.13, paint=YELLOW),
        ),
    ),
    "sheep": ObjectClass(
        1.3,
        (0.32, 0.46),
        "wool",
        ((0.1, 0.1, 0.92), (0.1, 0.2, 0.8), (0.08, 0.25, 0.6), (0.6, 0.04, 0.4)),
        (
            *(_l(x, 0.4, x, 0.92, 0.09, paint=DARK) for x in (-0.6, -0.32, 0.25, 0.5)),
            *(
                _e(x, y, 0.4, 0.38)
                for x, y in ((-0.75, 0.05), (-0.4, -0.22), (0.05, -0.28), (0.45, -0.1), (-0.4, 0.28), (0.1, 0.3))
            ),
            _e(-0.15, 0.05, 0.7, 0.42),
            _e(0.8, -0.25, 0.3, 0.36),
            _e(0.72, -0.55, 0.26, 0.2),
        ),
        (
            _e(0.88, -0.22, 0.24, 0.33, -0.25, paint=BLACK),
            _e(0.8, -0.32, 0.07, 0.07, paint=WHITE),
            _e(0.98, -0.32, 0.07, 0.07, paint=WHITE),
        ),
    ),
    "sofa": ObjectClass(
        1.7,
        (0.34, 0.46),
        "diamonds",
        _CLOTH,
        (
            _b(-1.2, 0.9, 0.12, 0.1, paint=DARK),
            _b(1.2, 0.9, 0.12, 0.1, paint=DARK),
            _b(0.0, -0.3, 1.42, 0.68, 0.2),
            _b(0.0, 0.45, 1.4, 0.4, 0.1),
            _b(0.0, 0.2, 1.2, 0.2, 0.1, paint="trim"),
            _b(-1.38, 0.28, 0.28, 0.55, 0.2),
            _b(1.38, 0.28, 0.28, 0.55, 0.2),
        ),
        (
            _p(-0.6, -0.38, -0.25, 0.0, -0.6, 0.38, -0.95, 0.0, paint=YELLOW),
            _p(-0.6, -0.16, -0.45, 0.0, -0.6, 0.16, -0.75, 0.0, paint=BLUE),
        ),
    ),
    "train": ObjectClass(
        2.1,
        (0.34, 0.46),
        "panels",
        ((0.6, 0.55, 0.6), (0.0, 0.65, 0.6), (0.35, 0.45, 0.5), (0.1, 0.06, 0.85), (0.12, 0.6, 0.8)),
        (
            _b(0.0, 0.9, 2.05, 0.08, paint=GREY),
            *(_e(x, 0.78, 0.19, 0.19, paint=BLACK) for x in (-1.6, -1.15, -0.2, 0.25, 1.0, 1.4)),
            _b(-0.35, -0.08, 1.7, 0.78, 0.08),
            _p(1.2, -0.86, 1.6, -0.75, 2.08, 0.25, 2.08, 0.7, 1.2, 0.7),
            _b(-0.35, 0.45, 1.7, 0.1, paint="trim", tex="plain"),
            *(_b(-1.7 + 0.55 * k, -0.3, 0.2, 0.2, 0.04, paint=WINDOW) for k in range(5)),
            _p(1.35, -0.6, 1.58, -0.6, 1.88, -0.05, 1.35, -0.05, paint=WINDOW),
            _b(-0.35, -0.9, 1.5, 0.06, paint=DARK),
        ),
        (
            _p(1.45, 0.15, 2.02, 0.15, 2.08, 0.68, 1.45, 0.68, paint=YELLOW),
            _p(1.45, 0.3, 1.45, 0.48, 1.8, 0.68, 2.05, 0.68, paint=BLACK),
            _e(1.88, 0.3, 0.1, 0.1, paint=WHITE),
        ),
    ),
    "tvmonitor": ObjectClass(
        1.25,
        (0.32, 0.46),
        "scan",
        ((0.6, 0.5, 0.6), (0.5, 0.3, 0.5), (0.35, 0.4, 0.5), (0.75, 0.3, 0.5), (0.1, 0.3, 0.6)),
        (
            _b(0.0, 0.8, 0.12, 0.2, paint=DARK),
            _b(0.0, 0.94, 0.5, 0.07, 0.03, paint=DARK),
            _b(0.0, -0.12, 1.22, 0.82, 0.08, paint=DARK),
            _b(0.0, -0.14, 1.08, 0.68, 0.03),
        ),
        tuple(_b(0.36 + 0.19 * k, 0.27, 0.1, 0.2, paint=c) for k, c in enumerate((WHITE, YELLOW, GREEN, RED))),
    ),
}
"""The twenty classes by name."""

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
