"""The data sets that a run draws from: each as it was prepared, and all of them as one under qualified ids.

An image of another data set than the study's own is called `{data set}:{id}` where images of several meet, so that
ids of two data sets cannot be taken for one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from weakseg.config import Experiment, Study
from weakseg.data.contents import Contents, read_contents
from weakseg.data.crop_labels import CropGeometry, CropLabels
from weakseg.data.dataset import DataSet, open_data, stream_lists
from weakseg.data.features import FeatureCache
from weakseg.data.tag_files import read_tags
from weakseg.errors import WeaksegError
from weakseg.joint_labels import JointLabels, join_labels, shared_classes
from weakseg.labels import LabelSet
from weakseg.paths import StudyPaths


class Tags:
    """Image-level labels of a data set, read only if something asks for them."""

    def __init__(self, study: Study, paths: StudyPaths, labels: LabelSet) -> None:
        """Of the annotation below `paths`."""
        self.study, self.paths, self.labels = study, paths, labels
        self._tags: Mapping[str, np.ndarray] | None = None
        self._crops: CropLabels | None = None

    @property
    def photos(self) -> Mapping[str, np.ndarray]:
        """(L+1,) bool by image."""
        if self._tags is None:
            self._tags = read_tags(self.paths.image_labels, self.labels)
        return self._tags

    @property
    def crops(self) -> CropLabels:
        """The same for crops."""
        if self._crops is None:
            self._crops = CropLabels(self.photos, self.paths.crop_labels, CropGeometry.of(self.study.network))
        return self._crops

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """(n, L+1) bool of some images."""
        self.check(ids)
        return np.stack([self.photos[i] for i in ids])

    def check(self, ids: Sequence[str]) -> None:
        """Raise WeaksegError unless every image has image-level labels."""
        if missing := [i for i in ids if i not in self.photos]:
            raise WeaksegError(
                f"{self.paths.image_labels}: {len(missing)} of {len(ids)} images are missing, {missing[0]} the first; "
                "add them, or run `weakseg annotate` again"
            )


@dataclass(frozen=True)
class Source:
    """One data set of a study.

    Attributes:
        name: by which the streams name it; None for the study's own.
        data: its images.
        paths: its files.
        contents: what these held when they were prepared.
        tags: its image-level labels.
    """

    name: str | None
    data: DataSet
    paths: StudyPaths
    contents: Contents
    tags: Tags

    def qualified(self, image_id: str) -> str:
        """The id of an image where those of several data sets meet."""
        return image_id if self.name is None else f"{self.name}:{image_id}"


@dataclass(frozen=True)
class Sources:
    """All data sets that an experiment reads: the study's own, in whose labels it is scored, and those it draws from.

    Attributes:
        by_name: one a name; None is the study's own.
        joint: their labels as one.
    """

    by_name: Mapping[str | None, Source]
    joint: JointLabels = field(repr=False)

    @classmethod
    def open(cls, study: Study, experiment: Experiment, paths: StudyPaths) -> "Sources":
        """Open what an experiment reads.

        Raises:
            WeaksegError: a data set is not prepared, or classes that are said to be shared are none.
        """
        found: dict[str | None, Source] = {}
        for name in (None, *experiment.datasets):
            of_set = paths.of_dataset(name)
            data = open_data(of_set.manifest)
            found[name] = Source(name, data, of_set, read_contents(of_set.contents), Tags(study, of_set, data.labels))
        main = found[None].data.labels
        others = {
            name: (found[name].data.labels, shared_classes(main, found[name].data.labels, given))
            for name in experiment.datasets
            for given in [study.other_datasets[name].shared]
        }
        joint = join_labels(main, others) if others else JointLabels(main, {None: None})
        return cls(found, joint)

    @property
    def own(self) -> Source:
        """The study's own data set."""
        return self.by_name[None]

    def lists(self) -> dict[str | None, dict[str, list[str]]]:
        """By data set what its streams draw from."""
        return {name: stream_lists(one.data) for name, one in self.by_name.items()}

    def of(self, qualified: str) -> tuple[Source, str]:
        """The data set of an image, and its id there."""
        name, colon, image_id = qualified.partition(":")
        if colon and name in self.by_name:
            return self.by_name[name], image_id
        return self.own, qualified


class Photos(Protocol):
    """Photos by id."""

    def image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright."""
        ...

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo."""
        ...


class JoinedPhotos:
    """The photos of all data sets by qualified id."""

    def __init__(self, sources: Sources) -> None:
        """Of these data sets."""
        self.sources = sources

    def image(self, image_id: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright."""
        source, own = self.sources.of(image_id)
        return source.data.image(own)

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo."""
        source, own = self.sources.of(image_id)
        return source.data.size(own)


class CachedMaps(Protocol):
    """Feature maps of a frozen trunk by id, see `FeatureCache`."""

    def raw(self, image_id: str) -> np.ndarray:
        """The stored map (h, w, C)."""
        ...

    def decode(self, raw: Tensor) -> Tensor:
        """Stored values as float32."""
        ...

    def maps(self, image_id: str) -> Tensor:
        """The map of a whole photo, (C, h, w) float32."""
        ...

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo."""
        ...


class JoinedCache:
    """The feature maps of several caches by qualified id."""

    def __init__(self, caches: Sequence[tuple[Source, FeatureCache]]) -> None:
        """Of these caches, each with its data set.

        Raises:
            WeaksegError: their values are stored in different steps.
        """
        self._of = {source.qualified(i): (cache, i) for source, cache in caches for i in cache.ids}
        self._first = caches[0][1]
        if any(cache.step != self._first.step for _, cache in caches):
            raise WeaksegError(f"{self._first.path}: stored otherwise than the others; run `weakseg features` again")

    def raw(self, image_id: str) -> np.ndarray:
        """The stored map (h, w, C)."""
        cache, own = self._of[image_id]
        return cache.raw(own)

    def decode(self, raw: Tensor) -> Tensor:
        """Stored values as float32."""
        return self._first.decode(raw)

    def maps(self, image_id: str) -> Tensor:
        """The map of a whole photo, (C, h, w) float32."""
        cache, own = self._of[image_id]
        return cache.maps(own)

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of the photo."""
        cache, own = self._of[image_id]
        return cache.size(own)
