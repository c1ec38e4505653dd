"""Scores, CRF search, evaluation and segmentation of one fabricated run."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import make_experiment, make_study, prepare, write_voc
from PIL import Image

from weakseg.config import Compute
from weakseg.crf import CRFParams, mean_field, unary_from_scores
from weakseg.data.dataset import open_data
from weakseg.data.features import FeatureCache
from weakseg.data.images import read_index_png
from weakseg.errors import WeaksegError
from weakseg.evaluate.crf_search import tune_crf
from weakseg.evaluate.evaluate_run import evaluate_run
from weakseg.evaluate.score import _read_ahead, batches_of_equal_size, score_run
from weakseg.evaluate.score_store import ScoreStore, write_scores
from weakseg.evaluate.segment import segment_images
from weakseg.files import sha256_file, sha256_json
from weakseg.labels import VOC
from weakseg.metrics import confusion_matrix, mean_iou, mean_iou_of_occurring
from weakseg.model import load_model
from weakseg.train.features import cache_features
from weakseg.train.loop import train_run

STRONG = make_experiment("all", strong=10582)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A trained, scored, tuned and evaluated run on a frozen random trunk."""
    from safetensors.torch import save_file

    from weakseg.model import build_model

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    save_file(build_model("tiny-largefov").trunk.state_dict(), folder / "trunk.safetensors")
    weights = {"path": str(folder / "trunk.safetensors")}
    network = {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "weights": weights, "freeze_trunk": True}
    crf = {
        "coarse": {"w": [2, 4], "sigma_xy": [6, 10], "sigma_rgb": [5]},
        "refine_rounds": 1,
        "iterations": 3,
    }
    study = make_study(write_voc(folder / "VOC2012"), network=network, crf=crf)
    paths = prepare(study, folder / "results", [STRONG])
    for role in ("training", "evaluation"):
        cache_features(study, paths, role)
    train_run(study, STRONG, 0, paths)
    score_run(STRONG, 0, paths)
    run = paths.run("all", 0)
    tune_crf(study, paths, run)
    evaluate_run(study, STRONG, 0, paths)
    return study, paths, run


def test_scores_through_the_cache_equal_those_of_the_whole_network(done):
    _study, paths, run = done
    model, facts = load_model(run.model)
    store, folder = ScoreStore(run.scores), open_data(paths.manifest)
    from weakseg.model.inputs import network_input

    for image_id in folder.ids("evaluation"):
        image = folder.image(image_id)
        with torch.no_grad():
            whole = model(network_input(image, 1.0, 8, facts["preprocessing"]))[0].numpy()
        assert np.abs(store.map(image_id) - whole).max() < 0.02
        assert store.sizes[image_id] == image.shape[:2]
    assert FeatureCache(paths.features("evaluation")).raw(store.ids[0]).dtype == np.uint8


def test_crf_search_equals_a_plain_loop_over_mean_field(done):
    _study, paths, run = done
    store, folder, ids = ScoreStore(run.scores), open_data(paths.manifest), open_data(paths.manifest).ids("held_out")
    grid = pd.read_csv(run.crf_grid)
    assert list(grid["stage"].unique()) == ["coarse", "fine"] and len(grid) == len(
        grid.drop_duplicates(["w", "sigma_xy"])
    )
    for row in grid.itertuples():
        params = CRFParams(row.w, row.sigma_xy, row.sigma_rgb, row.w_pos, row.sigma_pos)
        total = np.zeros((21, 21), dtype=int)
        for image_id in ids:
            q = mean_field(unary_from_scores(store.full(image_id)), folder.image(image_id), params, iterations=3)
            total += confusion_matrix(folder.pixel_labels(image_id), q.argmax(0), 21)
        assert row.iou == pytest.approx(mean_iou(total), abs=1e-9)
    best = json.loads(run.crf.read_text())
    assert best["iou"] == pytest.approx(grid["iou"].max())
    winner = grid.loc[grid["iou"].idxmax()]
    assert (best["w"], best["sigma_xy"]) == (winner["w"], winner["sigma_xy"])


