"""Label sets: the names, colours and special values of a data set's labels, and those that are known by name."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from weakseg.errors import WeaksegError

Value = TypeVar("Value")

BACKGROUND = 0
"""Label of the background in every label map, whatever the label set."""

IGNORE = 255
"""Label of void pixels in every label map: neither trained nor scored."""


def voc_palette() -> np.ndarray:
    """RGB colours of the VOC index masks, shape (256, 3), uint8.

    The three lowest bits of a label go to the highest bits of R, G and B, the next three below them, and so
    on (VOC development kit, `VOClabelcolormap`).
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((labels >> channel) & 1) << (7 - bit)).astype(np.uint8)
        labels = labels >> 3
    return colours


@dataclass(frozen=True)
class LabelSet:
    """What the labels 0..L of a data set mean; label 0 is the background, and 255 marks void pixels.

    Attributes:
        name: `voc`, `coco`, or what a study calls its own.
        names: L + 1 names in the order of the labels, `background` first.
        colours: (R, G, B) of each label, 0..255; labels without one have that of VOC's palette.
        unused: labels that no image has, as the gaps of MS-COCO's ids.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()
    unused: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raise WeaksegError for names that cannot be told apart, or more than a label map can hold."""
        if not 2 <= len(self.names) <= IGNORE:
            raise WeaksegError(f"labels {self.name}: 1 to {IGNORE - 1} classes are possible, not {len(self.names) - 1}")
        seen: dict[str, str] = {}
        for name in self.names:
            key = name.strip().casefold()
            if not key or key in seen:
                raise WeaksegError(
                    f"labels {self.name}: "
                    + (f"{seen[key]!r} and {name!r} are one name" if key else "a class has no name")
                    + "; give every class its own, `background` is there already"
                )
            seen[key] = name
        if self.colours and len(self.colours) != len(self.names):
            raise WeaksegError(f"labels {self.name}: {len(self.names)} labels, but {len(self.colours)} colours")

    @classmethod
    def of_classes(cls, name: str, classes: Sequence[str], colours: Mapping[str, str] | None = None) -> "LabelSet":
        """A label set of one's own.

        Args:
            name: what it is called.
            classes: names of the foreground classes 1..L.
            colours: `#rrggbb` by class name; VOC's palette for the others.

        Raises:
            WeaksegError: names that are not distinct, a colour of no class, or one that is not `#rrggbb`.
        """
        names = ("background", *(str(word).strip() for word in classes))
        plain = cls(name, names)
        palette = [tuple(int(value) for value in colour) for colour in voc_palette()[: len(names)]]
        for word, text in (colours or {}).items():
            digits = text.removeprefix("#")
            try:
                if len(digits) != 6:
                    raise ValueError
                palette[plain.index(word)] = tuple(bytes.fromhex(digits))
            except ValueError as error:
                if isinstance(error, WeaksegError):
                    raise
                raise WeaksegError(f"labels {name}: colour {text!r} of {word} is not of the form #rrggbb") from None
        return cls(name, names, tuple(palette))  # type: ignore[arg-type]

    def __len__(self) -> int:
        """L + 1: the foreground classes and the background."""
        return len(self.names)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes, in the order of the labels 1..L."""
        return self.names[1:]

    def index(self, name: str) -> int:
        """The label of a name, capitals and outer spaces not minded.

        Raises:
            WeaksegError: no such name; near ones are suggested.
        """
        keys = [known.casefold() for known in self.names]
        key = name.strip().casefold()
        if key in keys:
            return keys.index(key)
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {self.names[keys.index(near[0])]!r}?" if near else f"there are {', '.join(self.classes)}"
        raise WeaksegError(f"{name!r} is no class of the labels {self.name}; {hint}")

    def text(self, label: int) -> str:
        """The name of a label, for messages; also of one that there is not."""
        return self.names[label] if 0 <= label < len(self.names) else f"label {label}"

    def by_name(self, values: Iterable[Value]) -> dict[str, Value]:
        """Name to value, for L + 1 values in the order of the labels."""
        return dict(zip(self.names, values, strict=True))

    def palette(self) -> np.ndarray:
        """RGB colours of index masks, shape (256, 3), uint8; VOC's beyond the labels that have their own."""
        colours = voc_palette()
        if self.colours:
            colours[: len(self.colours)] = self.colours
        return colours

    def first_wrong(self, labels: np.ndarray) -> int | None:
        """The lowest value of a uint8 label map that is neither 0..L nor 255; None where there is none."""
        counts = np.bincount(labels.reshape(-1), minlength=256)[len(self) : IGNORE]
        return len(self) + int((counts > 0).argmax()) if counts.any() else None

    def present(self, labels: np.ndarray) -> np.ndarray:
        """Which labels occur in a label map of 0..L and 255, void left out; (L+1,) bool."""
        return np.bincount(labels.reshape(-1), minlength=256)[: len(self)] > 0

    def to_json(self) -> dict[str, Any]:
        """As it stands in manifests and in the files of trained networks."""
        facts = {"name": self.name, "names": list(self.names), "colours": [list(colour) for colour in self.colours]}
        return {**facts, "unused": sorted(self.unused)} if self.unused else facts

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "LabelSet":
        """What `to_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        colours = tuple((int(r), int(g), int(b)) for r, g, b in facts["colours"])
        unused = frozenset(int(label) for label in facts.get("unused", ()))
        return cls(str(facts["name"]), tuple(str(name) for name in facts["names"]), colours, unused)


VOC = LabelSet(
    "voc",
    (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
)  # fmt: skip
"""PASCAL VOC 2012, in the order of the development kit."""

_COCO_BY_ID = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip

COCO = LabelSet(
    "coco",
    ("background", *(_COCO_BY_ID.get(number, f"unused {number}") for number in range(1, 91))),
    unused=frozenset(number for number in range(1, 91) if number not in _COCO_BY_ID),
)
"""MS-COCO's raw category ids 0..90 as labels, as in the released code: 80 classes, the gaps of the ids unused."""

SCENES28 = LabelSet(
    "scenes28",
    (
        "background", "person", "bicycle", "car", "motorbike", "aeroplane", "bus", "train", "boat", "traffic light",
        "fire hydrant", "bird", "cat", "dog", "horse", "sheep", "cow", "giraffe", "umbrella", "kite", "bottle", "pizza",
        "chair", "sofa", "pottedplant", "diningtable", "tvmonitor", "clock", "teddy bear",
    ),
)  # fmt: skip
"""All that the generator of scenes draws: VOC's classes by VOC's names and eight more, in MS-COCO's order."""

KNOWN = {labels.name: labels for labels in (VOC, COCO, SCENES28)}
"""Label sets that a study can name."""

VOC_AS_IN_COCO = {
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant",
    "sofa": "couch", "tvmonitor": "tv",
}  # fmt: skip
"""VOC's classes that MS-COCO calls by another name; the other fourteen have one name in both."""
