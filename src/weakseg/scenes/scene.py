"""Composing VOC-style scenes and single-object images.

Every image is a function of the seed, its list and its number alone: a longer list starts with the same images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from weakseg.config import Scenes
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet
from weakseg.scenes.backgrounds import PLACES, paint_background, paint_clutter
from weakseg.scenes.drawing import hsv, smooth_noise
from weakseg.scenes.sprites import OBJECTS, Sprite, draw_object

_LIST_CODE = {"train": 1, "val": 2, "pretrain": 3, "test": 4}

_HOMES: dict[str, tuple[str, ...]] = {
    "meadow": (
        *("cow", "horse", "sheep", "dog", "bird", "person", "bicycle", "train", "car"),
        *("giraffe", "kite", "pizza", "teddy bear"),
    ),
    "water": ("boat", "bird", "person", "kite"),
    "street": (
        *("bus", "car", "motorbike", "bicycle", "person", "train", "dog", "cat", "bird", "pottedplant"),
        *("traffic light", "fire hydrant", "umbrella", "clock"),
    ),
    "room": (
        *("sofa", "chair", "diningtable", "tvmonitor", "bottle", "pottedplant", "cat", "dog", "person"),
        *("clock", "pizza", "teddy bear", "umbrella"),
    ),
    "field": ("aeroplane", "car", "person", "horse", "motorbike", "boat", "bird", "giraffe", "kite", "umbrella"),
}
"""Which classes are met together, by place; those that a data set does not draw stay away."""

_HERDS = ("sheep", "cow", "bottle", "chair", "bird", "car", "boat", "person", "kite", "giraffe", "umbrella")
"""Classes that often come several at a time."""


@dataclass(frozen=True)
class Scene:
    """A generated image with its annotation.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, 0..L, no void.
        instances: (H, W) uint8, 0 for the background, then 1, 2, ... by object, no void.
        parts: (H, W) uint8, the class at pixels of a tell-tale part, 0 elsewhere.
        objects: class name and tight box (row and column of the first and last pixel) of each instance in order.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    parts: np.ndarray
    objects: tuple[tuple[str, tuple[int, int, int, int]], ...]


@dataclass(frozen=True)
class _Placed:
    name: str
    sprite: Sprite
    top: int
    left: int
    bottom: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        height, width = self.sprite.cover.shape
        return self.top, self.left, self.top + height, self.left + width


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Shared area of two boxes over the smaller one's."""
    rows, columns = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0, rows) * max(0, columns) / smaller


def _cast(main: str, place: str, known: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """The objects of a scene: the main class, one or two more that live there, several of a herd."""
    company = [c for c in _HOMES[place] if c in known and c != main]
    more = min(int(rng.choice(3, p=(0.5, 0.36, 0.14))), len(company))
    weights = np.array([3.0 if c == "person" else 1.0 for c in company])
    names = [main, *(rng.choice(company, more, replace=False, p=weights / weights.sum()) if more else [])]
    cast: list[str] = []
    for name in names:
        several = 0.5 if name in _HERDS else 0.15
        cast += [str(name)] * (1 + int(rng.random() < several) + int(rng.random() < several * 0.4))
    return cast[:5]


def _place_objects(
    cast: Iterable[str], horizon: int, height: int, width: int, rng: np.random.Generator
) -> list[_Placed]:
    """Draw the objects and find room for them; one that finds none stays away (never the first)."""
    placed: list[_Placed] = []
    cast = list(cast)
    crowd = {1: 1.6, 2: 1.35, 3: 1.15}.get(len(cast), 1.0)  # VOC's photos of one thing show it large
    for name in cast:
        look = OBJECTS[name]
        flies = name in ("aeroplane", "kite") or (name == "bird" and rng.random() < 0.5)
        nearness = rng.random()
        share = look.height[0] + (look.height[1] - look.height[0]) * nearness
        body = min(crowd * share * height, 0.85 * height, 0.7 * width / look.aspect)
        sprite = draw_object(name, body, rng)
        rows, columns = sprite.cover.shape
        for _ in range(12):
            if flies:
                bottom = rng.uniform(body * 0.9, max(horizon, body * 1.1))
            else:
                bottom = min(horizon + body * 0.3 + (height * 1.02 - horizon - body * 0.3) * nearness, height * 1.03)
                bottom = max(bottom + rng.normal(0, 2), body + 2)  # the sky is high enough for it
            top = int(bottom) - rows + 3
            left = int(rng.uniform(-0.14 * columns, width - 0.86 * columns))
            candidate = _Placed(name, sprite, top, left, bottom)
            if all(_overlap(candidate.box, other.box) < 0.36 for other in placed):
                placed.append(candidate)
                break
    return placed


def _paste(placed: list[_Placed], canvas: np.ndarray, owner: np.ndarray, parts: np.ndarray, labels: LabelSet) -> None:
    """Paint the objects far to near; `owner` gets 1 + the index into `placed`."""
    height, width = owner.shape
    for index in sorted(range(len(placed)), key=lambda i: placed[i].bottom):
        thing = placed[index]
        y0, x0, y1, x1 = thing.box
        inside = (slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width)))
        own = (slice(max(-y0, 0), min(y1, height) - y0), slice(max(-x0, 0), min(x1, width) - x0))
        cover = thing.sprite.cover[own]
        canvas[inside] += cover[..., None] * (thing.sprite.rgb[own] - canvas[inside])
        owner[inside] = np.where(cover > 0.5, index + 1, owner[inside])
        label = labels.index(thing.name)
        parts[inside] = np.where(cover > 0.5, np.where(thing.sprite.part[own], label, 0), parts[inside])


