"""Trainings that draw from two data sets, that start from another run, and of the second stage."""

import json

import numpy as np
import pytest
import torch
from fabricate import make_study, write_voc
from PIL import Image
from safetensors.torch import load_file

from train.runs import STRONG, decided_log, network, run_hash, same, trained
from weakseg.annotations.annotate import annotate
from weakseg.config import Experiment, Study
from weakseg.data.dataset import open_data
from weakseg.data.prepare import prepare_data
from weakseg.errors import WeaksegError
from weakseg.evaluate.crf_search import tune_crf
from weakseg.evaluate.evaluate_run import evaluate_run
from weakseg.evaluate.score import score_run
from weakseg.evaluate.score_store import ScoreStore
from weakseg.evaluate.submission import write_submission
from weakseg.labels import LabelSet
from weakseg.model import load_model
from weakseg.paths import StudyPaths
from weakseg.train.features import cache_features, find_projection
from weakseg.train.loop import forward, taught, train_run
from weakseg.train.setup import prepare_run

OTHER = LabelSet.of_classes("own", ["kite", "aeroplane", "bicycle"])
"""`write_voc` paints 1..3: VOC's aeroplane, bicycle and bird are here kite, aeroplane and bicycle."""

OWN = {"annotation": "strong", "images": 10582, "method": "pixel_labels"}
SOME = {"annotation": "strong", "images": 5000, "method": "pixel_labels", "dataset": "coco"}
TAGGED = {"annotation": "image", "images": 118287, "method": "em_fixed", "dataset": "coco"}


def experiment(name: str, *streams: dict, **fields) -> Experiment:
    known = {"id": name, "table": "table5", "line": 1, "title": name, "fov": "large"}
    return Experiment.model_validate({**known, **fields, "streams": streams})


