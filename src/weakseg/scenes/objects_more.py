"""What eight further classes look like, which MS-COCO has and VOC has not: bodies, colours and tell-tale parts.

They are drawn by the rules of `objects`, and none has the silhouette of one of VOC's classes.
"""

import numpy as np

from weakseg.scenes.looks import BLACK, BLUE, DARK, GREEN, GREY, ORANGE, PINK, RED, WHITE, Layer, ObjectClass
from weakseg.scenes.looks import box as _b
from weakseg.scenes.looks import ellipse as _e
from weakseg.scenes.looks import line as _l
from weakseg.scenes.looks import polygon as _p
from weakseg.scenes.looks import ring as _r

_PAINTED = ((0.0, 0.7, 0.7), (0.6, 0.55, 0.65), (0.13, 0.65, 0.8), (0.4, 0.4, 0.5), (0.6, 0.06, 0.7))
_CLOTH = ((0.0, 0.65, 0.65), (0.6, 0.5, 0.6), (0.35, 0.45, 0.5), (0.12, 0.5, 0.8), (0.8, 0.4, 0.6))
_HIDES = ((0.09, 0.55, 0.75), (0.07, 0.6, 0.5), (0.1, 0.25, 0.85), (0.06, 0.45, 0.6))
_PLUSH = ((0.07, 0.55, 0.5), (0.09, 0.35, 0.75), (0.95, 0.3, 0.75), (0.6, 0.25, 0.6), (0.1, 0.08, 0.85))
_CHEESE = ((0.12, 0.55, 0.85), (0.08, 0.6, 0.75), (0.16, 0.25, 0.9), (0.27, 0.45, 0.6), (0.03, 0.55, 0.6))


def _sector(
    about: tuple[float, float], radii: tuple[float, float], turns: tuple[float, float], *, paint: str = "body"
) -> Layer:
    """A slice of an ellipse, from one angle (radians, from the right downwards) to another less than pi further."""
    angles = np.linspace(*turns, 7)
    rim = np.stack([about[0] + radii[0] * np.cos(angles), about[1] + radii[1] * np.sin(angles)], axis=1)
    return _p(*about, *rim.reshape(-1).tolist(), paint=paint)


def _slice(number: int, *, inner: bool) -> Layer:
    """One of the eight slices of a pizza; the first one lies apart."""
    first, last = number * np.pi / 4 + 0.03, (number + 1) * np.pi / 4 - 0.03
    about = (0.2, 0.12) if number == 0 else (-0.08, -0.08)
    return _sector(about, (0.94, 0.72) if inner else (1.1, 0.86), (first, last), paint="body" if inner else "trim")


def _bow(u: float, v: float, size: float, *, paint: str | tuple[int, int, int]) -> tuple[Layer, Layer]:
    """Two triangles that meet at a point."""
    return (
        _p(u, v, u - size, v - 0.6 * size, u - size, v + 0.6 * size, paint=paint),
        _p(u, v, u + size, v - 0.6 * size, u + size, v + 0.6 * size, paint=paint),
    )


_KITE_BOWS = ((-0.16, 0.5), (0.12, 0.84))

