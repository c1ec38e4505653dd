"""Scoring the evaluation images with a trained network."""

from collections.abc import Iterable

import numpy as np
import torch
from tqdm import tqdm

from weakseg.config import Experiment, Network
from weakseg.data.contents import check_unchanged, read_contents
from weakseg.data.dataset import open_data
from weakseg.data.features import FeatureCache
from weakseg.errors import WeaksegError
from weakseg.evaluate.score_store import write_scores
from weakseg.model import load_model
from weakseg.model.inputs import whole_scores
from weakseg.paths import StudyPaths


@torch.no_grad()
def score_run(experiment: Experiment, seed: int, paths: StudyPaths, *, test_px: int | None = None) -> None:
    """Score every evaluation photo with a trained run, whole and without dropout, into the run's score store.

    With a frozen trunk the cached maps go through the head alone; the result is that of the whole network up to the
    cache's quantisation.

    Args:
        experiment, seed: the run.
        paths: the study's result files.
        test_px: what `network.test_px` says now, which may be other than at the training.
    """
    run = paths.run(experiment.id, seed)
    model, facts = load_model(run.model)
    network: Network = facts["network"].model_copy(update={"test_px": test_px})
    data, contents = open_data(paths.manifest), read_contents(paths.contents)
    ids = data.ids("evaluation")
    check_unchanged(data, contents, ids, ["photo"])
    if facts["labels"] != data.labels:
        raise WeaksegError(f"{run.model}: trained for other labels than those of {paths.manifest}; train the run again")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    cache = None
    if network.freeze_trunk:
        cache = FeatureCache(paths.features("evaluation"))
        cache.check(network, facts["weights_sha256"], contents.digest(ids, "photo"))

    def maps() -> Iterable[tuple[str, tuple[int, int], np.ndarray]]:
        for image_id in tqdm(ids, desc="scores", unit="photo", mininterval=2):
            if cache is not None:
                size = cache.size(image_id)
                scores = model.head(cache.maps(image_id)[None].to(device))[0].cpu()
            else:
                image = data.image(image_id)
                size = (image.shape[0], image.shape[1])
                scores = whole_scores(model, image, network, facts["preprocessing"], device)
            yield image_id, size, scores.numpy()

    write_scores(run.scores, maps(), stride=network.output_stride, image_scale=network.image_scale)