JOINT = experiment("joint", OWN, SOME, TAGGED)
ALONE = experiment("alone", {**SOME, "images": 123287})
TUNED = experiment("tuned", OWN, init_from="alone", fresh_classifier=True)
MSC = experiment("msc", OWN, init_from="all", multi_scale=True)
SECOND = experiment("second", {**OWN, "images": 12031}, init_from="all", stage="test", pixel_labels_of_val=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders whose images have the same ids; the first has test images too."""
    root = tmp_path_factory.mktemp("two")
    own = write_voc(root / "own")
    lists = own / "ImageSets" / "Segmentation"
    ids = (lists / "val.txt").read_text().split()
    (lists / "val.txt").write_text("\n".join(ids[:2]) + "\n")
    (lists / "test.txt").write_text("\n".join(ids[2:]) + "\n")
    return own, write_voc(root / "other", seed=7, train_aug=10, val=1, labels=OTHER)


def study_on(folders, **changes) -> Study:
    own, other = folders
    dataset = {"name": "own", "source": "path", "path": str(own), "lists": {"test": "test"}}
    second = {"name": "other", "source": "path", "path": str(other), "labels": list(OTHER.classes)}
    return make_study(own, **{"dataset": dataset, "other_datasets": {"coco": second}, **changes})


def ready(study: Study, results, experiments) -> StudyPaths:
    """Data, annotation and feature maps of both data sets."""
    paths = StudyPaths(study.name, results)
    for name in (None, "coco"):
        of_set, files = study.of_dataset(name), paths.of_dataset(name)
        prepare_data(of_set, files)
        annotate(of_set, experiments, files, threads=1)
        if study.network.principal_axes and name is None:
            find_projection(of_set, files)
        if study.network.freeze_trunk:
            cache_features(of_set, files, "training")
            if name is None:
                cache_features(of_set, files, "evaluation")
                cache_features(of_set, files, "test")
    return paths


def test_a_joint_run_learns_all_labels_and_is_scored_in_the_study_s_own(folders, tmp_path):
    study = study_on(folders)
    paths = ready(study, tmp_path, [JOINT])
    trained(study, JOINT, paths)
    model, facts = load_model(paths.run("joint", 0).model)
    assert facts["joint_labels"].names[:5] == ("background", "kite", "aeroplane", "bicycle", "bird")
    assert len(facts["joint_labels"]) == 22 and len(facts["labels"]) == 21 and model.head.fc8.out_channels == 22
    config = json.loads(paths.run("joint", 0).config.read_text())
    assert (config["strong"], config["weak"]) == (1, 9)  # of the other data set; 5,000 of 123,287 are one at least
    score_run(JOINT, 0, paths)
    store = ScoreStore(paths.run("joint", 0).scores)
    assert store.full(open_data(paths.manifest).ids("evaluation")[0]).shape == (21, 40, 52)


def test_photos_and_labels_of_equal_ids_come_from_their_own_folder(folders, tmp_path):
    study = study_on(folders)
    paths = ready(study, tmp_path, [JOINT])
    setup = prepare_run(study, JOINT, 0, paths)
    photos = setup.inputs.data
    own, other = (open_data(paths.of_dataset(name).manifest) for name in (None, "coco"))
    assert np.array_equal(photos.image("2007_000001"), own.image("2007_000001"))
    assert np.array_equal(photos.image("coco:2007_000001"), other.image("2007_000001"))
    assert not np.array_equal(own.image("2007_000001"), other.image("2007_000001"))
    assert [draw.stream.ids[0].startswith("coco:") for draw in setup.batches.draws] == [False, True, True]
    taken = [{i.removeprefix("coco:") for i in draw.stream.ids} for draw in setup.batches.draws]
    assert len(taken[1]) == 1 and len(taken[2]) == 9 and taken[1].isdisjoint(taken[2])


def test_each_stream_s_loss_is_that_of_its_own_labels(folders, tmp_path):
    """The mini-batch's losses, from probabilities summed over the labels that a data set has no name for."""
    study = study_on(folders, solver={"iterations": 2, "batch": 6, "lr": 0.01})
    paths = ready(study, tmp_path, [JOINT])
    setup = prepare_run(study, JOINT, 0, paths)
    batch = setup.batches[0]
    scores = forward(setup, batch).detach()
    losses, maps = taught(setup, batch, scores, 0)
    probability = scores.double().softmax(1)
    names = list(setup.sources.joint.labels.names)
    begin = 0
    for teaching, part, loss, labels in zip(setup.teachings, batch.parts, losses, maps, strict=True):
        own = teaching.source.data.labels
        channels = [[names.index(name)] for name in own.names]
        channels[0] = [c for c in range(len(names)) if c == 0 or names[c] not in own.names]
        of_set = torch.stack([probability[begin : begin + len(part.inside), c].sum(1) for c in channels], 1)
        valid = labels != 255
        picked = of_set.gather(1, labels.masked_fill(~valid, 0)[:, None])[:, 0]
        assert torch.isclose(-picked[valid].log().mean(), loss.double(), rtol=1e-4)
        begin += len(part.inside)


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_a_killed_joint_run_goes_on_to_the_same_bit(folders, tmp_path, frozen):
    changes = {"network": network(tmp_path, principal_axes=24)} if frozen else {}
    study = study_on(folders, **changes)
    paths = ready(study, tmp_path / "results", [JOINT])
    whole = trained(study, JOINT, paths)
    log = decided_log(paths.run("joint", 0))
    paths.run("joint", 0).model.unlink()
    train_run(study, JOINT, 0, paths, stop_after=3, workers=1)
    train_run(study, JOINT, 0, paths)
    assert same(whole, load_file(paths.run("joint", 0).model)) and log.equals(decided_log(paths.run("joint", 0)))


def test_what_decides_a_joint_run(folders, tmp_path):
    base = study_on(folders)
    paths = ready(base, tmp_path, [JOINT, STRONG])
    before, strong = run_hash(base, JOINT, paths), run_hash(base, STRONG, paths)
    more = study_on(folders)
    more.other_datasets["coco"].images_for[5000] = 3
    assert run_hash(more, JOINT, paths) != before and run_hash(more, STRONG, paths) == strong
    fewer = study_on(folders)
    fewer.other_datasets["coco"] = fewer.other_datasets["coco"].model_copy(update={"shared": {"bird": "kite"}})
    assert run_hash(fewer, JOINT, paths) != before and run_hash(fewer, STRONG, paths) == strong
    labels = paths.of_dataset("coco").image_labels
    text = labels.read_text()
    try:
        labels.write_text(text.replace("kite,aeroplane", "aeroplane,kite"))
        assert run_hash(base, JOINT, paths) != before and run_hash(base, STRONG, paths) == strong
    finally:
        labels.write_text(text)
    assert run_hash(base, JOINT, paths) == before


def test_a_run_starts_from_another_s_network_but_for_a_fresh_classifier(folders, tmp_path):
    study = study_on(folders)
    paths = ready(study, tmp_path, [ALONE, TUNED])
    with pytest.raises(WeaksegError, match=r"alone/seed0/model\.safetensors: no such network"):
        prepare_run(study, TUNED, 0, paths)
    start = trained(study, ALONE, paths)
    setup = prepare_run(study, TUNED, 0, paths)
    own = setup.model.state_dict()
    kept = [name for name in own if not name.startswith(("head.fc8", "head.skip"))]
    assert len(kept) > 10 and all(torch.equal(own[name], start[name]) for name in kept)
    assert own["head.fc8.weight"].shape[0] == 21 and start["head.fc8.weight"].shape[0] == 22
    assert setup.start.layers == ("fc8", "skip")
    first = setup.decided_by["hash"]
    changed = study_on(folders, solver={"iterations": 7, "batch": 4, "lr": 0.01})
    trained(changed, ALONE, paths)
    assert run_hash(study, TUNED, paths) != first  # another start makes another run
    whole = TUNED.model_copy(update={"fresh_classifier": False})
    with pytest.raises(WeaksegError, match="its labels are others than those of experiment tuned"):
        prepare_run(study, whole, 0, paths)
    small = TUNED.model_copy(update={"fov": "small"})
    with pytest.raises(WeaksegError, match=r"head\.fc6\.weight does not fit"):
        prepare_run(study, small, 0, paths)


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_the_second_stage_trains_on_val_too_and_is_scored_on_test(folders, tmp_path, frozen):
    changes = {"network": network(tmp_path)} if frozen else {}
    study = study_on(folders, **changes)
    paths = ready(study, tmp_path / "results", [STRONG, SECOND])
    trained(study, STRONG, paths)
    score_run(STRONG, 0, paths)
    tune_crf(study, paths, paths.run("all", 0))
    first = load_file(paths.run("all", 0).model)
    assert same(prepare_run(study, SECOND, 0, paths).model.state_dict(), first)
    trained(study, SECOND, paths)
    data, run = open_data(paths.manifest), paths.run("second", 0)
    assert json.loads(run.config.read_text())["strong"] == 8 + 2
    weak_only = SECOND.model_copy(update={"pixel_labels_of_val": False})
    assert len(prepare_run(study, weak_only, 0, paths).teachings[0].ids) == 10  # 12,031 are all there are
    score_run(SECOND, 0, paths)
    evaluate_run(study, SECOND, 0, paths, crf_of=paths.run("all", 0))
    metrics = json.loads(run.metrics.read_text())
    assert metrics["stage"] == "test" and metrics["images"] == {"val": 2, "untuned_val": 2}
    assert metrics["crf_params"] == json.loads(paths.run("all", 0).crf.read_text())
    write_submission(SECOND, 0, paths)
    assert run.submission.is_file()
    labelled = {path.stem: np.asarray(Image.open(path)) for path in run.labels(crf=True).glob("*.png")}
    assert set(labelled) == set(data.ids("test")) and all(map_.max() <= 20 for map_ in labelled.values())
    with pytest.raises(WeaksegError, match="experiment all: it is scored on val"):
        write_submission(STRONG, 0, paths)


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_branches_alone_learn_on_a_finished_network(folders, tmp_path, frozen):
    changes = {"network": network(tmp_path, principal_axes=24)} if frozen else {}
    study = study_on(folders, **changes)
    paths = ready(study, tmp_path / "results", [STRONG, MSC])
    base = trained(study, STRONG, paths)
    fresh = prepare_run(study, MSC, 0, paths).model.state_dict()
    after = trained(study, MSC, paths)
    branches = {name for name in after if name.startswith("branches.")}
    assert len(branches) >= 6 and after.keys() - branches == base.keys()
    assert all(torch.equal(after[name], base[name]) for name in base)
    assert all(not torch.equal(after[name], fresh[name]) for name in branches if name.endswith("weight"))
    train_run(study, MSC.model_copy(update={"id": "again"}), 0, paths, stop_after=3)
    train_run(study, MSC.model_copy(update={"id": "again"}), 0, paths)
    assert same(load_file(paths.run("again", 0).model), after)
    for row in (STRONG, MSC):
        score_run(row, 0, paths)
    image_id = open_data(paths.manifest).ids("evaluation")[0]
    plain, added = (ScoreStore(paths.run(row.id, 0).scores).full(image_id) for row in (STRONG, MSC))
    assert plain.shape == added.shape and not np.allclose(plain, added) and np.abs(plain - added).max() < 2
