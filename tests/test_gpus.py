"""One GPU a process: leases, with an `nvidia-smi` that lists what it is told to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from weakseg import gpus
from weakseg.errors import WeaksegError

TWO = "GPU-a, NVIDIA H100, 81559, 1000\nGPU-b, NVIDIA H100, 81559, 80000\n"
HOLD = """
import os, sys, time
from weakseg.gpus import leased_gpu
with leased_gpu(0.02):
    print(os.environ.get("CUDA_VISIBLE_DEVICES"), time.monotonic(), flush=True)
    time.sleep(float(sys.argv[1]))
    print(time.monotonic(), flush=True)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets what `nvidia-smi` lists; leases lie in a folder of the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in (gpus.VISIBLE, "LOCAL_RANK", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def lists(text, status=0):
        script = folder / "nvidia-smi"
        script.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n")
        script.chmod(0o755)

    return lists


def hold(seconds: float) -> subprocess.Popen:
    """A process that leases a GPU, tells which and when, and keeps it for some seconds."""
    command = [sys.executable, "-c", HOLD, str(seconds)]
    path = os.pathsep.join([str(Path(gpus.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_gpus_are_read_from_nvidia_smi(machine):
    assert gpus.installed_gpus() == [] and gpus.usable_gpus() == []
    machine(TWO + "GPU-c, NVIDIA GB10, [N/A], [N/A]\n")
    first, _, third = gpus.installed_gpus()
    assert first == gpus.Gpu("GPU-a", "NVIDIA H100", 81559, 1000) and third.memory_mb == 0
    machine("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", status=9)
    assert gpus.installed_gpus() == []


@pytest.mark.parametrize(
    ("given", "order", "names"),
    [
        (None, None, ["GPU-b", "GPU-a"]),  # most free memory first
        ("0,1", None, ["GPU-b", "GPU-a"]),
        ("0", None, ["GPU-a"]),
        ("GPU-a, MIG-x", None, ["GPU-a", "MIG-x"]),
        ("0,-1,1", None, ["GPU-a"]),
        ("", None, []),
        ("7,0", None, ["GPU-a", "7"]),
    ],
)
def test_what_is_usable(machine, monkeypatch, given, order, names):
    machine(TWO)
    if given is not None:
        monkeypatch.setenv(gpus.VISIBLE, given)
    assert gpus.usable_gpus() == names


def test_numbers_of_unlike_gpus_are_those_of_cuda(machine, monkeypatch):
    """CUDA counts the fastest first, nvidia-smi by the bus: which is meant is then not known here."""
    machine(TWO.replace("H100", "T400", 1))
    monkeypatch.setenv(gpus.VISIBLE, "1,0")
    assert gpus.usable_gpus() == ["1", "0"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpus.usable_gpus() == ["GPU-b", "GPU-a"]


def test_each_process_has_its_own_gpu_and_the_third_waits(machine):
    machine(TWO)
    holders = [hold(0.6) for _ in range(3)]
    spans = []
    for process in holders:
        out, errors = process.communicate(timeout=30)
        (name, begun), (ended,) = (line.split() for line in out.splitlines())
        spans.append((float(begun), float(ended), name, "all 2 GPUs are taken" in errors))
    spans.sort()
    assert {spans[0][2], spans[1][2]} == {"GPU-a", "GPU-b"}
    assert spans[1][0] < spans[0][1] < spans[2][0]  # two at a time; the third begins when one has ended
    assert [waited for *_, waited in spans] == [False, False, True]


def test_a_killed_process_leaves_its_gpu(machine):
    machine("GPU-a, NVIDIA H100, 81559, 80000\n")
    first = hold(60)
    assert first.stdout is not None and first.stdout.readline().startswith("GPU-a ")
    second = hold(0)
    time.sleep(0.4)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert second.communicate(timeout=20)[0].startswith("GPU-a ")
    first.communicate()


def test_the_variable_is_put_back(machine, monkeypatch):
    machine(TWO)
    with gpus.leased_gpu() as name:
        assert os.environ[gpus.VISIBLE] == name == "GPU-b"
    assert gpus.VISIBLE not in os.environ
    monkeypatch.setenv(gpus.VISIBLE, "1,0")
    with gpus.leased_gpu():
        assert os.environ[gpus.VISIBLE] == "GPU-b"
    assert os.environ[gpus.VISIBLE] == "1,0"


@pytest.mark.parametrize("variables", [{gpus.VISIBLE: "1"}, {gpus.VISIBLE: ""}, {"LOCAL_RANK": "1"}])
def test_what_others_have_chosen_stays(machine, monkeypatch, variables):
    machine(TWO)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = os.environ.get(gpus.VISIBLE)
    with gpus.leased_gpu() as leased:
        assert leased is None and os.environ.get(gpus.VISIBLE) == before


def test_without_a_gpu_nothing_happens(machine, tmp_path):
    with gpus.leased_gpu() as leased:
        assert leased is None and gpus.VISIBLE not in os.environ
    assert not (tmp_path / "weakseg").exists()


def test_why_there_is_no_gpu(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(WeaksegError, match=r"study voc needs a GPU.*lists no GPU.*--allow-cpu.*allow_cpu=true"):
        gpus.require_gpu("voc")
    machine(TWO)
    assert gpus.why_no_gpu() == "NVIDIA H100 is there, but its driver is too old for CUDA 13.0"
    monkeypatch.setenv(gpus.VISIBLE, "")
    assert gpus.why_no_gpu() == "CUDA_VISIBLE_DEVICES is ''"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "installed without CUDA" in str(gpus.why_no_gpu())


def test_a_gpu_that_torch_has_no_code_for_is_none(machine, monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fails)
    assert "no kernel image" in str(gpus.why_no_gpu()) and "more" not in str(gpus.why_no_gpu())
