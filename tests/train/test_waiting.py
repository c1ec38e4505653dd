"""Nothing in the training loop waits for a GPU but the reading of the log."""

import pytest
import torch
from fabricate import make_study
from fake_gpu import Waits, fake_gpu

from train.runs import ADAPT, BOX_EM, SEMI, STRONG, network, ready
from weakseg.train import loop, setup
from weakseg.train.distributed import ALONE
from weakseg.train.mstep import cross_entropy
from weakseg.train.record import READ_EVERY, Record


@pytest.mark.parametrize(
    ("experiment", "changes"),
    [(SEMI, "files"), (ADAPT, "device"), (ADAPT, "valid"), (STRONG, "device"), (BOX_EM, "frozen")],
    ids=lambda one: one if isinstance(one, str) else one.id,
)
def test_an_iteration_waits_for_the_gpu_when_the_log_is_read_and_not_before(
    voc, tmp_path, monkeypatch, experiment, changes
):
    sections = {"compute": {"photos": "device" if changes == "device" else "files"}}
    if changes == "frozen":
        sections["network"] = network(tmp_path)
    if changes == "valid":
        sections["sampling"] = {"valid_cells_only": True}
    study = make_study(voc, **sections)
    paths = ready(study, tmp_path / "results", [experiment])
    with fake_gpu(monkeypatch) as device:
        monkeypatch.setattr(setup, "choose_device", lambda: device)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
        run = setup.prepare_run(study, experiment, 0, paths, hold_photos=True)
        run.trained.train()
        assert all(p.device == device for p in run.trained.parameters())
        record = Record(run.teachings, ALONE, device, 0.0)
        for iteration in range(2):
            batch = run.batches[iteration]
            scores = loop.forward(run, batch)
            assert scores.device == device and scores.dtype == torch.float32
            losses, label_maps = loop.taught(run, batch, scores, iteration)
            loss = loop.joined_loss(losses, [one.weight for one in run.teachings])
            run.optimiser.zero_grad()
            for parameter in run.trained.parameters():  # torch's own backward pass asks the driver for its devices
                parameter.grad = torch.zeros_like(parameter)
            run.optimiser.step(0.1)
            record.add(iteration, loss, losses, label_maps, lr=0.1, images=4, waited=0.0)
        assert record.every == READ_EVERY and not record.due
        with pytest.raises(Waits):
            record.read()


def test_the_fake_gpu_finds_what_waits(monkeypatch):
    with fake_gpu(monkeypatch) as device:
        values = torch.randn(3, 4).to(device)
        present = torch.ones(3, 4, dtype=torch.bool)
        for waits in (
            lambda: float(values.sum()),
            lambda: bool((values > 0).any()),
            lambda: values[values > 0],
            lambda: values.cpu(),
            lambda: present.to(device).nonzero(),
        ):
            with pytest.raises(Waits):
                waits()
        assert cross_entropy(values[..., None, None], present[:, :1, None].long().to(device)).device == device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_is_not_waited_for_either(voc, tmp_path):
    study = make_study(voc, compute={"photos": "device"})
    paths = ready(study, tmp_path / "results", [ADAPT])
    run = setup.prepare_run(study, ADAPT, 0, paths, hold_photos=True)
    run.trained.train()
    record = Record(run.teachings, ALONE, run.device, 0.0)
    for iteration in range(4):
        torch.cuda.set_sync_debug_mode("error" if iteration > 1 else "default")  # the first ones choose algorithms
        try:
            batch = run.batches[iteration]
            scores = loop.forward(run, batch)
            losses, label_maps = loop.taught(run, batch, scores, iteration)
            run.optimiser.zero_grad()
            loop.backward(run, losses[0])
            run.optimiser.step(0.1)
            record.add(iteration, losses[0], losses, label_maps, lr=0.1, images=4, waited=0.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(record.read()) == 4
