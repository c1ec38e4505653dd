"""Training on the principal axes of a frozen trunk's map."""

import pytest
import torch
from fabricate import make_study

from train.runs import ADAPT, STRONG, network, ready, trained
from weakseg.data.dataset import open_data
from weakseg.errors import WeaksegError
from weakseg.evaluate.score import score_run
from weakseg.evaluate.score_store import ScoreStore
from weakseg.model import load_model
from weakseg.model.inputs import whole_scores
from weakseg.model.projection import load_projection, save_projection
from weakseg.train.features import cache_features, find_projection


@pytest.fixture
def study(voc, tmp_path):
    return make_study(voc, network=network(tmp_path, principal_axes=5))


def test_the_whole_network_scores_like_the_cached_maps(study, tmp_path) -> None:
    paths = ready(study, tmp_path, [STRONG])
    cache_features(study, paths, "evaluation")
    state = trained(study, STRONG, paths)
    projection, facts = load_projection(paths.projection)
    assert torch.equal(state["projection.weight"], projection.weight)
    assert facts["photos"] == 8 and 0.5 < facts["variance_share"] < 1
    score_run(STRONG, 0, paths)
    stored = ScoreStore(paths.run(STRONG.id, 0).scores)
    model, described = load_model(paths.run(STRONG.id, 0).model)
    data = open_data(paths.manifest)
    for image_id in data.ids("evaluation"):
        whole = (
            whole_scores(model, data.image(image_id), described["network"], described["preprocessing"]).detach().numpy()
        )
        cached = stored.map(image_id)
        assert cached.shape == whole.shape and abs(cached - whole).max() < 0.02 * abs(whole).max() + 0.01


def test_maps_of_other_axes_are_refused(study, tmp_path) -> None:
    paths = ready(study, tmp_path, [ADAPT])
    projection, facts = load_projection(paths.projection)
    projection.bias += 1
    save_projection(paths.projection, projection, facts)
    with pytest.raises(WeaksegError, match="projection_sha256"):
        trained(study, ADAPT, paths)


def test_axes_are_asked_for_by_the_study_alone(voc, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"needs network\.freeze_trunk"):
        make_study(voc, network=network(tmp_path, frozen=False, principal_axes=5))
    study = make_study(voc, network=network(tmp_path))
    paths = ready(study, tmp_path, [STRONG])
    with pytest.raises(WeaksegError, match="principal_axes"):
        find_projection(study, paths)