def test_a_killed_search_does_not_try_again_what_it_knows(done, tmp_path, monkeypatch):
    study, paths, run = done
    before = pd.read_csv(run.crf_grid)
    from weakseg.evaluate import crf_search

    blocks = []
    whole = crf_search.parallel_map

    def dies_in_the_second_block(function, items, **options):
        blocks.append(function.points)
        if len(blocks) == 2:
            raise KeyboardInterrupt
        return whole(function, items, **options)

    monkeypatch.setattr(crf_search, "BLOCK", 2)
    monkeypatch.setattr(crf_search, "parallel_map", dies_in_the_second_block)
    with pytest.raises(KeyboardInterrupt):
        tune_crf(study, paths, run)
    known = set(blocks[0])
    monkeypatch.setattr(crf_search, "parallel_map", lambda f, i, **o: blocks.append(f.points) or whole(f, i, **o))
    tune_crf(study, paths, run)
    assert all(point not in known for block in blocks[1:] for point in block)
    pd.testing.assert_frame_equal(before, pd.read_csv(run.crf_grid))


def test_metrics_know_what_they_were_scored_on(done):
    _study, paths, run = done
    data = open_data(paths.manifest)
    ids = data.ids("evaluation")
    scored_on = json.loads(run.metrics.read_text())["scored_on"]
    for kind in ("photo", "mask"):
        hashes = [[i, sha256_file(data.files(i)[kind])] for i in ids]
        assert scored_on[f"{kind}s_sha256"] == sha256_json(hashes)
    assert scored_on["list_sha256"] == sha256_json([ids, sorted(data.ids("held_out"))])


def test_metrics_follow_from_the_label_pngs(done):
    _study, paths, run = done
    folder = open_data(paths.manifest)
    metrics = json.loads(run.metrics.read_text())
    tuned = set(folder.ids("held_out"))
    for name, crf in (("dcnn", False), ("crf", True)):
        totals = {"val": np.zeros((21, 21), int), "untuned_val": np.zeros((21, 21), int)}
        for image_id in folder.ids("evaluation"):
            found = read_index_png(run.labels(crf=crf) / f"{image_id}.png", VOC)
            matrix = confusion_matrix(folder.pixel_labels(image_id), found, 21)
            totals["val"] += matrix
            if image_id not in tuned:
                totals["untuned_val"] += matrix
        for part, total in totals.items():
            assert metrics[name][part]["iou"] == pytest.approx(mean_iou(total), abs=1e-3)
            occurring = mean_iou_of_occurring(total)
            assert metrics[name][part]["iou_occurring"] == pytest.approx(occurring, abs=1e-3)
            assert occurring > 2 * mean_iou(total)  # 4 of 21 classes occur
        saved = pd.read_csv(run.confusion(crf=crf), index_col=0).to_numpy()
        assert np.array_equal(saved, totals["val"])
    assert metrics["images"] == {"val": 4, "untuned_val": 4 - len(tuned)}
    per_class = pd.read_csv(run.per_class)
    assert len(per_class) == 21 and per_class["iou_crf"].mean() == pytest.approx(metrics["crf"]["val"]["iou"], abs=1e-2)


def test_own_images_are_labelled_and_nothing_is_overwritten(done, tmp_path):
    _, paths, run = done
    folder = open_data(paths.manifest)
    image_id = folder.ids("evaluation")[0]
    photo = folder.image_path(image_id)
    portrait = tmp_path / "turned.png"
    Image.fromarray(folder.image(image_id)).transpose(Image.Transpose.ROTATE_90).save(portrait)
    segment_images(run.root, [photo, portrait], tmp_path / "out")
    assert np.array_equal(
        read_index_png(tmp_path / "out" / f"{image_id}.png", VOC),
        read_index_png(run.labels(crf=True) / f"{image_id}.png", VOC),
    )
    assert read_index_png(tmp_path / "out" / "turned.png", VOC).shape == (52, 40)
    assert (tmp_path / "out" / "turned_overlay.jpg").is_file()
    with pytest.raises(WeaksegError, match="--overwrite"):
        segment_images(run.root, [photo], tmp_path / "out")
    segment_images(run.root, [photo], tmp_path / "out", overwrite=True, crf=False)


def test_photos_that_cannot_be_used_are_named_before_any_is_labelled(done, tmp_path):
    _, paths, run = done
    folder = open_data(paths.manifest)
    photo = folder.image_path(folder.ids("evaluation")[0])
    with pytest.raises(WeaksegError, match="two photos"):
        segment_images(run.root, [photo, tmp_path / photo.name], tmp_path / "out")
    with pytest.raises(WeaksegError, match="no such photo"):
        segment_images(run.root, [photo, tmp_path / "none.jpg"], tmp_path / "out")
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(WeaksegError, match=r"torn\.jpg"):
        segment_images(run.root, [torn], tmp_path / "out")
    with pytest.raises(WeaksegError, match="train the run"):
        segment_images(tmp_path, [photo], tmp_path / "out")


