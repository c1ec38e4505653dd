"""The training loop on a fabricated data set: it learns, resumes to the bit, and stops where a loss is not finite."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import make_study, prepare, write_voc, write_voc_boxes
from safetensors.torch import load_file

from weakseg.annotations.bbox_rect import bbox_rect, write_bbox_rect
from weakseg.annotations.bbox_seg import BboxSegParams, write_bbox_seg
from weakseg.annotations.boxes import read_boxes, write_boxes
from weakseg.config import Experiment
from weakseg.crf import CRFParams
from weakseg.data.prepare import open_data
from weakseg.data.voc import VocFolder, write_index_png
from weakseg.errors import WeaksegError
from weakseg.train import loop
from weakseg.train.features import cache_features
from weakseg.train.loop import TrainingLists, run_config, train_run

SEMI = Experiment(
    id="semi", table="table1", line=8, method="EM-Fixed (Semi)", strong=1464, weak=9118, weak_annotation="image",
    estep="em_fixed", fov="large",
)  # fmt: skip
ADAPT = Experiment(
    id="adapt", table="table1", line=2, method="EM-Adapt (Weak)", weak=10582, weak_annotation="image",
    estep="em_adapt", fov="small",
)  # fmt: skip
BOXES = {
    estep: Experiment(
        id=estep, table="table3", line=1, method="Bbox", strong=strong, weak=9118 if strong else 10582,
        weak_annotation="box", estep=estep, fov="large",
    )
    for estep, strong in (("bbox_rect", 1464), ("bbox_seg", 0), ("bbox_em_fixed", 0))
}  # fmt: skip
STRONG = Experiment(id="all", table="table1", line=10, method="Strong", strong=10582, fov="large")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    torch.set_num_threads(1)
    return write_voc_boxes(write_voc(tmp_path_factory.mktemp("voc") / "VOC2012"))


def annotate(study, paths):
    """Boxes and the maps of both methods."""
    write_boxes(paths.manifest, paths.boxes)
    write_bbox_rect(paths.manifest, paths.boxes, paths.box_maps("bbox_rect"))
    params = BboxSegParams(0.4, CRFParams(5, 10, 5), iterations=1)
    write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params)


def frozen_network(tmp_path):
    """A network on the cached maps of a random `tiny` trunk."""
    from safetensors.torch import save_file

    from weakseg.model import build_model

    torch.manual_seed(0)
    save_file(build_model("tiny-largefov").trunk.state_dict(), tmp_path / "trunk.safetensors")
    weights = {"path": str(tmp_path / "trunk.safetensors")}
    return {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "weights": weights, "freeze_trunk": True}


@pytest.mark.parametrize("experiment", [SEMI, ADAPT, *BOXES.values()], ids=["semi", "adapt", *BOXES])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_killed_run_goes_on_to_the_same_bit(voc, tmp_path, experiment, frozen):
    changes = {"network": frozen_network(tmp_path)} if frozen else {}
    study = make_study(voc, sampling={"repeat_factor_threshold": 0.5}, **changes)
    models, logs = [], []
    for name, kills in (("whole", []), ("killed", [3, 4])):
        paths = prepare(study, tmp_path / name)
        if experiment.weak_annotation == "box":
            annotate(study, paths)
        if frozen:
            cache_features(study, paths, "train_aug")
        for stop in kills:
            train_run(study, experiment, 5, paths, stop_after=stop)
            assert not paths.run(experiment.id, 5).model.exists()
        train_run(study, experiment, 5, paths)
        run = paths.run(experiment.id, 5)
        models.append(load_file(run.model))
        logs.append(pd.read_csv(run.train_log))
        assert not list(run.resume.iterdir())
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    decided = ["iteration", "loss", "loss_strong", "loss_weak", "lr", "background_share"]
    pd.testing.assert_frame_equal(logs[0][decided], logs[1][decided])
    assert list(logs[0]["iteration"]) == list(range(6))


def test_another_seed_or_setting_gives_another_run(voc, tmp_path):
    study = make_study(voc)
    paths = prepare(study, tmp_path)
    for seed in (0, 1):
        train_run(study, STRONG, seed, paths)
    first, second = (json.loads(paths.run("all", seed).config.read_text()) for seed in (0, 1))
    assert first["hash"] != second["hash"] and first["strong"] == 8 and first["weak"] == 0


def test_strong_training_overfits_a_few_images(voc, tmp_path):
    solver = {
        "iterations": 60,
        "batch": 4,
        "lr": 0.02,
        "schedule": "poly",
        "head_lr_multiplier": 3,
        "fc8_lr_multiplier": 3,
    }
    study = make_study(voc, solver=solver)
    paths = prepare(study, tmp_path)
    train_run(study, STRONG, 0, paths)
    log = pd.read_csv(paths.run("all", 0).train_log)
    assert log["loss"].tail(10).mean() < 0.35 * log["loss"].head(3).mean()


def test_a_loss_that_is_not_finite_stops_with_its_iteration_and_keeps_the_last_state(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    paths = prepare(study, tmp_path)
    whole = loop.mixed_loss
    calls = []

    def breaks_at_the_fifth(*arguments):
        calls.append(1)
        loss, *halves = whole(*arguments)
        return (loss * float("nan") if len(calls) == 5 else loss, *halves)

    monkeypatch.setattr(loop, "mixed_loss", breaks_at_the_fifth)
    with pytest.raises(WeaksegError, match="iteration 4"):
        train_run(study, STRONG, 0, paths)
    run = paths.run("all", 0)
    state = torch.load(next(run.resume.glob("*.pt")), weights_only=True)
    assert state["iteration"] == 4 and not run.model.exists()
    monkeypatch.undo()
    train_run(study, STRONG, 0, paths)
    assert run.model.exists()


def test_a_damaged_resume_state_says_what_to_delete(voc, tmp_path):
    study = make_study(voc)
    paths = prepare(study, tmp_path)
    train_run(study, STRONG, 0, paths, stop_after=2)
    state = next(paths.run("all", 0).resume.glob("*.pt"))
    state.write_bytes(b"torn")
    with pytest.raises(WeaksegError, match="delete it"):
        train_run(study, STRONG, 0, paths)


def test_estep_pictures_are_written_when_asked_for(voc, tmp_path):
    solver = {"iterations": 3, "batch": 2, "estep_pictures_every": 2}
    study = make_study(voc, solver=solver)
    paths = prepare(study, tmp_path)
    train_run(study, ADAPT, 0, paths)
    pictures = sorted(path.name for path in (paths.run("adapt", 0).root / "estep").iterdir())
    assert pictures == ["iteration_000000.png", "iteration_000002.png"]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", BOXES)
def test_training_with_boxes_sees_the_maps_and_never_the_truth(voc, tmp_path, monkeypatch, frozen, name):
    """With the true masks of all weak images replaced by void every iteration has the same loss."""
    study = make_study(voc, **({"network": frozen_network(tmp_path)} if frozen else {}))
    losses, whole = [], VocFolder.labels
    for masks in ("true", "void"):
        paths = prepare(study, tmp_path / masks)
        annotate(study, paths)
        if frozen:
            cache_features(study, paths, "train_aug")
        if masks == "void":
            strong = set(open_data(paths.manifest).ids("train")) if BOXES[name].strong else set()
            monkeypatch.setattr(
                VocFolder,
                "labels",
                lambda self, i, strong=strong: whole(self, i) if i in strong else np.full(self.size(i), 255, np.uint8),
            )
        train_run(study, BOXES[name], 0, paths)
        losses.append(pd.read_csv(paths.run(name, 0).train_log)["loss"])
    assert losses[0].equals(losses[1]) and losses[0].nunique() == len(losses[0])


@pytest.mark.parametrize("experiment", [SEMI, ADAPT], ids=["semi", "adapt"])
def test_image_level_e_steps_are_not_handed_the_truth(voc, tmp_path, monkeypatch, experiment):
    seen = []
    choose = loop.choose_estep

    def spy(*arguments):
        estep = choose(*arguments)
        return lambda scores, present, maps, inside: seen.append(maps) or estep(scores, present, maps, inside)

    monkeypatch.setattr(loop, "choose_estep", spy)
    study = make_study(voc)
    train_run(study, experiment, 0, prepare(study, tmp_path))
    assert len(seen) == 6 and all((maps == 255).all() for maps in seen)


def test_another_folder_of_maps_is_another_run(voc, tmp_path):
    study, hashes = make_study(voc), []
    for alpha in (0.2, 0.8):
        paths = prepare(study, tmp_path / str(alpha))
        annotate(study, paths)
        params = BboxSegParams(alpha, CRFParams(5, 10, 5), iterations=1)
        write_bbox_seg(paths.manifest, paths.boxes, paths.box_maps("bbox_seg"), params)
        for experiment in (BOXES["bbox_seg"], ADAPT):
            train_run(study, experiment, 0, paths)
        configs = [json.loads(paths.run(name, 0).config.read_text()) for name in ("bbox_seg", "adapt")]
        hashes.append([config["hash"] for config in configs])
        assert "boxes_sha256" in configs[0] and "boxes_sha256" not in configs[1]
    assert hashes[0][0] != hashes[1][0] and hashes[0][1] == hashes[1][1]


def test_the_start_on_fixed_maps_is_that_of_bbox_rect(voc, tmp_path):
    """The first iterations of Bbox-EM-Fixed are then those of Bbox-Rect on the same images, later ones are not."""
    solver = {"iterations": 6, "batch": 4, "lr": 0.05, "fixed_map_iterations": 3}
    study = make_study(voc, solver=solver, estep={"box_bg_bias": 9.0, "box_fg_bias": 0.0})
    paths = prepare(study, tmp_path)
    annotate(study, paths)
    losses = []
    for name in ("bbox_rect", "bbox_em_fixed"):
        row = BOXES["bbox_em_fixed"].model_copy(update={"id": name, "estep": name})
        train_run(study, row, 0, paths)
        losses.append(pd.read_csv(paths.run(name, 0).train_log)["loss"])
    assert losses[0][:3].equals(losses[1][:3]) and not losses[0][3:].equals(losses[1][3:])


def test_box_biases_decide_runs_with_bbox_em_fixed_alone(voc, tmp_path):
    hashes = []
    for bias in (6.0, 8.0):
        study = make_study(voc, estep={"box_fg_bias": bias})
        lists = TrainingLists(["a"], ["b"])
        hashes.append([run_config(study, row, 0, lists, None)["hash"] for row in (SEMI, STRONG, *BOXES.values())])
    same = [first == second for first, second in zip(*hashes, strict=True)]
    assert same == [True, True, *(name != "bbox_em_fixed" for name in BOXES)]


def test_missing_maps_stop_a_training_before_it_begins(voc, tmp_path):
    study = make_study(voc)
    paths = prepare(study, tmp_path)
    write_boxes(paths.manifest, paths.boxes)
    for name, command in (("bbox_em_fixed", "bbox-rect"), ("bbox_rect", "bbox-rect"), ("bbox_seg", "bbox-seg")):
        with pytest.raises(WeaksegError, match=f"run `weakseg {command}`"):
            train_run(study, BOXES[name], 0, paths)
    annotate(study, paths)
    for method in ("bbox_rect", "bbox_seg"):
        (paths.box_maps(method) / "facts.json").unlink()
        with pytest.raises(WeaksegError, match=r"facts\.json: missing"):
            train_run(study, BOXES[method], 0, paths)


def test_a_map_of_another_size_is_named(voc, tmp_path):
    study = make_study(voc)
    paths = prepare(study, tmp_path)
    annotate(study, paths)
    for path in paths.box_maps("bbox_rect").glob("*.png"):
        write_index_png(path, np.zeros((20, 26), np.uint8))
    with pytest.raises(WeaksegError, match="20 rows and 26 columns, its photo 40 and 52"):
        train_run(study, BOXES["bbox_em_fixed"], 0, paths)


def watched_run(study, root, **options):
    paths = prepare(study, root)
    annotate(study, paths)
    for stop in options.get("kills", []):
        train_run(study, BOXES["bbox_em_fixed"], 0, paths, stop_after=stop)
    train_run(study, BOXES["bbox_em_fixed"], 0, paths)
    return paths, paths.run("bbox_em_fixed", 0)


def test_a_watched_training_keeps_the_e_step_of_three_moments(voc, tmp_path):
    study = make_study(voc, boxes={"quality_images": 5}, report={"box_images": 2})
    paths, run = watched_run(study, tmp_path / "whole")
    confusion = pd.read_csv(run.estep_confusion)
    assert list(confusion["moment"].unique()) == ["start", "middle", "end"]
    assert list(confusion["iteration"].unique()) == [0, 3, 6] and set(confusion["images"]) == {5}
    maps = load_file(run.estep_maps)
    assert len(maps) == 3 * 2
    for name, labels in maps.items():
        assert labels.dtype == torch.uint8 and labels.shape == (6, 8), name  # 40x52 photos at stride 8
    # The first map is the E-step of the untrained head: scores near 0, so the biases alone decide.
    entry = read_boxes(paths.boxes)
    for name, labels in maps.items():
        moment, image_id = name.split("/")
        if moment == "start":
            grid = bbox_rect(entry[image_id].boxes, entry[image_id].size)[::8, ::8]
            assert (labels.numpy()[:5, :7] == grid).mean() > 0.95
    _, again = watched_run(study, tmp_path / "killed", kills=[2, 3, 5])
    assert again.estep_confusion.read_bytes() == run.estep_confusion.read_bytes()
    assert again.estep_maps.read_bytes() == run.estep_maps.read_bytes()
    assert not list(again.resume.iterdir())


def test_watching_changes_nothing_of_a_training(voc, tmp_path, monkeypatch):
    study, models = make_study(voc), []
    for name in ("watched", "unwatched"):
        if name == "unwatched":
            monkeypatch.setattr(loop, "make_watch", lambda *arguments, **options: None)
        models.append(load_file(watched_run(study, tmp_path / name)[1].model))
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


def test_what_was_seen_of_other_images_is_left_out_after_a_resume(voc, tmp_path):
    study = make_study(voc, boxes={"quality_images": 5}, report={"box_images": 1})
    paths = prepare(study, tmp_path)
    annotate(study, paths)
    train_run(study, BOXES["bbox_em_fixed"], 0, paths, stop_after=2)
    changed = make_study(voc, boxes={"quality_images": 2}, report={"box_images": 2})
    train_run(changed, BOXES["bbox_em_fixed"], 0, paths)
    run = paths.run("bbox_em_fixed", 0)
    confusion = pd.read_csv(run.estep_confusion)
    assert list(confusion["moment"].unique()) == ["middle", "end"] and set(confusion["images"]) == {2}
    assert len(load_file(run.estep_maps)) == 2 * 2