def _shadows(placed: list[_Placed], canvas: np.ndarray, horizon: int) -> None:
    """Darken the ground below what stands on it."""
    rows, columns = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]].astype(np.float32)
    for thing in placed:
        y0, x0, y1, x1 = thing.box
        if thing.bottom <= horizon:
            continue
        x, y = (columns - (x0 + x1) / 2) / (0.5 * (x1 - x0)), (rows - (y1 - 4)) / (0.09 * (y1 - y0) + 2)
        canvas *= (1 - 0.4 * np.clip(1.1 - x * x - y * y, 0, 1))[..., None]


def _photograph(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, colour cast, a gradient over the image, the roughness of surfaces and sensor noise; (H, W, 3) uint8."""
    height, width = canvas.shape[:2]
    canvas = canvas * _roughness(height, width, rng)[..., None]
    light = rng.uniform(0.72, 1.12) * rng.uniform(0.92, 1.08, 3)
    slope = rng.normal(0, 0.12, 2)
    gradient = 1 + slope[0] * np.linspace(-1, 1, height)[:, None] + slope[1] * np.linspace(-1, 1, width)[None]
    shadow = 1 - 0.12 * np.maximum(smooth_noise(rng, height, width, width / 3), 0)
    noise = rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(2, 7)
    lit = canvas * (gradient * shadow)[..., None] * light + noise
    return np.clip(lit, 0, 255).astype(np.uint8)


def _roughness(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Light and dark spots of a few pixels, (H, W), in some places stronger than in others.

    With it neighbouring pixels within a region differ as much as in photos of VOC of the same size (docs/scenes.md); a
    dense CRF finds the outlines of evenly painted things too easily.
    """
    unit = height / 120
    spots = smooth_noise(rng, height, width, 3 * unit) + 0.8 * smooth_noise(rng, height, width, 8 * unit)
    return 1 + rng.uniform(0.0, 0.25) * np.exp(1.2 * smooth_noise(rng, height, width, 25 * unit)) * spots


def drawn_classes(scenes: Scenes, labels: LabelSet) -> tuple[str, ...]:
    """The classes that occur: the first ones of the label set.

    Raises:
        WeaksegError: the generator cannot draw one of them.
    """
    known = labels.classes[: scenes.classes]
    if unknown := [name for name in known if name not in OBJECTS]:
        raise WeaksegError(
            f"dataset.labels: scenes of {unknown[0]!r} cannot be drawn; the generator knows {', '.join(OBJECTS)}"
        )
    return known


def _main_class(split: str, index: int, seed: int, known: tuple[str, ...]) -> str:
    """Classes take turns: each is the main one once in as many images as there are classes."""
    deck = np.random.default_rng([seed, _LIST_CODE[split], 0, index // len(known)]).permutation(len(known))
    return known[int(deck[index % len(known)])]


def make_scene(scenes: Scenes, split: str, index: int, labels: LabelSet = VOC) -> Scene:
    """Scene number `index` of `train` (train_aug's first images are train), `val` or `test`.

    Raises:
        WeaksegError: another split, or a negative index.
    """
    if split not in ("train", "val", "test") or index < 0:
        raise WeaksegError(f"scene {split!r} {index}: the split is train, val or test and the index is not negative")
    height, width = scenes.height_px, scenes.width_px
    rng = np.random.default_rng([scenes.seed, _LIST_CODE[split], 1, index])
    known = drawn_classes(scenes, labels)
    main = _main_class(split, index, scenes.seed, known)
    homes = [place for place in PLACES if main in _HOMES[place]]
    place = str(rng.choice(homes if rng.random() < 0.88 else list(PLACES)))
    background = paint_background(place, rng, height, width)
    canvas = background.rgb
    unit = height / 120
    paint_clutter(canvas, rng, count=int(rng.integers(1, 6)), size=(3 * unit, 9 * unit), top=background.horizon)
    placed = _place_objects(_cast(main, place, known, rng), background.horizon, height, width, rng)
    _shadows(placed, canvas, background.horizon)
    parts = np.zeros((height, width), dtype=np.uint8)
    owner = np.zeros((height, width), dtype=np.uint8)
    _paste(placed, canvas, owner, parts, labels)
    before = np.bincount(owner.reshape(-1), minlength=len(placed) + 1)
    front = canvas.copy()
    hidden = paint_clutter(front, rng, count=int(rng.integers(0, 3)), size=(3 * unit, 7 * unit), top=height * 3 // 4)
    after = np.bincount(owner[~hidden], minlength=len(placed) + 1)
    if (after[1:] >= 0.6 * before[1:]).all():  # what stands in front hides no object for the most part
        canvas = front
        owner[hidden] = 0
        parts[hidden] = 0
    image = _photograph(canvas, rng)
    return _annotate(image, owner, parts, [thing.name for thing in placed], labels)


def _annotate(image: np.ndarray, owner: np.ndarray, parts: np.ndarray, names: list[str], labels: LabelSet) -> Scene:
    """Number the visible objects and measure their boxes; slivers of a few pixels become background."""
    counts = np.bincount(owner.reshape(-1), minlength=len(names) + 1)
    least = 0.004 * owner.size
    number = np.zeros(len(names) + 1, dtype=np.uint8)
    label = np.zeros(len(names) + 1, dtype=np.uint8)
    kept = [i for i in range(1, len(names) + 1) if counts[i] >= least]
    for new, old in enumerate(kept, start=1):
        number[old], label[old] = new, labels.index(names[old - 1])
    instances = number[owner]
    boxes = [(s[0].start, s[1].start, s[0].stop - 1, s[1].stop - 1) for s in ndimage.find_objects(instances)]
    objects = tuple((names[old - 1], box) for old, box in zip(kept, boxes, strict=True))
    return Scene(image, label[owner], instances, np.where(instances > 0, parts, 0).astype(np.uint8), objects)


def make_single(scenes: Scenes, name: str, index: int, labels: LabelSet = VOC) -> np.ndarray:
    """A pre-training image: one object of a class, (s, s, 3) uint8 RGB.

    It fills most of the image, as the thing that names a photo of ImageNet does; half of the objects stand before one
    plain colour, the others in a place of any kind.
    """
    side = scenes.pretrain_size_px
    rng = np.random.default_rng([scenes.seed, _LIST_CODE["pretrain"], labels.index(name), index])
    if rng.random() < 0.5:
        colour = hsv(rng.random(), rng.uniform(0, 0.4), rng.uniform(0.3, 0.95))
        canvas = np.broadcast_to(colour, (side, side, 3)).copy()
    else:
        canvas = paint_background(str(rng.choice(PLACES)), rng, side, side).rgb
        unit = side / 64
        paint_clutter(canvas, rng, count=int(rng.integers(0, 3)), size=(3 * unit, 7 * unit), top=side // 4)
    sprite = draw_object(name, rng.uniform(0.85, 1.35) * side * min(0.92, 0.98 / OBJECTS[name].aspect), rng)
    rows, columns = sprite.cover.shape
    top, left = (round((side - size) / 2 + rng.normal(0, 0.08) * side) for size in (rows, columns))
    owner = np.zeros((side, side), dtype=np.uint8)
    _paste([_Placed(name, sprite, top, left, 0.0)], canvas, owner, np.zeros_like(owner), labels)
    return _photograph(canvas, rng)
