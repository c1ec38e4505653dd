"""Snapshots of what a run has learnt, and the E-step maps that are drawn from them."""

import numpy as np
import pandas as pd
import pytest
from fabricate import make_experiment, make_study
from safetensors import safe_open
from safetensors.numpy import load_file

from train.runs import ADAPT, BOX_EM, RECT, SEMI, STRONG, network, ready, same, trained
from weakseg.annotations.bbox_rect_maps import bbox_rect
from weakseg.data.box_files import read_boxes
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.train import loop
from weakseg.train.estep_maps import write_estep_maps
from weakseg.train.loop import train_run
from weakseg.train.snapshots import MOMENTS, load_snapshot

IDS = [f"2007_{n:06d}" for n in range(8)]


@pytest.mark.parametrize(
    ("experiment", "kept"),
    [(SEMI, 3), (ADAPT, 3), (BOX_EM, 3), (RECT, 0), (STRONG, 0)],
    ids=lambda value: getattr(value, "id", None),
)
@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_runs_with_an_e_step_keep_three_moments_and_a_kill_loses_none(voc, tmp_path, experiment, kept, frozen):
    study = make_study(voc, **({"network": network(tmp_path)} if frozen else {}))
    paths = ready(study, tmp_path / "results", [experiment])
    run = paths.run(experiment.id, 0)
    model = trained(study, experiment, paths)
    whole = {path.name: path.read_bytes() for path in run.snapshots.iterdir()}
    assert sorted(whole) == sorted(f"{moment}.safetensors" for moment in MOMENTS[:kept])
    for stop in (2, 3, 5):
        train_run(study, experiment, 0, paths, stop_after=stop)
    train_run(study, experiment, 0, paths)
    assert {path.name: path.read_bytes() for path in run.snapshots.iterdir()} == whole
    assert not list(run.resume.iterdir())
    if kept:
        end = load_snapshot(run, "end")
        prefix = "head." if frozen else ""
        assert same(end, {key.removeprefix(prefix): value for key, value in model.items() if key.startswith(prefix)})
        assert not same(load_snapshot(run, "start"), load_snapshot(run, "middle"))
        assert not same(load_snapshot(run, "middle"), end)
        for moment, done in zip(MOMENTS, ("0", "3", "6"), strict=True):
            with safe_open(run.snapshots / f"{moment}.safetensors", framework="pt") as stream:
                assert stream.metadata() == {"iteration": done}
    else:
        with pytest.raises(WeaksegError, match=r"start\.safetensors: no such snapshot"):
            load_snapshot(run, "start")


def test_snapshots_change_nothing_of_a_training(voc, tmp_path, monkeypatch):
    study = make_study(voc)
    paths = ready(study, tmp_path, [ADAPT])
    watched = trained(study, ADAPT, paths)
    monkeypatch.setattr(loop.Snapshots, "take", lambda *arguments: None)
    monkeypatch.setattr(loop.Snapshots, "write", lambda *arguments: None)
    assert same(watched, trained(study, ADAPT, paths))


@pytest.mark.parametrize("frozen", [False, True], ids=["whole", "frozen"])
def test_maps_drawn_from_a_run_start_with_what_the_biases_alone_decide(voc, tmp_path, frozen):
    study = make_study(voc, **({"network": network(tmp_path)} if frozen else {}))
    paths = ready(study, tmp_path / "results", [BOX_EM])
    train_run(study, BOX_EM, 0, paths)
    run = paths.run("box_em", 0)
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    write_estep_maps(study, BOX_EM, 0, paths, shown=IDS[:2], measured=IDS[1:6])
    assert all(path.read_bytes() == content for path, content in before.items())

    maps = load_file(run.estep_maps)
    assert sorted(maps) == sorted(f"{moment}/{i}" for moment in MOMENTS for i in IDS[:2])
    assert all(labels.dtype == np.uint8 and labels.shape == (6, 8) for labels in maps.values())  # 40x52 at stride 8
    boxes = read_boxes(paths.boxes, VOC)
    for image_id in IDS[:2]:  # an untrained head's scores are near 0
        grid = bbox_rect(boxes[image_id].boxes, boxes[image_id].size)[::8, ::8]
        assert grid.any() and (maps[f"start/{image_id}"][:5, :7] == grid).all()

    confusion = pd.read_csv(run.estep_confusion)
    assert list(confusion["moment"].unique()) == list(MOMENTS) and len(confusion) == 3 * len(VOC)
    assert list(confusion["iteration"].unique()) == [0, 3, 6] and set(confusion["images"]) == {5}
    cells = confusion[list(VOC.names)].to_numpy().reshape(3, -1).sum(1)
    assert (cells == cells[0]).all() and 0 < cells[0] <= 5 * 5 * 7

    first = run.estep_maps.read_bytes(), run.estep_confusion.read_bytes()
    write_estep_maps(study, BOX_EM, 0, paths, shown=IDS[:2], measured=IDS[1:6])
    assert (run.estep_maps.read_bytes(), run.estep_confusion.read_bytes()) == first


def test_fixed_maps_at_the_start_do_not_hide_the_e_step(voc, tmp_path):
    constants = {"bg_bias": 5, "fg_bias": 0, "fixed_map_iterations": 100}
    study = make_study(voc, methods={"bbox_em_fixed": constants})
    paths = ready(study, tmp_path, [BOX_EM])
    train_run(study, BOX_EM, 0, paths)
    write_estep_maps(study, BOX_EM, 0, paths, shown=IDS[:1], measured=[])
    start = load_file(paths.run("box_em", 0).estep_maps)[f"start/{IDS[0]}"]
    assert (start[:5, :7] == 0).all()  # the background's bias alone


def test_image_level_e_steps_are_drawn_too_and_only_of_the_images_they_teach(voc, tmp_path):
    study = make_study(voc)
    paths = ready(study, tmp_path, [SEMI])
    train_run(study, SEMI, 0, paths)
    write_estep_maps(study, SEMI, 0, paths, shown=[IDS[0], IDS[5]], measured=IDS)
    run = paths.run("semi", 0)
    assert sorted(load_file(run.estep_maps)) == sorted(f"{moment}/{IDS[5]}" for moment in MOMENTS)
    assert set(pd.read_csv(run.estep_confusion)["images"]) == {4}  # the strong images have no E-step


def test_a_run_without_e_step_has_nothing_to_draw(voc, tmp_path):
    study = make_study(voc)
    rect = make_experiment("rect_weak", weak=10582, method="bbox_rect")
    paths = ready(study, tmp_path, [rect])
    with pytest.raises(WeaksegError, match="rect_weak: none of its methods has an E-step"):
        write_estep_maps(study, rect, 0, paths, shown=IDS, measured=[])