def test_a_crf_on_the_device_finds_the_labels_of_the_cores(done, monkeypatch):
    study, paths, run = done
    before = {name: path.read_bytes() for name, path in (("crf", run.crf), ("grid", run.crf_grid))}
    labels = {path.name: np.array(Image.open(path)) for path in run.labels(crf=True).glob("*.png")}
    there = study.model_copy(update={"compute": Compute(crf="device")})
    grid = pd.read_csv(run.crf_grid)
    tune_crf(there, paths, run)
    again = pd.read_csv(run.crf_grid)
    keys = ["w", "sigma_xy", "sigma_rgb"]
    both = grid.merge(again, on=keys, suffixes=("", "_there"))
    assert len(both) >= 4 and np.abs(both["iou"] - both["iou_there"]).max() < 0.5
    run.crf.write_bytes(before["crf"])
    run.crf_grid.write_bytes(before["grid"])
    evaluate_run(there, STRONG, 0, paths)
    found = {path.name: np.array(Image.open(path)) for path in run.labels(crf=True).glob("*.png")}
    assert found.keys() == labels.keys()
    assert np.mean([(found[name] == labels[name]).mean() for name in labels]) > 0.99
    evaluate_run(study, STRONG, 0, paths)


@pytest.fixture(scope="module")
def of_many_sizes(tmp_path_factory):
    """A trained run on a network that trains whole, and evaluation photos of several sizes."""
    folder = tmp_path_factory.mktemp("sizes")
    root = write_voc(folder / "VOC2012", val=7)
    rng = np.random.default_rng(0)
    for n, size in enumerate([(40, 52), (52, 40), (41, 57), (40, 52), (39, 50), (52, 40), (41, 49)]):
        name = f"2007_{8 + n:06d}"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        Image.fromarray(np.zeros(size, np.uint8)).save(root / "SegmentationClassAug" / f"{name}.png")
    study = make_study(root, solver={"iterations": 1, "batch": 2})
    paths = prepare(study, folder / "results", [STRONG])
    train_run(study, STRONG, 0, paths)
    return paths


@pytest.mark.parametrize("batch", [2, 3, 50])
def test_photos_that_are_scored_together_have_the_scores_of_each_alone(of_many_sizes, batch):
    paths = of_many_sizes
    store = {}
    for size in (None, batch):
        score_run(STRONG, 0, paths, batch=size)
        opened = ScoreStore(paths.run("all", 0).scores)
        store[size] = {image_id: opened.map(image_id) for image_id in opened.ids}
        assert opened.ids == open_data(paths.manifest).ids("evaluation")
        assert all(opened.sizes[i] == open_data(paths.manifest).size(i) for i in opened.ids)
    for image_id, alone in store[None].items():
        np.testing.assert_allclose(store[batch][image_id].astype(float), alone.astype(float), rtol=2e-3, atol=1e-3)


def test_groups_are_of_one_padded_size_and_hold_each_image_once():
    sizes = {"a": (40, 52), "b": (52, 40), "c": (41, 57), "d": (41, 50), "e": (52, 41), "f": (33, 57)}
    network = make_study("nowhere", network={"trunk": "tiny", "crop_px": 33}).network
    assert batches_of_equal_size(list("abcdef"), sizes, network, 2) == [["a", "c"], ["b", "e"], ["d"], ["f"]]
    assert batches_of_equal_size(list("abcdef"), sizes, network, 9) == [["a", "c", "d"], ["b", "e"], ["f"]]
    assert batches_of_equal_size(list("ab"), sizes, network, 1) == [["a"], ["b"]]


def test_photos_that_are_read_ahead_come_in_their_order():
    read = {name: torch.full((1, 2), float(n)) for n, name in enumerate("abcdefg")}
    groups = [["a", "b"], ["c"], ["d", "e"], ["f"], ["g"]]
    for ahead in (False, True):
        found = list(_read_ahead(read.__getitem__, groups, ahead=ahead))
        assert [one[:, 0].tolist() for one in found] == [[0, 1], [2], [3, 4], [5], [6]]


def test_bad_score_stores_are_named(tmp_path):
    with pytest.raises(WeaksegError, match="weakseg score"):
        ScoreStore(tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(WeaksegError, match="not a score store"):
        ScoreStore(tmp_path / "torn.safetensors")
    write_scores(tmp_path / "s.safetensors", [("a", (9, 9), np.zeros((21, 2, 2)))], stride=8, image_scale=1.0)
    with pytest.raises(WeaksegError, match="no scores of image b"):
        ScoreStore(tmp_path / "s.safetensors").map("b")
