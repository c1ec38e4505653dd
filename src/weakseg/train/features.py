"""Running a frozen trunk once over a list of photos and caching its feature maps."""

from collections.abc import Iterator
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
from weakseg.model import build_model, load_initial_weights
from weakseg.model.inputs import network_input
from weakseg.paths import StudyPaths


@torch.no_grad()
def cache_features(study: Study, paths: StudyPaths, role: Role, data_root: str | Path | None = None) -> None:
    """Write the trunk's feature maps of all photos of a list to `paths.features(role)`.

    A photo is scaled by network.image_scale, padded bottom and right with the mean pixel to stride * k + 1, and seen
    whole.

    Args:
        study: its network must freeze the trunk and name initial weights.
        paths: the study's result files.
        role: whose photos, those for `training` or for `evaluation`.
        data_root: replaces `{data_root}` in configured paths.

    Raises:
        WeaksegError: the trunk is not frozen or has no initial weights.
    """
    network = study.network
    if not network.freeze_trunk or network.weights is None:
        raise WeaksegError(f"study {study.name}: a feature cache needs network.freeze_trunk and network.weights")
    weights = find_weights(network.weights, paths.root, data_root)
    data, contents = open_data(paths.manifest), read_contents(paths.contents)
    ids = data.ids(role)
    check_unchanged(data, contents, ids, ["photo"])
    model = build_model(network, fov="large", num_labels=len(data.labels))
    load_initial_weights(model, weights, network.weights.sha256)
    device = choose_device()
    set_precision("fp32")
    print(f"device: {describe_device(device)}", flush=True)
    trunk = model.trunk.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stride = network.output_stride

    def maps() -> Iterator[tuple[str, tuple[int, int], Tensor]]:
        for image_id in tqdm(ids, desc=f"feature maps for {role} on {short_name(device)}", unit="photo", mininterval=2):
            image = data.image(image_id)
            height, width = image.shape[:2]
            inputs = network_input(image, network.image_scale, stride, network.weights.preprocessing)  # type: ignore[union-attr]
            yield image_id, (height, width), trunk(inputs.to(device))[0].cpu()

    write_feature_cache(
        paths.features(role),
        maps(),
        bound=model.trunk.bound,
        metadata=cache_facts(network, sha256_file(weights), contents.digest(ids, "photo")),
    )
