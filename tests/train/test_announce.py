"""The first lines of a training's log; a study that needs a GPU stops without one."""

import pytest
import torch
import yaml
from fabricate import make_study

from train.runs import SEMI, network, ready
from weakseg import cli
from weakseg.config import load_sheet
from weakseg.paths import StudyPaths
from weakseg.train.loop import train_run


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("WEAKSEG_ALLOW_CPU", raising=False)


def test_what_a_training_runs_with_stands_first_and_in_the_bar(voc, tmp_path, capsys, no_gpu):
    study = make_study(voc, network=network(tmp_path))
    paths = ready(study, tmp_path / "results", [SEMI])
    capsys.readouterr()
    train_run(study, SEMI, 0, paths)
    shown = capsys.readouterr()
    lines = dict(line.split(": ", 1) for line in shown.out.splitlines()[:7])
    assert list(lines) == ["device", "precision", "threads", "network", "weights", "data", "solver"]
    assert lines["device"].startswith("CPU (") and lines["precision"] == "float32"
    assert lines["weights"].startswith(f"{tmp_path}/trunk0.safetensors, SHA-256 ")
    assert lines["data"] == "rectangles: 4 images by pixel_labels + 4 images by em_fixed"
    assert lines["solver"] == "6 iterations of 4 images at 33 pixels"
    assert "semi seed 0 on CPU" in shown.err


def test_random_weights_are_called_so(voc, tmp_path, capsys, no_gpu):
    study = make_study(voc, solver={"iterations": 1, "batch": 2})
    train_run(study, SEMI, 0, ready(study, tmp_path, [SEMI]))
    assert "weights: random\n" in capsys.readouterr().out


@pytest.fixture
def wanting(voc, tmp_path, project_root, no_gpu):
    """Words that name a run of a study that needs a GPU, and its files."""
    study = make_study(voc, needs_gpu=True, network=network(tmp_path), solver={"iterations": 1, "batch": 2})
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    rows = {row.id: row for row in load_sheet(project_root / "config").experiments}
    paths = ready(study, tmp_path / "results", [rows["strong_10582"]])
    of_study = ["--study", path, "--results", tmp_path / "results", "--config-dir", project_root / "config"]
    return list(map(str, of_study)), paths


COMMANDS = {
    "features": ["--role", "evaluation"],
    "train": ["--experiment", "strong_10582"],
    "score": ["--experiment", "strong_10582"],
}


def test_a_study_that_needs_a_gpu_stops_without_one(wanting, capsys, monkeypatch):
    words, paths = wanting
    run = StudyPaths.run(paths, "strong_10582", 0)
    outputs = {"features": paths.features("evaluation"), "train": run.model, "score": run.scores}
    for command, options in [*COMMANDS.items(), ("estep-maps", ["--experiment", "em_fixed_weak"])]:
        assert cli.main([command, *words, *options]) == 2
        assert "needs a GPU" in capsys.readouterr().err
    for command, options in COMMANDS.items():
        assert not outputs[command].exists()
        assert cli.main([command, *words, *options, "--allow-cpu"]) == 0
        shown = capsys.readouterr()
        assert outputs[command].exists() and "device: CPU" in shown.out and "on CPU" in shown.err
    monkeypatch.setenv("WEAKSEG_ALLOW_CPU", "true")
    assert cli.main(["score", *words, *COMMANDS["score"]]) == 0
