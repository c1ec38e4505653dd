"""Several processes that train one run give what one gives."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import warm
import yaml
from safetensors.torch import load_file

from train.as_processes import study_of
from train.runs import ADAPT, SEMI, decided_log, ready
from weakseg.config import load_sheet
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths
from weakseg.train.distributed import ALONE, Processes, joined_processes, seed_of, started_together
from weakseg.train.loop import train_run
from weakseg.train.setup import prepare_run

SHEET = next(row for row in load_sheet().experiments if row.id == "em_fixed_semi_1464_9118")


@pytest.fixture(scope="module")
def results(voc, project_root, tmp_path_factory):
    """The results of one process and of two, side by side."""
    folder = tmp_path_factory.mktemp("together")
    shutil.copytree(project_root / "config", folder / "config")
    study = study_of(voc)
    (folder / "config" / "studies" / "fabricated.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    paths = ready(study, folder / "two", [SHEET, SEMI, ADAPT])
    shutil.copytree(folder / "two", folder / "one")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{project_root / 'src'}:{project_root / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--no-python", str(warm.commands() / "script")]
    script = str(project_root / "tests" / "train" / "as_processes.py")
    arguments = [*command, script, str(voc), str(folder / "two"), str(folder / "config")]
    started = subprocess.Popen(arguments, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = started.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        started.terminate()  # torchrun then ends its processes; a kill would leave them
        _, errors = started.communicate()
    assert started.returncode == 0, errors[-4000:]
    alone = StudyPaths("fabricated", folder / "one")
    for row in (SHEET, ADAPT):
        train_run(study, row, 0, alone)
    return study, alone, paths


@pytest.mark.parametrize("experiment", [SHEET, ADAPT], ids=["em-fixed", "em-adapt"])
def test_two_processes_give_the_network_and_the_log_of_one(results, experiment):
    """EM-Adapt's was stopped after five iterations and went on."""
    _study, alone, together = results
    one, two = (load_file(paths.run(experiment.id, 0).model) for paths in (alone, together))
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-4, rtol=1e-4), key
    log, other = (decided_log(paths.run(experiment.id, 0)) for paths in (alone, together))
    assert len(log) == (20 if experiment is SHEET else 8) and log["loss"].iloc[-1] < log["loss"].iloc[0]
    pd.testing.assert_frame_equal(log, other, rtol=1e-4, atol=1e-4)
    assert json.loads(together.run(experiment.id, 0).config.read_text())["processes"] == 2
    assert not list(together.run(experiment.id, 0).resume.iterdir())


def test_a_state_of_two_processes_goes_on_in_one(results):
    study, alone, together = results
    train_run(study, ADAPT, 1, together)
    train_run(study, ADAPT, 1, alone)
    one, two = (load_file(paths.run("adapt", 1).model) for paths in (alone, together))
    assert len(pd.read_csv(together.run("adapt", 1).train_log)) == 8
    assert all(torch.allclose(value, two[key], atol=1e-4, rtol=1e-4) for key, value in one.items())


def test_processes_have_other_dropout_and_their_part_of_the_images(results):
    study, alone, together = results
    facts = [json.loads((together.root.parent / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    torch.manual_seed(0)
    setup = prepare_run(study, SEMI, 0, alone)
    assert facts[0]["dropout"] == torch.rand(3).tolist() != facts[1]["dropout"]  # the first as one process alone
    assert np.sum([one["images"] for one in facts], 0).tolist() == [one.images for one in setup.batches.draws] == [6, 5]


def test_one_log_is_written(results):
    text = (results[2].root.parent / "train.log").read_text()
    assert text.count("20/20") == 1


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("images", [8, 15, 30])
def test_every_image_is_dealt_to_one_process(count, images):
    dealt = [Processes(rank, count).dealt(images) for rank in range(count)]
    assert [slot for one in dealt for slot in one] == list(range(images))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_seeds_of_dropout_differ_by_process_and_start():
    seeds = [seed_of(seed, rank, done) for seed in (0, 1) for rank in (1, 2, 3) for done in (0, 200)]
    assert len(set(seeds)) == len(seeds)


def test_without_torchrun_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # something else may say so
    assert not started_together()
    with joined_processes() as processes:
        assert processes is ALONE and processes.writes
    values = torch.ones(2)
    assert ALONE.sum(values) is values and ALONE.gather(values) == [values]


def test_more_processes_than_images_are_refused(voc, tmp_path):
    study = study_of(voc)
    paths = ready(study, tmp_path, [SEMI])
    with pytest.raises(WeaksegError, match="6 processes cannot share the 5 images"):
        prepare_run(study, SEMI, 0, paths, processes=Processes(0, 6))
