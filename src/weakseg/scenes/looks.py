"""How the look of a class of objects is said: layers of shapes in paints, and a tell-tale part."""

from dataclasses import dataclass

from weakseg.scenes.drawing import Shape

Paint = str | tuple[int, int, int]
"""`body` or `trim` (the object's own colours), `skin`, or a fixed RGB colour."""

BLACK, WHITE, DARK, GREY = (18, 18, 20), (245, 245, 240), (45, 45, 50), (150, 152, 158)
RED, ORANGE, YELLOW, GREEN = (215, 30, 40), (240, 130, 25), (250, 210, 40), (60, 200, 80)
BLUE, PINK = (40, 80, 210), (240, 140, 160)
WINDOW = (175, 205, 225)


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


def ellipse(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    """An ellipse: centre, radii[, turn]."""
    return Layer(("ellipse", p), paint, tex)


def box(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    """A box: centre, half sides[, rounding]."""
    return Layer(("box", p), paint, tex)


def line(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    """A line with round ends: both ends, radius."""
    return Layer(("line", p), paint, tex)


def polygon(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    """A convex polygon: its corners."""
    return Layer(("polygon", p), paint, tex)


def ring(*p: float, paint: Paint = "body", tex: str | None = None) -> Layer:
    """A ring: centre, radius, half width."""
    return Layer(("ring", p), paint, tex)
