"""A study with classes of its own: from its folder to figures, a table and labelled photos."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fabricate import make_experiment, make_study, prepare, write_voc
from PIL import Image

from weakseg.config import load_study, study_experiments
from weakseg.data.dataset import open_data
from weakseg.data.prepare import prepare_data
from weakseg.errors import WeaksegError
from weakseg.evaluate.crf_search import tune_crf
from weakseg.evaluate.evaluate_run import evaluate_run
from weakseg.evaluate.score import score_run
from weakseg.evaluate.segment import segment_images
from weakseg.labels import LabelSet
from weakseg.report.tables import display_table, read_table, write_table
from weakseg.train.loop import train_run

NAMES = ["background", "lawn mower", "hedgehog", "cat"]
COLOURS = [[0, 0, 0], [128, 0, 0], [0, 170, 255], [255, 255, 0]]
"""VOC's palette where a class has no colour of its own."""
OWN = ["lawn mower", {"name": "hedgehog", "colour": "#00aaff"}, {"name": "cat", "colour": "#ffff00"}]
MINE = make_experiment("mine", strong=4, weak=4, method="em_adapt", table="own", line=1, title="Mine")


def own_study(root, labels, **changes):
    dataset = {"name": "garden", "source": "path", "path": str(root), "labels": labels}
    return make_study(root, dataset=dataset, counts="images", **changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A trained, scored, tuned and evaluated run; its configuration stands in a folder as a user writes it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("own")
    labels = LabelSet.of_classes("own", NAMES[1:], {"hedgehog": "#00aaff", "cat": "#ffff00"})
    made = own_study(write_voc(folder / "garden", labels=labels), OWN)
    (folder / "config" / "studies").mkdir(parents=True)
    sheet = {
        "lists": {"pixel_labelled": 4, "training": 8, "evaluation": 4, "held_out": 1},
        "experiments": [MINE.model_dump(mode="json")],
    }
    (folder / "config" / "experiments.yaml").write_text(yaml.safe_dump(sheet))
    (folder / "config" / "paper.yaml").write_text("table1: []\n")
    text = yaml.safe_dump(made.model_dump(mode="json", exclude_unset=True))
    (folder / "config" / "studies" / "garden.yaml").write_text(text)
    study = load_study("garden", folder / "config")
    assert study_experiments(study, folder / "config") == [MINE]
    paths = prepare(study, folder / "results", [MINE])
    train_run(study, MINE, 0, paths, config_dir=folder / "config")
    score_run(MINE, 0, paths)
    tune_crf(study, paths, paths.run("mine", 0))
    evaluate_run(study, MINE, 0, paths)
    return study, paths, folder


def palette_of(path):
    with Image.open(path) as picture:
        return np.array(picture), np.array(picture.getpalette()).reshape(-1, 3)[:4].tolist()


def test_results_are_of_the_own_classes(done):
    _study, paths, _ = done
    run, data = paths.run("mine", 0), open_data(paths.manifest)
    assert list(data.labels.names) == NAMES
    per_class = pd.read_csv(run.per_class)
    assert per_class["class"].tolist() == NAMES
    metrics = json.loads(run.metrics.read_text())
    assert (metrics["strong"], metrics["weak"]) == (4, 4)
    for stage in ("dcnn", "crf"):
        assert metrics[stage]["val"]["iou"] == pytest.approx(per_class[f"iou_{stage}"].mean(), abs=1e-3)
    confusion = pd.read_csv(run.confusion(crf=True), index_col="truth")
    assert list(confusion) == list(confusion.index) == NAMES
    pixels = sum((data.pixel_labels(i) < 4).sum() for i in data.ids("evaluation"))
    assert confusion.to_numpy().sum() == pixels
    shown = [sum((data.pixel_labels(i) == n).any() for i in data.ids("evaluation")) for n in range(4)]
    assert per_class["images"].tolist() == shown


def test_label_maps_and_segmented_photos_have_the_own_colours(done, tmp_path):
    _study, paths, _ = done
    run, data = paths.run("mine", 0), open_data(paths.manifest)
    image_id = data.ids("evaluation")[0]
    for crf in (True, False):
        assert palette_of(run.labels(crf=crf) / f"{image_id}.png")[1] == COLOURS
    segment_images(run.root, [data.image_path(image_id)], tmp_path)
    labels, palette = palette_of(tmp_path / f"{image_id}.png")
    assert palette == COLOURS
    assert np.array_equal(labels, palette_of(run.labels(crf=True) / f"{image_id}.png")[0])


def test_the_table_of_one_s_own_experiment(done):
    study, paths, folder = done
    write_table(study, paths, folder / "config", "own")
    (row,) = read_table(paths, "own").to_dict("records")
    metrics = json.loads(paths.run("mine", 0).metrics.read_text())
    assert (row["line"], row["experiment"], row["method"]) == (1, "mine", "Mine")
    assert (row["strong"], row["weak"]) == (4, 4) and pd.isna(row["published_iou"])
    assert row["iou_crf_mean"] == pytest.approx(metrics["crf"]["val"]["iou"], abs=1e-3)
    assert row["iou_crf_occurring_mean"] == pytest.approx(metrics["crf"]["val"]["iou_occurring"], abs=1e-3)
    assert display_table(read_table(paths, "own"))["ours − paper"].tolist() == ["–"]


def test_a_network_of_other_labels_scores_nothing(done, tmp_path):
    _study, paths, folder = done
    other = own_study(folder / "garden", ["lawn mower", "hedgehog", "dog"])
    elsewhere = type(paths)(other.name, tmp_path)
    prepare_data(other, elsewhere)
    run = elsewhere.run("mine", 0)
    run.root.mkdir(parents=True)
    run.model.write_bytes(paths.run("mine", 0).model.read_bytes())
    with pytest.raises(WeaksegError, match=r"model\.safetensors: trained for other labels than those of .*manifest"):
        score_run(MINE, 0, elsewhere)
    assert not run.scores.exists()