MORE_OBJECTS: dict[str, ObjectClass] = {
    "clock": ObjectClass(
        0.9,
        (0.32, 0.46),
        "gloss",
        _PAINTED,
        (
            _l(-0.35, 0.6, -0.55, 0.92, 0.08, paint=DARK),
            _l(0.35, 0.6, 0.55, 0.92, 0.08, paint=DARK),
            _l(0.0, -0.6, 0.0, -0.9, 0.06, paint=DARK),
            _e(-0.44, -0.66, 0.34, 0.24, -0.6, paint="trim", tex="gloss"),
            _e(0.44, -0.66, 0.34, 0.24, 0.6, paint="trim", tex="gloss"),
            _e(0.0, 0.12, 0.76, 0.76),
            _e(0.0, 0.12, 0.58, 0.58, paint=WHITE),
        ),
        (
            *(
                _l(0.44 * x, 0.12 + 0.44 * y, 0.52 * x, 0.12 + 0.52 * y, 0.05, paint=BLACK)
                for x, y in ((0, -1), (1, 0), (0, 1), (-1, 0))
            ),
            _l(0.0, 0.12, -0.26, -0.04, 0.07, paint=BLACK),
            _l(0.0, 0.12, 0.24, -0.24, 0.06, paint=BLACK),
            _e(0.0, 0.12, 0.1, 0.1, paint=RED),
        ),
    ),
    "fire hydrant": ObjectClass(
        0.8,
        (0.32, 0.46),
        "plain",
        _PAINTED,
        (
            _b(0.0, 0.9, 0.56, 0.1, 0.04, paint="trim"),
            _b(0.0, 0.2, 0.36, 0.66, 0.06, tex="gloss"),
            _b(0.0, 0.12, 0.66, 0.17, 0.04, paint="trim"),
            _b(-0.66, 0.12, 0.08, 0.24, 0.03, paint="trim"),
            _b(0.66, 0.12, 0.08, 0.24, 0.03, paint="trim"),
            _e(0.0, -0.5, 0.4, 0.32, tex="gloss"),
            _b(0.0, -0.46, 0.48, 0.09, 0.04, paint="trim"),
            _b(0.0, -0.86, 0.1, 0.12, 0.02, paint="trim"),
            _b(0.0, 0.7, 0.42, 0.06, 0.02, paint="trim"),
        ),
        (
            _e(0.0, 0.12, 0.27, 0.27, paint=WHITE),
            _r(0.0, 0.12, 0.23, 0.04, paint=BLACK),
            _b(0.0, 0.12, 0.09, 0.09, paint=BLUE),
        ),
    ),
    "giraffe": ObjectClass(
        0.85,
        (0.62, 0.80),
        "net",
        _HIDES,
        (
            _l(-0.55, 0.15, -0.68, 0.5, 0.04, tex="plain"),
            *(_l(x, 0.25, x + d, 0.94, 0.065) for x, d in ((-0.5, -0.04), (-0.34, 0.03), (0.06, -0.02), (0.2, 0.04))),
            _p(-0.58, 0.02, 0.2, -0.14, 0.3, 0.3, -0.5, 0.36),
            _e(-0.38, 0.17, 0.26, 0.22),
            _e(0.08, 0.1, 0.26, 0.26),
            _p(-0.06, 0.05, 0.32, 0.15, 0.56, -0.72, 0.36, -0.78),
            _l(0.42, -0.82, 0.4, -0.96, 0.035, paint=DARK),
            _l(0.5, -0.82, 0.5, -0.96, 0.035, paint=DARK),
            _e(0.33, -0.76, 0.1, 0.05, -0.4, tex="plain"),
            _l(0.46, -0.76, 0.68, -0.66, 0.1),
            _e(0.5, -0.8, 0.035, 0.035, paint=BLACK),
        ),
        (
            _l(0.58, -0.62, 0.76, -0.5, 0.025, paint=DARK),
            _e(0.67, -0.68, 0.15, 0.08, -0.6, paint=GREEN),
            _e(0.66, -0.52, 0.14, 0.075, 0.9, paint=GREEN),
            _e(0.55, -0.62, 0.13, 0.07, 0.3, paint=(160, 240, 90)),
        ),
    ),
    "kite": ObjectClass(
        1.1,
        (0.36, 0.52),
        "stripes_d",
        _CLOTH,
        (
            _l(0.0, 0.3, -0.16, 0.5, 0.04, paint=DARK),
            _l(-0.16, 0.5, 0.12, 0.84, 0.04, paint=DARK),
            *(layer for u, v in _KITE_BOWS for layer in _bow(u, v, 0.24, paint="trim")),
            _p(0.0, -1.0, 0.98, -0.45, 0.0, 0.4, -0.98, -0.45),
            _p(0.0, -1.0, 0.98, -0.45, 0.0, -0.45, paint="trim", tex="plain"),
            _p(0.0, -0.45, 0.0, 0.4, -0.98, -0.45, paint="trim", tex="plain"),
            _l(0.0, -0.95, 0.0, 0.36, 0.025, paint=DARK),
            _l(-0.92, -0.45, 0.92, -0.45, 0.025, paint=DARK),
        ),
        (
            _e(0.0, -0.45, 0.26, 0.26, paint=ORANGE),
            _p(0.0, -0.65, 0.05, -0.45, 0.0, -0.25, -0.05, -0.45, paint=WHITE),
            _p(-0.2, -0.45, 0.0, -0.5, 0.2, -0.45, 0.0, -0.4, paint=WHITE),
        ),
    ),
    "pizza": ObjectClass(
        1.25,
        (0.30, 0.42),
        "spots",
        _CHEESE,
        (
            *(_slice(number, inner=False) for number in range(8)),
            *(_slice(number, inner=True) for number in range(8)),
        ),
        tuple(
            layer
            for u, v in ((-0.3, -0.5), (-0.7, -0.2), (-0.4, 0.25), (0.28, -0.42), (0.08, 0.36))
            for layer in (_e(u, v, 0.16, 0.13, paint=RED), _e(u, v, 0.06, 0.05, paint=PINK))
        ),
    ),
    "teddy bear": ObjectClass(
        0.9,
        (0.34, 0.50),
        "fur",
        _PLUSH,
        (
            _e(-0.44, -0.78, 0.2, 0.2),
            _e(0.44, -0.78, 0.2, 0.2),
            _e(-0.44, -0.78, 0.1, 0.1, paint="trim"),
            _e(0.44, -0.78, 0.1, 0.1, paint="trim"),
            _e(-0.58, 0.2, 0.2, 0.38, 0.6),
            _e(0.58, 0.2, 0.2, 0.38, -0.6),
            _e(0.0, 0.36, 0.52, 0.54),
            _e(0.0, -0.44, 0.52, 0.44),
            _e(-0.5, 0.76, 0.26, 0.24),
            _e(0.5, 0.76, 0.26, 0.24),
            _e(-0.52, 0.78, 0.15, 0.14, paint="trim"),
            _e(0.52, 0.78, 0.15, 0.14, paint="trim"),
            _e(0.0, -0.28, 0.24, 0.18, paint="trim"),
            _e(0.0, -0.36, 0.1, 0.07, paint=BLACK),
            _e(-0.2, -0.54, 0.06, 0.06, paint=BLACK),
            _e(0.2, -0.54, 0.06, 0.06, paint=BLACK),
        ),
        (
            _b(0.0, 0.42, 0.29, 0.29, 0.08, paint=WHITE),
            _e(-0.09, 0.36, 0.13, 0.12, paint=RED),
            _e(0.09, 0.36, 0.13, 0.12, paint=RED),
            _p(-0.21, 0.4, 0.21, 0.4, 0.0, 0.64, paint=RED),
        ),
    ),
    "traffic light": ObjectClass(
        0.6,
        (0.50, 0.68),
        "plain",
        ((0.14, 0.65, 0.8), (0.4, 0.35, 0.35), (0.6, 0.1, 0.5), (0.6, 0.45, 0.4), (0.05, 0.5, 0.5)),
        (
            _b(0.0, 0.6, 0.08, 0.4, paint=GREY, tex="gloss"),
            _b(0.0, 0.95, 0.24, 0.05, 0.02, paint=GREY),
            _b(0.0, -0.36, 0.42, 0.64, 0.1),
            _b(0.0, -0.36, 0.3, 0.56, 0.06, paint=DARK),
            *(
                _l(s * 0.3, y - 0.16, s * 0.52, y - 0.1, 0.05, paint="trim")
                for s in (-1, 1)
                for y in (-0.72, -0.36, 0.0)
            ),
            *(_e(0.0, y, 0.16, 0.16, paint=BLACK) for y in (-0.72, -0.36, 0.0)),
        ),
        (
            _e(0.0, -0.72, 0.14, 0.14, paint=(255, 40, 40)),
            _e(0.0, -0.36, 0.14, 0.14, paint=(255, 190, 20)),
            _e(0.0, 0.0, 0.14, 0.14, paint=(40, 235, 110)),
        ),
    ),
    "umbrella": ObjectClass(
        1.2,
        (0.46, 0.64),
        "stripes_h",
        _CLOTH,
        (
            _l(0.0, -0.9, 0.0, 0.82, 0.05, paint=DARK),
            *(
                _l(x, y, z, w, 0.07, paint=DARK)
                for x, y, z, w in ((0.0, 0.8, 0.08, 0.92), (0.08, 0.92, 0.22, 0.92), (0.22, 0.92, 0.3, 0.76))
            ),
            *(_e(-0.84 + 0.56 * k, -0.04, 0.28, 0.12, paint=p) for k, p in enumerate(("trim", "body", "body", "trim"))),
            _sector((0.0, -0.04), (1.12, 0.84), (-np.pi, 0.0), paint="trim"),
            _sector((0.0, -0.04), (0.56, 0.84), (-np.pi, 0.0)),
            _l(0.0, -0.86, 0.0, -0.96, 0.05, paint=DARK),
        ),
        (
            _p(0.0, -0.72, 0.2, -0.36, -0.2, -0.36, paint=WHITE),
            _e(0.0, -0.32, 0.22, 0.2, paint=WHITE),
            _p(0.0, -0.58, 0.12, -0.34, -0.12, -0.34, paint=BLUE),
            _e(0.0, -0.3, 0.14, 0.12, paint=BLUE),
        ),
    ),
}
"""The eight classes by name."""
