"""One label set for data sets with classes of their own: which are the same, and each set's view of the joint labels.

A network that learns from several data sets has one classifier over the joint labels. A data set whose labels lack some
of these calls them background: its score of the background is the log of the sum of their exponentials, so that the
probability of its background is that of all that it has no name for (Papandreou et al. 2015, section 4.4; DeepLab
release, the aggregating layer).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weakseg.errors import WeaksegError
from weakseg.labels import BACKGROUND, COCO, VOC, VOC_AS_IN_COCO, LabelSet


@dataclass(frozen=True)
class LabelView:
    """The labels of one data set in the scores of the joint labels.

    Attributes:
        channels: of each label 0..L the channel of the joint scores; that of the background is 0.
        background: the channels whose exponentials make the background's, 0 among them.
    """

    channels: tuple[int, ...]
    background: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the files of trained networks."""
        return {"channels": list(self.channels), "background": list(self.background)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "LabelView":
        """What `to_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        return cls(tuple(map(int, facts["channels"])), tuple(map(int, facts["background"])))


@dataclass(frozen=True)
class JointLabels:
    """The classes of several data sets, each once.

    Attributes:
        labels: the joint label set.
        views: by data set; None for one that names all joint labels in their order.
    """

    labels: LabelSet
    views: dict[str | None, LabelView | None] = field(default_factory=dict)


def shared_classes(main: LabelSet, other: LabelSet, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which classes of two label sets are the same: name in `main` to name in `other`.

    Args:
        main, other: the two.
        given: as a study says; None: VOC and MS-COCO as they are known, others by equal names.

    Raises:
        WeaksegError: a name that is no class, or a class that is named twice.
    """
    if given is None:
        known = VOC_AS_IN_COCO if (main.names, other.names) == (VOC.names, COCO.names) else {}
        keys = {name.casefold() for name in other.classes}
        given = {name: known.get(name, name) for name in main.classes if known.get(name, name).casefold() in keys}
    found = {main.names[main.index(name)]: other.names[other.index(word)] for name, word in given.items()}
    if doubled := [word for word in found.values() if list(found.values()).count(word) > 1]:
        raise WeaksegError(f"shared classes: {doubled[0]!r} of the labels {other.name} stands there twice")
    if "background" in {*found, *found.values()}:
        raise WeaksegError("shared classes: the background is shared by all label sets; leave it out")
    return found


def join_labels(main: LabelSet, others: Mapping[str, tuple[LabelSet, Mapping[str, str]]]) -> JointLabels:
    """The joint labels of a study's data set and of others: those of the others in their order, then what is left.

    With MS-COCO beside VOC they are MS-COCO's 91, as in the released code.

    Args:
        main: labels of the study's own data set, whose key is None in the views.
        others: by key the labels of another data set, and `shared_classes` of `main` and it.

    Raises:
        WeaksegError: more joint labels than a label map can hold.
    """
    names = [main.names[BACKGROUND]]
    colours: list[tuple[int, int, int]] = [_colour(main, BACKGROUND)]
    unused: set[int] = set()
    of_main: dict[str, int] = {}
    channels: dict[str | None, list[int]] = {}

    def add(name: str, key: str, colour: tuple[int, int, int]) -> int:
        taken = {known.casefold() for known in names}
        names.append(name if name.casefold() not in taken else f"{name} ({key})")
        colours.append(colour)
        return len(names) - 1

    for key, (labels, shared) in others.items():
        main_name = {word: name for name, word in shared.items()}
        channels[key] = [BACKGROUND]
        for label, name in enumerate(labels.names[1:], start=1):
            known = main_name.get(name)
            channel = of_main.get(known) if known is not None else None
            if channel is None:
                channel = add(name, key, _colour(labels, label))
                if known is not None:
                    of_main[known] = channel
            if label in labels.unused:
                unused.add(channel)
            channels[key].append(channel)
    channels[None] = [BACKGROUND]
    for label, name in enumerate(main.names[1:], start=1):
        channels[None].append(of_main[name] if name in of_main else add(name, "own", _colour(main, label)))
    joint = LabelSet("joint", tuple(names), tuple(colours), frozenset(unused))
    views: dict[str | None, LabelView | None] = {}
    for name_of_set, own in channels.items():
        rest = set(range(len(joint))) - set(own) - unused
        whole = own == list(range(len(joint)))
        views[name_of_set] = None if whole else LabelView(tuple(own), (BACKGROUND, *sorted(rest)))
    return JointLabels(joint, views)


def _colour(labels: LabelSet, label: int) -> tuple[int, int, int]:
    red, green, blue = labels.palette()[label]
    return int(red), int(green), int(blue)
