"""Running a frozen trunk once over a list of photos: the principal axes of its map, and the cache of its maps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from weakseg.config import Role, Study
from weakseg.data.contents import check_unchanged, read_contents
from weakseg.data.dataset import open_data
from weakseg.data.features import cache_facts, write_feature_cache
from weakseg.data.initial_weights import find_weights
from weakseg.devices import choose_device, describe_device, set_precision, short_name
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file
from weakseg.model import Segmenter, build_model, load_initial_weights
from weakseg.model.inputs import network_input
from weakseg.model.projection import principal_projection, save_projection
from weakseg.paths import StudyPaths

PROJECTION_PHOTOS = 150
"""Training photos at most, evenly spaced in their list, on which principal axes are found: 50,000 cells and more."""


class _FrozenTrunk:
    """The trunk of a study with its initial weights, and what it gives of photos."""

    def __init__(self, study: Study, paths: StudyPaths, data_root: str | Path | None) -> None:
        network = study.network
        if not network.freeze_trunk or network.weights is None:
            raise WeaksegError(f"study {study.name}: cached maps need network.freeze_trunk and network.weights")
        self.network, self.preprocessing = network, network.weights.preprocessing
        weights = find_weights(network.weights, paths.own.root, data_root)
        self.weights_sha256 = sha256_file(weights)
        self.data, self.contents = open_data(paths.manifest), read_contents(paths.contents)
        self.model: Segmenter = build_model(network, fov="large", num_labels=len(self.data.labels)).eval()
        load_initial_weights(self.model, weights, network.weights.sha256)
        self.device = choose_device()
        set_precision("fp32")
        print(f"device: {describe_device(self.device)}", flush=True)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def maps(self, ids: Sequence[str], what: str, *, projected: bool) -> Iterator[tuple[str, tuple[int, int], Tensor]]:
        """Id, height and width, and map (C, h, w) of photos that are those of the manifest still."""
        check_unchanged(self.data, self.contents, list(ids), ["photo"])
        network, run = self.network, self.model.features if projected else self.model.trunk
        for image_id in tqdm(ids, desc=f"{what} on {short_name(self.device)}", unit="photo", mininterval=2):
            image = self.data.image(image_id)
            inputs = network_input(image, network.image_scale, network.output_stride, self.preprocessing)
            yield image_id, (image.shape[0], image.shape[1]), run(inputs.to(self.device))[0].cpu()


@torch.no_grad()
def find_projection(study: Study, paths: StudyPaths, data_root: str | Path | None = None) -> None:
    """Write the projection of the trunk's map on its principal axes, found on training photos alone.

    Args:
        study: its network names `principal_axes`.
        paths: the study's result files.
        data_root: replaces `{data_root}` in configured paths.

    Raises:
        WeaksegError: the study has no such axes, or its trunk is not frozen or has no initial weights.
    """
    axes = study.network.principal_axes
    if axes is None:
        raise WeaksegError(f"study {study.name}: network.principal_axes says how many axes; nothing is projected here")
    trunk = _FrozenTrunk(study, paths, data_root)
    ids = trunk.data.ids("training")
    ids = ids[:: -(-len(ids) // PROJECTION_PHOTOS) or 1]
    maps = (values for *_, values in trunk.maps(ids, "principal axes", projected=False))
    projection, share = principal_projection(maps, axes)
    photos = trunk.contents.digest(ids, "photo")
    facts = {**cache_facts(study.network, trunk.weights_sha256, photos), "photos": len(ids), "variance_share": share}
    save_projection(paths.projection, projection, facts)
    print(f"{axes} axes of {len(ids)} photos hold {100 * share:.1f} % of the variance")


@torch.no_grad()
def cache_features(study: Study, paths: StudyPaths, role: Role, data_root: str | Path | None = None) -> None:
    """Write the trunk's feature maps of all photos of a list to `paths.features(role)`.

    A photo is scaled by network.image_scale, padded bottom and right with the mean pixel to stride * k + 1, and seen
    whole. Maps are projected if the study names principal axes.

    Args:
        study: its network must freeze the trunk and name initial weights.
        paths: the study's result files.
        role: whose photos, those for `training`, `evaluation` or `test`.
        data_root: replaces `{data_root}` in configured paths.

    Raises:
        WeaksegError: the trunk is not frozen or has no initial weights, or the projection is missing.
    """
    trunk = _FrozenTrunk(study, paths, data_root)
    trunk.model.load_axes(paths.projection)
    projection_sha256, bound = None, trunk.model.trunk.bound
    if trunk.model.projection is not None:
        projection_sha256, bound = sha256_file(paths.projection), None
    ids = trunk.data.ids(role)
    photos = trunk.contents.digest(ids, "photo")
    write_feature_cache(
        paths.features(role),
        trunk.maps(ids, f"feature maps for {role}", projected=True),
        bound=bound,
        metadata=cache_facts(study.network, trunk.weights_sha256, photos, projection_sha256),
    )
