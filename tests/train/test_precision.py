"""Precision: bfloat16 follows the single-precision reference; parameters, E-step and loss stay single."""

import numpy as np
import pandas as pd
import pytest
import torch
from fabricate import make_study

from train.runs import ADAPT, SEMI, STRONG, ready, run_hash, same, trained
from weakseg.devices import computing, set_precision, to_device
from weakseg.model import build_model
from weakseg.train import loop
from weakseg.train.setup import prepare_run

SOLVER = {"iterations": 12, "batch": 4, "lr": 0.02, "checkpoint_iterations": 6}


@pytest.fixture(autouse=True)
def _reference_afterwards():
    yield
    set_precision("fp32")


def curve(study, experiment, paths):
    model = trained(study, experiment, paths)
    return model, pd.read_csv(paths.run(experiment.id, 0).train_log)["loss"].to_numpy()


@pytest.mark.parametrize("experiment", [STRONG, SEMI], ids=lambda row: row.id)
def test_bf16_follows_the_loss_curve_of_the_reference(voc, tmp_path, experiment):
    studies = [make_study(voc, solver=SOLVER, compute={"precision": name}) for name in ("fp32", "bf16")]
    paths = ready(studies[0], tmp_path, [experiment])
    (reference, losses), (other, rounded) = (curve(study, experiment, paths) for study in studies)
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(rounded, losses, atol=0.04 * losses[0])
    assert not same(reference, other) and all(value.dtype == torch.float32 for value in other.values())


def test_only_another_precision_is_another_run(voc, tmp_path):
    paths = ready(make_study(voc), tmp_path, [SEMI])
    hashes = [run_hash(make_study(voc, compute={"precision": p}), SEMI, paths) for p in ("fp32", "tf32", "bf16")]
    assert run_hash(make_study(voc), SEMI, paths) == hashes[0] and len(set(hashes)) == 3


def test_tf32_is_on_where_it_is_asked_for_and_the_reference_is_ieee(voc, tmp_path):
    paths = ready(make_study(voc), tmp_path, [STRONG])
    for name in ("tf32", "fp32", "bf16"):
        prepare_run(make_study(voc, compute={"precision": name}), STRONG, 0, paths)
        flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        assert flags == ((name == "tf32"),) * 2


def test_scores_are_single_precision_and_the_layers_before_are_not(voc, tmp_path):
    study = make_study(voc, compute={"precision": "bf16"})
    setup = prepare_run(study, ADAPT, 0, ready(study, tmp_path, [ADAPT]))
    seen = {}
    for name in ("fc7", "fc8", "skip"):
        layer = getattr(setup.model.head, name)
        layer.register_forward_hook(lambda _, taken, given, name=name: seen.update({name: given.dtype}))
    scores = loop.forward(setup, setup.batches[0])
    assert seen == {"fc7": torch.bfloat16, "fc8": torch.float32, "skip": torch.float32}
    assert scores.dtype == torch.float32 and len(scores.unique()) > 0.9 * scores.numel()  # few are equal by rounding
    setup.model.zero_grad()
    scores.mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in setup.model.parameters())


def test_a_head_gives_the_same_bits_within_a_context_of_single_precision():
    model, photo = build_model("tiny-largefov").eval(), torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        plain = model(photo)
        with computing("fp32", torch.device("cpu")):
            assert torch.equal(model(photo), plain)
        with computing("bf16", torch.device("cpu")):
            assert not torch.equal(model(photo), plain)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("precision", "off"), [("fp32", 1e-5), ("tf32", 3e-3), ("bf16", 3e-2)])
def test_a_gpu_s_scores_are_those_of_the_cpu(precision, off):
    model, photo = build_model("vgg16-largefov").eval(), torch.randn(2, 3, 65, 65)
    set_precision(precision)
    with torch.no_grad():
        plain = model(photo)
        with computing(precision, torch.device("cuda")):
            found = model.cuda()(to_device(photo, torch.device("cuda"))).cpu()
    assert (found - plain).abs().max() < off * plain.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_s_training_follows_the_cpu_s(voc, tmp_path, monkeypatch):
    from weakseg.train import setup

    network = {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True, "dropout": 0.0}
    study = make_study(voc, solver=SOLVER, network=network, compute={"photos": "device"})
    paths = ready(study, tmp_path, [SEMI])
    _, on_gpu = curve(study, SEMI, paths)
    monkeypatch.setattr(setup, "choose_device", lambda: torch.device("cpu"))
    _, on_cpu = curve(study, SEMI, paths)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.02 * on_cpu[0])
