"""Running a frozen trunk once over a list of photos and caching its maps."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from weakseg.config import Study, resolve_path
from weakseg.data.features import write_feature_cache
from weakseg.data.prepare import open_data
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file
from weakseg.labels import NUM_LABELS
from weakseg.model import build_model, load_initial_weights
from weakseg.model.inputs import network_input
from weakseg.paths import StudyPaths


@torch.no_grad()
def cache_features(study: Study, paths: StudyPaths, split: str, data_root: str | Path | None = None) -> None:
    """Write the trunk's maps of all photos of a list to `paths.features(split)`.

    A photo is scaled by network.image_scale, padded bottom and right with the mean pixel to stride * k + 1, and seen
    whole.

    Args:
        study: its network must freeze the trunk and name initial weights.
        paths: the study's result files.
        split: a list of the data set, `train_aug` or `val`.
        data_root: replaces `{data_root}` in configured paths.

    Raises:
        WeaksegError: the trunk is not frozen or has no initial weights.
    """
    network = study.network
    if not network.freeze_trunk or network.weights is None:
        raise WeaksegError(f"study {study.name}: a feature cache needs network.freeze_trunk and network.weights")
    weights = resolve_path(network.weights.path, data_root=data_root, results=paths.root)
    model = build_model(network, fov="large", num_labels=NUM_LABELS)
    load_initial_weights(model, weights, network.weights.sha256)
    trunk = model.trunk.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folder = open_data(paths.manifest)
    ids = folder.ids(split)
    stride = network.output_stride

    def maps() -> Iterator[tuple[str, tuple[int, int], Tensor]]:
        for image_id in tqdm(ids, desc=f"maps of {split}", unit="photo", mininterval=2):
            image = folder.image(image_id)
            height, width = image.shape[:2]
            inputs = network_input(image, network.image_scale, stride, network.weights.preprocessing)  # type: ignore[union-attr]
            yield image_id, (height, width), trunk(inputs)[0]

    write_feature_cache(
        paths.features(split),
        maps(),
        bound=model.trunk.bound,
        metadata={"trunk": network.trunk, "output_stride": stride, "weights_sha256": sha256_file(weights)},
    )
