"""Mean field on tensors against the engine on arrays; on a GPU, too, where there is one."""

import numpy as np
import pytest
import torch

from crf.slow import blobs, patches
from weakseg.crf import CRFParams, gpu, mean_field, mean_field_grid
from weakseg.crf.engine.lattice import bilateral_lattice, position_lattice
from weakseg.crf.engine.savings import Savings
from weakseg.crf.gpu import build_lattice
from weakseg.errors import WeaksegError

PARAMS = CRFParams(5, 30, 10)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 40), (30, 44)])
@pytest.mark.parametrize("noise", [0.0, 8.0, 90.0])
def test_lattice_filters_as_the_engine_s(device: torch.device, height: int, width: int, noise: float) -> None:
    image = patches(height, width, 1, noise)
    columns = np.random.default_rng(0).random((height * width, 3)).astype(np.float32)
    for ours, theirs in (
        (build_lattice(torch.from_numpy(image).to(device), (20, 20, 9, 9, 9)), bilateral_lattice(image, 20, 9)),
        (build_lattice(torch.empty((height, width, 0), device=device), (3, 3)), position_lattice(height, width, 3)),
    ):
        assert ours.points == theirs.points
        assert torch.allclose(ours.weight.sum(1), torch.ones(height * width, device=device), atol=1e-4)
        found = ours.filter(torch.from_numpy(columns).to(device)).cpu().numpy()
        for k in range(3):
            np.testing.assert_allclose(found[:, k], theirs.filter(columns[:, k]), rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("labels", [1, 2, 21])
@pytest.mark.parametrize("matrix", [False, True])
def test_q_is_that_of_the_engine(device: torch.device, labels: int, normalization: str, matrix: bool) -> None:
    image, unary = patches(40, 56, labels), blobs(labels, 40, 56, labels)
    mu = None
    if matrix:
        values = np.random.default_rng(1).random((labels, labels)).astype(np.float32)
        mu = values + values.T
    options = {"iterations": 5, "normalization": normalization, "compatibility": mu}
    plain = mean_field(unary, image, PARAMS, savings=Savings.none(), **options)  # type: ignore[arg-type]
    q = mean_field(torch.from_numpy(unary).to(device), torch.from_numpy(image).to(device), PARAMS, **options)  # type: ignore[arg-type]
    assert isinstance(q, torch.Tensor) and q.device.type == device.type and q.shape == unary.shape
    np.testing.assert_allclose(q.cpu().numpy(), plain, atol=3e-3)
    assert (q.argmax(0).cpu().numpy() == plain.argmax(0)).mean() >= 0.999


def test_bad_input_is_named() -> None:
    unary, image = torch.zeros(3, 8, 8), torch.zeros(8, 8, 3, dtype=torch.uint8)
    for bad_unary, bad_image, message in (
        (unary.double(), image, "unary must be float32"),
        (unary[0], image, "unary must be float32"),
        (unary, image.float(), "image must be a uint8 tensor"),
        (unary, image[:7], "image must be a uint8 tensor"),
        (unary, image.numpy(), "image must be a uint8 tensor"),
        (unary + float("nan"), image, "not finite"),
    ):
        with pytest.raises(WeaksegError, match=message):
            mean_field(bad_unary, bad_image, PARAMS)  # type: ignore[arg-type]
    for options, message in (
        ({"backend": "exact"}, "takes NumPy arrays"),
        ({"iterations": -1}, "iterations"),
        ({"normalization": "x"}, "normalization"),
    ):
        with pytest.raises(WeaksegError, match=message):
            mean_field(unary, image, PARAMS, **options)  # type: ignore[arg-type]
    with pytest.raises(WeaksegError, match="sigma is too small"):
        mean_field(unary, torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8), CRFParams(1, 1e-9, 1e-9))  # type: ignore[arg-type]


def test_label_maps_of_many_sets_are_the_argmax_of_each_and_share_lattices(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, unary = (torch.from_numpy(one).to(device) for one in (patches(24, 30, 1), blobs(5, 24, 30, 1)))
    sets = [CRFParams(w, xy, 10) for w in (2, 5) for xy in (8, 20)]
    plain = [mean_field(unary, image, p, iterations=3).argmax(0).cpu().numpy() for p in sets]  # type: ignore[arg-type, attr-defined]
    built = []
    monkeypatch.setattr(gpu, "build_lattice", lambda *arguments: built.append(arguments) or build_lattice(*arguments))
    maps = mean_field_grid(unary, image, sets, iterations=3)  # type: ignore[arg-type]
    assert all(one.dtype == np.uint8 and (one == other).all() for one, other in zip(maps, plain, strict=True))
    assert len(built) == 3  # two of colours and one of positions alone
    with pytest.raises(WeaksegError, match="takes NumPy arrays"):
        mean_field_grid(unary, image, sets, backend="exact")  # type: ignore[arg-type]
