"""The training loop on a fabricated data set: it learns, resumes to the bit, and stops where a loss is not finite."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import make_experiment, make_study
from safetensors.torch import load_file

from train.runs import ADAPT, BOX_EM, RECT, SEG, SEMI, STRONG, WEAK, decided_log, network, ready, same, trained
from weakseg.config import Experiment
from weakseg.data.images import write_index_png
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.methods import METHODS, Method
from weakseg.train import loop
from weakseg.train.loop import train_run
from weakseg.train.solver import CaffeSGD

THREE_STREAMS = Experiment.model_validate(
    {
        **{"id": "three", "table": "own", "line": 1, "title": "Three streams", "fov": "large"},
        "streams": [
            {"annotation": "strong", "images": 1464, "method": "pixel_labels", "share": 0.5, "weight": 0.6},
            {"annotation": "image", "images": 4559, "method": "em_fixed", "share": 0.25, "weight": 0.3},
            {"annotation": "box", "images": 4559, "method": "bbox_rect", "share": 0.25, "weight": 0.1},
        ],
    }
)


@pytest.mark.parametrize("experiment", WEAK, ids=lambda row: row.id)
@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_a_killed_run_goes_on_to_the_same_bit(voc, tmp_path, experiment, frozen):
    """Also where other processes made the mini-batches before and after the kill."""
    changes = {"network": network(tmp_path)} if frozen else {}
    study = make_study(voc, sampling={"repeat_factor_threshold": 0.5}, **changes)
    paths = ready(study, tmp_path / "results", [experiment])
    run = paths.run(experiment.id, 5)
    models, logs = [], []
    for kills in ([], [3, 4]):
        for stop in kills:
            train_run(study, experiment, 5, paths, stop_after=stop, workers=2)
            assert not run.model.exists()
        train_run(study, experiment, 5, paths)
        models.append(load_file(run.model))
        logs.append(decided_log(run))
        assert not list(run.resume.iterdir())
        run.model.unlink()
    assert same(*models)
    pd.testing.assert_frame_equal(*logs)
    assert list(logs[0]["iteration"]) == list(range(6))


def test_a_kill_between_log_and_state_leaves_each_iteration_once_in_the_log(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI])
    whole = trained(study, SEMI, paths)
    log = decided_log(paths.run("semi", 0))
    paths.run("semi", 0).model.unlink()
    save = loop.ResumeFolder.save

    def killed(folder, state):
        if state["iteration"] == 4:
            raise KeyboardInterrupt
        save(folder, state)

    with monkeypatch.context() as patched:
        patched.setattr(loop.ResumeFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train_run(study, SEMI, 0, paths)
    train_run(study, SEMI, 0, paths)
    assert same(whole, load_file(paths.run("semi", 0).model))
    pd.testing.assert_frame_equal(log, decided_log(paths.run("semi", 0)))


def test_a_state_written_on_a_gpu_goes_on_without_one(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    whole = trained(study, STRONG, paths)
    paths.run("all", 0).model.unlink()
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        train_run(study, STRONG, 0, paths, stop_after=3)
    state = next(paths.run("all", 0).resume.glob("*.pt"))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(state, weights_only=True)
    train_run(study, STRONG, 0, paths)
    assert same(whole, load_file(paths.run("all", 0).model))


def test_another_seed_gives_another_network_and_the_run_says_what_it_used(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    models = [trained(study, STRONG, paths, seed=seed) for seed in (0, 1)]
    first, second = (json.loads(paths.run("all", seed).config.read_text()) for seed in (0, 1))
    assert not same(*models) and first["hash"] != second["hash"]
    assert (first["strong"], first["weak"], first["seed"], second["seed"]) == (8, 0, 0, 1)
    assert models[0]["head.fc8.weight"].shape[0] == len(VOC)


def test_a_network_has_the_labels_of_its_data_set(voc, tmp_path):
    names = ["aeroplane", "bicycle", "bird"]
    study = make_study(voc, dataset={"name": "three", "source": "path", "path": str(voc), "labels": names})
    model = trained(study, SEMI, ready(study, tmp_path, [SEMI]))
    assert model["head.fc8.weight"].shape[0] == model["head.skip.weight"].shape[0] == 4


def test_strong_training_overfits_a_few_images(voc, tmp_path):
    rates = {"lr": 0.02, "schedule": "poly", "head_lr_multiplier": 3, "fc8_lr_multiplier": 3}
    study = make_study(voc, solver={"iterations": 60, "batch": 4, **rates})
    paths = ready(study, tmp_path, [STRONG])
    train_run(study, STRONG, 0, paths)
    log = pd.read_csv(paths.run("all", 0).train_log)
    assert log["loss"].tail(10).mean() < 0.35 * log["loss"].head(3).mean()


@pytest.mark.parametrize("broken", [0, 4])
def test_a_loss_that_is_not_finite_stops_with_its_iteration_and_keeps_the_last_state(
    voc, tmp_path, monkeypatch, broken
):
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    run, whole, calls = paths.run("all", 0), loop.joined_loss, []

    def breaks(*arguments):
        calls.append(1)
        return whole(*arguments) * (float("nan") if len(calls) == broken + 1 else 1)

    monkeypatch.setattr(loop, "joined_loss", breaks)
    with pytest.raises(WeaksegError, match=f"iteration {broken}") as raised:
        train_run(study, STRONG, 0, paths)
    state = next(run.resume.glob("*.pt"))
    assert str(state) in str(raised.value)
    assert torch.load(state, weights_only=True)["iteration"] == broken and not run.model.exists()
    monkeypatch.undo()
    train_run(study, STRONG, 0, paths)
    assert run.model.exists()


@pytest.mark.parametrize(("broken", "kept"), [(2, 0), (6, 4)])
def test_parameters_that_are_not_finite_are_no_good_state(voc, tmp_path, monkeypatch, broken, kept):
    """The loss of the iteration was finite; its update was not. The state before stays, also at the very end."""
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    run, whole, done = paths.run("all", 0), CaffeSGD.step, []

    def spoils(optimiser, lr):
        done.append(1)
        whole(optimiser, float("inf") if len(done) == broken else lr)

    monkeypatch.setattr(CaffeSGD, "step", spoils)
    with pytest.raises(WeaksegError, match=f"not finite after {broken} iterations; the last good state is kept in"):
        train_run(study, STRONG, 0, paths)
    state = torch.load(next(run.resume.glob("*.pt")), weights_only=True)
    assert state["iteration"] == kept and not run.model.exists()
    monkeypatch.undo()
    train_run(study, STRONG, 0, paths)
    assert run.model.exists()


def test_a_damaged_resume_state_says_what_to_delete(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    train_run(study, STRONG, 0, paths, stop_after=2)
    state = next(paths.run("all", 0).resume.glob("*.pt"))
    state.write_bytes(b"torn")
    with pytest.raises(WeaksegError, match=rf"{state}: .*delete it"):
        train_run(study, STRONG, 0, paths)


def test_three_streams_have_their_shares_weights_and_columns(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    paths = ready(study, tmp_path, [THREE_STREAMS])
    seen, maps = [], []
    joined, teach = loop.joined_loss, loop.teach

    def spy_loss(losses, weights):
        assert weights == [0.6, 0.3, 0.1]
        seen.append([float(loss.detach()) for loss in losses])
        return joined(losses, weights)

    def spy_teach(method, scores, shown, constants):
        loss, labels = teach(method, scores, shown, constants)
        maps.append((method.name, labels))
        return loss, labels

    monkeypatch.setattr(loop, "joined_loss", spy_loss)
    monkeypatch.setattr(loop, "teach", spy_teach)
    train_run(study, THREE_STREAMS, 0, paths)
    log = pd.read_csv(paths.run("three", 0).train_log)
    strong, tags, boxes = np.array(seen).T
    assert log["loss"].to_numpy() == pytest.approx(0.6 * strong + 0.3 * tags + 0.1 * boxes, rel=1e-4)
    assert log["loss_strong"].to_numpy() == pytest.approx(strong, rel=1e-4)
    assert log["loss_weak"].to_numpy() == pytest.approx((0.3 * tags + 0.1 * boxes) / 0.4, rel=1e-4)
    assert [(name, len(labels)) for name, labels in maps[:3]] == [
        ("pixel_labels", 2),
        ("em_fixed", 1),
        ("bbox_rect", 1),
    ]
    for iteration in range(6):
        weak = torch.cat([labels for _, labels in maps[3 * iteration + 1 : 3 * iteration + 3]])
        share = float((weak == 0).sum() / (weak != 255).sum())
        assert log["background_share"][iteration] == pytest.approx(share, rel=1e-4)
    config = json.loads(paths.run("three", 0).config.read_text())
    assert (config["strong"], config["weak"]) == (4, 4) and len(config["data"]) == 3


@pytest.mark.parametrize(("experiment", "empty"), [(STRONG, "loss_weak"), (ADAPT, "loss_strong")])
def test_a_half_that_is_absent_has_no_column_of_losses(voc, tmp_path, experiment, empty):
    study = make_study(voc, solver={"iterations": 2, "batch": 2})
    paths = ready(study, tmp_path, [experiment])
    train_run(study, experiment, 0, paths)
    log = pd.read_csv(paths.run(experiment.id, 0).train_log)
    assert log[empty].isna().all() and not log["loss"].isna().any()
    assert log["background_share"].isna().all() == (experiment is STRONG)
    assert log["loader_wait"].between(0, 1).all()


def test_a_method_with_a_loss_of_its_own_trains(voc, tmp_path, monkeypatch):
    def loss(scores, shown, constants):
        pooled = scores.amax((2, 3))
        return torch.nn.functional.binary_cross_entropy_with_logits(pooled, shown.present.to(pooled.dtype))

    monkeypatch.setitem(METHODS, "mil_max", Method("mil_max", annotation="image", loss=loss))
    row = make_experiment("own", weak=10582, method="mil_max")
    study = make_study(voc, solver={"iterations": 40, "batch": 4, "lr": 0.02, "head_lr_multiplier": 3})
    paths = ready(study, tmp_path, [row])
    train_run(study, row, 0, paths)
    log = pd.read_csv(paths.run("own", 0).train_log)
    assert log["loss"].tail(5).mean() < 0.6 * log["loss"].head(3).mean()
    assert log["background_share"].isna().all()


def test_the_start_on_fixed_maps_is_that_of_bbox_rect(voc, tmp_path):
    """The first iterations of Bbox-EM-Fixed are then those of Bbox-Rect on the same images, later ones are not."""
    constants = {"bbox_em_fixed": {"bg_bias": 9.0, "fg_bias": 0.0, "fixed_map_iterations": 3}}
    study = make_study(voc, solver={"iterations": 6, "batch": 4, "lr": 0.05}, methods=constants)
    rect = make_experiment("rect_weak", weak=10582, method="bbox_rect")
    paths = ready(study, tmp_path, [rect, BOX_EM])
    losses = []
    for row in (rect, BOX_EM):
        train_run(study, row, 0, paths)
        losses.append(pd.read_csv(paths.run(row.id, 0).train_log)["loss"])
    assert losses[0][:3].equals(losses[1][:3]) and not losses[0][3:].equals(losses[1][3:])


def test_missing_maps_stop_a_training_before_it_begins(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [STRONG])
    for row, command in ((BOX_EM, "bbox-rect"), (RECT, "bbox-rect"), (SEG, "bbox-seg")):
        with pytest.raises(WeaksegError, match=f"run `weakseg {command}`"):
            train_run(study, row, 0, paths)


def test_a_map_of_another_size_is_named(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [BOX_EM])
    for path in paths.box_maps("bbox_rect").glob("*.png"):
        write_index_png(path, np.zeros((20, 26), np.uint8), VOC)
    with pytest.raises(WeaksegError, match="20 rows and 26 columns, its photo 40 and 52"):
        train_run(study, BOX_EM, 0, paths)
