"""Scoring the evaluation images with a trained network."""

from collections.abc import Iterable

import numpy as np
import torch
from tqdm import tqdm

from weakseg.config import Experiment, Network, Study
from weakseg.data.features import FeatureCache
from weakseg.data.prepare import open_data
from weakseg.errors import WeaksegError
from weakseg.evaluate.scores import write_scores
from weakseg.labels import NUM_LABELS
from weakseg.model import load_model
from weakseg.model.inputs import network_input
from weakseg.paths import StudyPaths


@torch.no_grad()
def score_run(study: Study, experiment: Experiment, seed: int, paths: StudyPaths) -> None:
    """Score every photo of `val` with a trained run, whole and without dropout, into the run's score store.

    With a frozen trunk the cached maps go through the head alone; the result is that of the whole network up to the
    cache's quantisation.
    """
    run = paths.run(experiment.id, seed)
    model, facts = load_model(run.model)
    network: Network = facts["network"]
    folder = open_data(paths.manifest)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    cache = FeatureCache(paths.features("val")) if network.freeze_trunk else None

    def maps() -> Iterable[tuple[str, tuple[int, int], np.ndarray]]:
        for image_id in tqdm(folder.ids("val"), desc="scores of val", unit="photo", mininterval=2):
            if cache is not None:
                size = cache.size(image_id)
                scores = model.head(cache.maps(image_id)[None].to(device))
            else:
                image = folder.image(image_id)
                size = (image.shape[0], image.shape[1])
                inputs = network_input(image, network.image_scale, network.output_stride, facts["preprocessing"])
                scores = model(inputs.to(device))
            if scores.shape[1] != NUM_LABELS:
                raise WeaksegError(f"{run.model}: scores of {scores.shape[1]} labels; {NUM_LABELS} are evaluated")
            yield image_id, size, scores[0].cpu().numpy()

    write_scores(run.scores, maps(), stride=network.output_stride, image_scale=network.image_scale)
