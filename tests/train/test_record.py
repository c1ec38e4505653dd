"""The log's figures, read for many iterations at once."""

import pandas as pd
import pytest
import torch
from fabricate import make_study

from train.runs import SEMI, decided_log, ready, same, trained
from weakseg.errors import WeaksegError
from weakseg.train import loop, record
from weakseg.train.distributed import ALONE
from weakseg.train.record import Record


@pytest.fixture
def many_at_once(monkeypatch):
    """Let a CPU read its figures as rarely as a GPU, every four iterations; returns how many each reading gave."""
    made, readings = Record.__init__, []

    def rarely(self, *arguments):
        made(self, *arguments)
        self.every = 4

    read = Record.read
    monkeypatch.setattr(Record, "__init__", rarely)
    monkeypatch.setattr(Record, "read", lambda self: readings.append(read(self)) or readings[-1])
    return readings


def test_rows_read_together_are_those_read_one_by_one(voc, tmp_path, monkeypatch, request):
    study = make_study(voc, solver={"iterations": 11, "batch": 4, "checkpoint_iterations": 6, "lr": 0.01})
    paths = ready(study, tmp_path, [SEMI])
    one = trained(study, SEMI, paths), decided_log(paths.run("semi", 0))
    readings = request.getfixturevalue("many_at_once")
    assert same(trained(study, SEMI, paths), one[0])
    pd.testing.assert_frame_equal(decided_log(paths.run("semi", 0)), one[1])
    assert [len(rows) for rows in readings] == [4, 2, 4, 1]  # a resume state has the log up to it
    log = pd.read_csv(paths.run("semi", 0).train_log)
    assert log["seconds"].is_monotonic_increasing and log["loader_wait"].between(0, 1).all()
    assert log["images_per_s"][:4].nunique() == 1  # the time of one reading is shared out


@pytest.mark.parametrize("broken", [1, 3, 5])
def test_a_loss_that_is_not_finite_is_named_before_a_state_is_kept(voc, tmp_path, monkeypatch, many_at_once, broken):
    study = make_study(voc)  # states at 2, 4, 6
    paths = ready(study, tmp_path, [SEMI])
    whole, calls = loop.joined_loss, []

    def breaks(*arguments):
        calls.append(1)
        return whole(*arguments) * (float("inf") if len(calls) == broken + 1 else 1)

    monkeypatch.setattr(loop, "joined_loss", breaks)
    with pytest.raises(WeaksegError, match=f"iteration {broken};"):
        loop.train_run(study, SEMI, 0, paths)
    state = torch.load(next(paths.run("semi", 0).resume.glob("*.pt")), weights_only=True)
    assert state["iteration"] == broken - broken % 2
    assert all(value.isfinite().all() for value in state["parameters"].values())


def test_a_gpu_s_figures_are_read_for_many_iterations():
    for name, every in (("cpu", 1), ("cuda", record.READ_EVERY)):
        assert Record([], ALONE, torch.device(name), 0.0).every == every > 0
