"""The evaluate room where it is easily wrong: ties, near-equal parameters, stale resume states, odd photos."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import make_experiment, make_study, prepare, write_voc
from PIL import Image

from weakseg.config import Network, Preprocessing
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png, write_index_png
from weakseg.errors import WeaksegError
from weakseg.evaluate import crf_search, segment
from weakseg.evaluate.crf_search import tune_crf
from weakseg.evaluate.evaluate_run import evaluate_run
from weakseg.evaluate.score_store import ScoreStore, write_scores
from weakseg.evaluate.segment import overlay, segment_images
from weakseg.files import atomic_write_json
from weakseg.labels import VOC, LabelSet
from weakseg.metrics import confusion_matrix
from weakseg.model import build_model, save_model

STRONG = make_experiment("all", strong=10582)


def fabricate_run(folder, *, empty=False, held=None, **crf):
    """A run whose scores are the truth at the cells, with noise, or background everywhere; nothing is trained."""
    root = write_voc(folder / "VOC2012")
    if held is not None:
        val = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
        (root / "ImageSets" / "Segmentation" / "crf_val.txt").write_text("\n".join(val[:held]) + "\n")
    grid = {"coarse": {"w": [2], "sigma_xy": [8], "sigma_rgb": [5]}, "refine_rounds": 0, "iterations": 2, **crf}
    study = make_study(root, crf=grid)
    paths = prepare(study, folder / "results")
    run, data = paths.run("all", 0), open_data(paths.manifest)
    rng = np.random.default_rng(0)

    def maps():
        for image_id in data.ids("evaluation"):
            truth = data.pixel_labels(image_id)
            cells = np.pad(truth, ((0, 1), (0, 5)))[::8, ::8] * (not empty)
            one_hot = np.arange(21)[:, None, None] == cells
            yield image_id, truth.shape, 3 * one_hot + (not empty) * rng.normal(size=one_hot.shape)

    write_scores(run.scores, maps(), stride=8, image_scale=1.0)
    atomic_write_json(run.config, {"strong": 8, "weak": 0, "train_seconds": 1.0, "hash": "0"})
    return study, paths, run


def test_of_equal_parameters_the_first_in_grid_order_wins(tmp_path):
    # Background alone, which no parameters change; the grid is not in ascending order.
    study, paths, run = fabricate_run(
        tmp_path,
        empty=True,
        coarse={"w": [4, 2], "sigma_xy": [10, 6], "sigma_rgb": [7, 5]},
        refine_rounds=1,
    )
    tune_crf(study, paths, run)
    grid, best = pd.read_csv(run.crf_grid), json.loads(run.crf.read_text())
    assert grid["iou"].nunique() == 1
    assert (best["w"], best["sigma_xy"], best["sigma_rgb"]) == (4, 10, 7)
    assert best["iou"] == pytest.approx(best["iou_dcnn"])
    assert grid[grid["stage"] == "coarse"]["w"].tolist() == [4] * 4 + [2] * 4
    assert not grid.duplicated(["w", "sigma_xy", "sigma_rgb"]).any()


def test_parameters_that_differ_late_are_told_apart(tmp_path):
    study, paths, run = fabricate_run(tmp_path, coarse={"w": [2, 2.0000001], "sigma_xy": [8], "sigma_rgb": [5]})
    tune_crf(study, paths, run)
    assert pd.read_csv(run.crf_grid)["w"].tolist() == [2, 2.0000001]


def test_what_was_found_with_another_mask_is_not_reused(tmp_path, monkeypatch):
    study, paths, run = fabricate_run(tmp_path, coarse={"w": [2, 4], "sigma_xy": [8], "sigma_rgb": [5]})
    whole, calls = crf_search.parallel_map, []

    def dies_in_the_second_block(function, items, **options):
        calls.append(function.points)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(function, items, **options)

    monkeypatch.setattr(crf_search, "BLOCK", 1)
    monkeypatch.setattr(crf_search, "parallel_map", dies_in_the_second_block)
    with pytest.raises(KeyboardInterrupt):
        tune_crf(study, paths, run)
    data = open_data(paths.manifest)
    image_id = data.ids("held_out")[0]
    write_index_png(data.mask_path(image_id), np.where(data.pixel_labels(image_id) == 0, 9, 0), VOC)
    monkeypatch.setattr(crf_search, "parallel_map", whole)
    tune_crf(study, paths, run)
    resumed = pd.read_csv(run.crf_grid)
    tune_crf(study, paths, run)
    pd.testing.assert_frame_equal(resumed, pd.read_csv(run.crf_grid))


def test_the_search_takes_as_many_held_out_images_as_the_study_says(tmp_path):
    study, paths, run = fabricate_run(tmp_path, held=3, images=2)
    tune_crf(study, paths, run)
    assert json.loads(run.crf.read_text())["images"] == 2
    evaluate_run(study, STRONG, 0, paths)
    # What is held out stays out of `untuned_val`, whether the search took it or not.
    assert json.loads(run.metrics.read_text())["images"] == {"val": 4, "untuned_val": 1}


def test_no_iou_is_claimed_over_no_image(tmp_path):
    study, paths, run = fabricate_run(tmp_path, held=4)
    tune_crf(study, paths, run)
    evaluate_run(study, STRONG, 0, paths)
    metrics = json.loads(run.metrics.read_text())
    assert metrics["images"]["untuned_val"] == 0
    assert metrics["crf"]["untuned_val"]["iou"] is None and metrics["dcnn"]["untuned_val"]["iou"] is None
    assert metrics["crf"]["untuned_val"]["iou_occurring"] is None
    assert metrics["crf"]["val"]["iou_occurring"] > metrics["crf"]["val"]["iou"] > 0
    assert pd.read_csv(run.per_class)["iou_crf_untuned_val"].isna().all()


def test_evaluation_runs_the_crf_as_it_was_tuned(tmp_path):
    study, paths, run = fabricate_run(tmp_path)
    tune_crf(study, paths, run)
    evaluate_run(study, STRONG, 0, paths)
    before = run.per_class.read_text()
    changed = study.model_copy(update={"crf": study.crf.model_copy(update={"iterations": 0})})
    evaluate_run(changed, STRONG, 0, paths)
    assert run.per_class.read_text() == before


def test_void_pixels_count_nowhere(tmp_path):
    study, paths, run = fabricate_run(tmp_path)
    tune_crf(study, paths, run)
    data = open_data(paths.manifest)
    first, *others = data.ids("evaluation")
    write_index_png(data.mask_path(first), np.full(data.size(first), 255), VOC)
    evaluate_run(study, STRONG, 0, paths)
    made = {i: read_index_png(run.labels(crf=True) / f"{i}.png", VOC) for i in others}
    expected = sum(confusion_matrix(data.pixel_labels(i), found, 21) for i, found in made.items())
    assert np.array_equal(pd.read_csv(run.confusion(crf=True), index_col=0).to_numpy(), expected)


def test_an_image_without_scores_stops_the_evaluation_and_leaves_nothing_half_done(tmp_path):
    study, paths, run = fabricate_run(tmp_path)
    tune_crf(study, paths, run)
    data = open_data(paths.manifest)
    missing = data.ids("evaluation")[-1]
    store = ScoreStore(run.scores)
    rest = [(i, store.sizes[i], store.map(i)) for i in store.ids if i != missing]
    write_scores(run.scores, rest, stride=8, image_scale=1.0)
    with pytest.raises(WeaksegError, match=f"no scores of image {missing}"):
        evaluate_run(study, STRONG, 0, paths)
    assert not run.labels(crf=True).exists() and not run.metrics.exists()
    assert not [path for path in run.root.iterdir() if "partial" in path.name]


def test_scores_beyond_half_precision_are_refused(tmp_path):
    with pytest.raises(WeaksegError, match="image a"):
        write_scores(tmp_path / "s", [("a", (9, 9), np.full((21, 2, 2), 1e5))], stride=8, image_scale=1.0)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network of random weights and CRF parameters."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = Network(trunk="tiny", output_stride=8, head_channels=8, crop_px=33)
    save_model(
        folder / "model.safetensors",
        build_model(network),
        network=network,
        fov="large",
        preprocessing=Preprocessing(),
        labels=VOC,
        metadata={},
    )
    params = {"w": 2, "sigma_xy": 8, "sigma_rgb": 5, "w_pos": 3, "sigma_pos": 3, "iterations": 2}
    atomic_write_json(folder / "crf.json", params)
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 9), (8, 17), (33, 65)])
def test_photos_of_any_size_get_labels_of_their_size(trained, tmp_path, size):
    photo = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(photo)
    segment_images(trained, [photo], tmp_path / "out")
    assert read_index_png(tmp_path / "out" / "p.png", VOC).shape == size


def test_photos_of_any_mode_are_read_as_the_same_picture(trained, tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
    picture = Image.fromarray(grey)
    picture.save(tmp_path / "l.png")
    for mode in ("RGB", "RGBA", "LA"):
        picture.convert(mode).save(tmp_path / f"{mode}.png")
    picture.convert("P").save(tmp_path / "p.png")
    # 257 steps of 16 bits are one of 8: the low byte alone says nothing.
    Image.fromarray(np.maximum(grey.astype(np.int32) * 257 - 100, 0).astype(np.uint16)).save(tmp_path / "sixteen.png")
    photos = sorted(tmp_path.glob("*.png"))
    segment_images(trained, photos, tmp_path / "out")
    expected = read_index_png(tmp_path / "out" / "l.png", VOC)
    for photo in photos:
        assert np.array_equal(read_index_png(tmp_path / "out" / photo.name, VOC), expected), photo.name
    cmyk = tmp_path / "cmyk.jpg"
    picture.convert("CMYK").save(cmyk)
    segment_images(trained, [cmyk], tmp_path / "out")


def test_a_photo_is_turned_as_its_exif_data_says(trained, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.rot90(pixels, -1).copy()).save(tmp_path / "upright.png")
    segment_images(trained, [tmp_path / "turned.png", tmp_path / "upright.png"], tmp_path / "out")
    turned, upright = (read_index_png(tmp_path / "out" / f"{name}.png", VOC) for name in ("turned", "upright"))
    assert turned.shape == (40, 24) and np.array_equal(turned, upright)


def test_an_overlay_never_replaces_a_file_unasked(trained, tmp_path):
    for name in ("a.jpg", "a_overlay.jpg"):
        Image.new("RGB", (16, 16), (9, 99, 199)).save(tmp_path / name)
    mine = (tmp_path / "a_overlay.jpg").read_bytes()
    with pytest.raises(WeaksegError, match=r"a_overlay\.jpg.*--overwrite"):
        segment_images(trained, [tmp_path / "a.jpg"], tmp_path)
    # Not even with `overwrite` where it is one of the photos.
    for order in (("a.jpg", "a_overlay.jpg"), ("a_overlay.jpg", "a.jpg")):
        with pytest.raises(WeaksegError, match="choose another --out"):
            segment_images(trained, [tmp_path / name for name in order], tmp_path, overwrite=True)
    assert (tmp_path / "a_overlay.jpg").read_bytes() == mine and not (tmp_path / "a.png").exists()


def test_a_photo_beyond_pillows_limit_is_named(trained, tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(WeaksegError, match=r"huge\.png"):
        segment_images(trained, [tmp_path / "huge.png"], tmp_path / "out")


@pytest.mark.parametrize("error", [MemoryError("9 GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_photo_that_does_not_fit_in_memory_is_named(trained, tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    for name in ("small", "huge"):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{name}.png")
    monkeypatch.setattr(segment, "label_map", fail)
    with pytest.raises(
        WeaksegError, match=r"huge\.png: it does not fit in the memory .*(allocate|9 GiB).*scale it down"
    ):
        segment_images(trained, [tmp_path / "huge.png"], tmp_path / "out")
    assert not (tmp_path / "out" / "huge.png").exists()
    error = RuntimeError("another fault")
    with pytest.raises(RuntimeError, match="another fault"):
        segment_images(trained, [tmp_path / "huge.png"], tmp_path / "out")
    monkeypatch.undo()
    segment_images(trained, [tmp_path / "small.png"], tmp_path / "out")


def test_overlay_colours_objects_and_leaves_the_background():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    labels = np.array([[0, 1]], dtype=np.uint8)
    # Label 1 is (128, 0, 0) in the VOC palette.
    assert overlay(image, labels, VOC)[0].tolist() == [[100] * 3, [round(0.4 * 100 + 0.6 * 128), 40, 40]]
    own = LabelSet.of_classes("own", ["cat"], {"cat": "#0000ff"})
    assert overlay(image, labels, own)[0].tolist() == [[100] * 3, [40, 40, round(0.4 * 100 + 0.6 * 255)]]
