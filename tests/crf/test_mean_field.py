"""Backends against the plain algorithm and against each other; input that cannot be used."""

import numpy as np
import pytest

from crf.slow import blobs, mean_field_loops, patches
from weakseg.crf import CRFParams, label_map, mean_field, mean_field_grid, unary_from_probabilities, unary_from_scores
from weakseg.crf.engine.savings import Savings
from weakseg.errors import WeaksegError

PARAMS = CRFParams(5, 50, 10)
BACKENDS = ("fast", "pydensecrf", "exact")


def skip_without(backend: str) -> None:
    if backend == "pydensecrf":
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is an optional extra")


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_exact_is_the_plain_algorithm(normalization: str, iterations: int) -> None:
    image, unary = patches(6, 7), blobs(3, 6, 7)
    params = CRFParams(4, 5, 30, 2, 1.5)
    slow = mean_field_loops(unary, image, params, iterations, normalization)
    q = mean_field(unary, image, params, iterations=iterations, backend="exact", normalization=normalization)  # type: ignore[arg-type]
    np.testing.assert_allclose(q, slow, atol=1e-6)


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("seed", range(3))
def test_lattice_engines_are_near_exact(seed: int, normalization: str) -> None:
    """Mean error of Q below 2e-2 and 98.5 % of labels; backend `fast` no further off than pydensecrf."""
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is an optional extra")
    image, unary = patches(48, 48, seed), blobs(5, 48, 48, seed)
    params = CRFParams(3, 30, 13)
    q = {b: mean_field(unary, image, params, backend=b, normalization=normalization) for b in BACKENDS}  # type: ignore[arg-type]
    error = {b: np.abs(q[b] - q["exact"]) for b in ("fast", "pydensecrf")}
    assert error["fast"].max() <= error["pydensecrf"].max() + 5e-4
    assert error["fast"].mean() <= 2e-2
    same = {b: (q[b].argmax(0) == q["exact"].argmax(0)).mean() for b in error}
    assert same["fast"] >= 0.985
    assert same["fast"] >= same["pydensecrf"] - 5e-4


@pytest.mark.parametrize("backend", BACKENDS)
class TestEveryBackend:
    def test_q_is_a_distribution(self, backend: str) -> None:
        skip_without(backend)
        q = mean_field(blobs(6, 20, 30), patches(20, 30), PARAMS, backend=backend)  # type: ignore[arg-type]
        assert q.dtype == np.float32 and q.shape == (6, 20, 30)
        assert (q >= 0).all()
        np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)

    def test_without_iterations_or_weights_it_is_softmax(self, backend: str) -> None:
        skip_without(backend)
        unary, image = blobs(4, 10, 12), patches(10, 12)
        softmax = np.exp(-unary) / np.exp(-unary).sum(0)
        q = mean_field(unary, image, PARAMS, iterations=0, backend=backend)  # type: ignore[arg-type]
        np.testing.assert_allclose(q, softmax, atol=1e-5)
        q = mean_field(unary, image, CRFParams(0, 50, 10, 0, 3), backend=backend)  # type: ignore[arg-type]
        np.testing.assert_allclose(q, softmax, atol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)])
    @pytest.mark.parametrize("labels", [1, 2, 5])
    def test_small_inputs(self, backend: str, shape: tuple[int, int], labels: int) -> None:
        skip_without(backend)
        unary, image = blobs(labels, *shape), patches(*shape)
        q = mean_field(unary, image, PARAMS, backend=backend)  # type: ignore[arg-type]
        np.testing.assert_allclose(q, mean_field(unary, image, PARAMS, backend="exact"), atol=0.05)

    def test_inputs_are_left_alone_and_may_be_read_only_or_strided(self, backend: str) -> None:
        skip_without(backend)
        unary, image = blobs(3, 12, 16), patches(12, 16)
        kept = unary.copy(), image.copy()
        unary.flags.writeable = image.flags.writeable = False
        q = mean_field(unary, image, PARAMS, backend=backend)  # type: ignore[arg-type]
        np.testing.assert_array_equal(unary, kept[0])
        np.testing.assert_array_equal(image, kept[1])
        strided = np.repeat(unary, 2, axis=2)[:, :, ::2], np.repeat(image, 2, axis=1)[:, ::2]
        np.testing.assert_array_equal(mean_field(*strided, PARAMS, backend=backend), q)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite(self, backend: str, value: float) -> None:
        unary = blobs(3, 8, 8)
        unary[1, 2, 3] = value
        with pytest.raises(WeaksegError, match="not finite"):
            mean_field(unary, patches(8, 8), PARAMS, backend=backend)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("unary", "image"),
        [
            (np.zeros((3, 8), np.float32), np.zeros((8, 8, 3), np.uint8)),
            (np.zeros((3, 8, 8), np.float64), np.zeros((8, 8, 3), np.uint8)),
            (np.zeros((3, 8, 8), np.float32), np.zeros((8, 8), np.uint8)),
            (np.zeros((3, 8, 8), np.float32), np.zeros((8, 8, 3), np.float32)),
            (np.zeros((3, 8, 8), np.float32), np.zeros((8, 9, 3), np.uint8)),
            (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)),
            (np.zeros((0, 8, 8), np.float32), np.zeros((8, 8, 3), np.uint8)),
            (np.zeros((3, 0, 8), np.float32), np.zeros((0, 8, 3), np.uint8)),
        ],
    )
    def test_shapes_and_dtypes(self, backend: str, unary: np.ndarray, image: np.ndarray) -> None:
        with pytest.raises(WeaksegError, match="must be"):
            mean_field(unary, image, PARAMS, backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize(("option", "value"), [("iterations", -1), ("backend", "slow"), ("normalization", "before")])
def test_unknown_options(option: str, value: object) -> None:
    with pytest.raises(WeaksegError, match=option):
        mean_field(blobs(2, 8, 8), patches(8, 8), PARAMS, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["w", "sigma_xy", "sigma_rgb", "w_pos", "sigma_pos"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e39, 2e30])
def test_parameters_out_of_range(name: str, value: float) -> None:
    with pytest.raises(WeaksegError, match=name):
        CRFParams(**{"w": 1.0, "sigma_xy": 1.0, "sigma_rgb": 1.0, name: value})


@pytest.mark.parametrize("name", ["sigma_xy", "sigma_rgb", "sigma_pos"])
@pytest.mark.parametrize("value", [0.0, 1e-46, 1e-39])  # 1e-46 is 0 in float32, and so is the reciprocal's opposite
def test_widths_that_are_nothing(name: str, value: float) -> None:
    with pytest.raises(WeaksegError, match=name):
        CRFParams(**{"w": 1.0, "sigma_xy": 1.0, "sigma_rgb": 1.0, name: value})


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("params", [CRFParams(1e30, 20, 10, 1e30), CRFParams(5, 1e30, 1e30, 3, 1e30)])
def test_the_largest_parameters_give_a_distribution(params: CRFParams, normalization: str) -> None:
    q = mean_field(blobs(6, 20, 30), patches(20, 30), params, normalization=normalization)  # type: ignore[arg-type]
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)
    assert len(np.unique(q.argmax(0))) > 1 or params.sigma_xy == 1e30


def test_a_large_photo() -> None:
    """1,300x1,100 pixels in two halves: one label each, however they are noised."""
    height, width, half = 1300, 1100, 550
    rng = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.uint8)
    image[:, half:] = 200
    unary = np.zeros((2, height, width), np.float32)
    unary[1, :, :half] = unary[0, :, half:] = 1
    unary += rng.normal(0, 0.5, (1, height, width)).astype(np.float32) * np.array([[[1]], [[-1]]], np.float32)
    assert (unary.argmin(0)[:, :half] == 0).mean() < 0.98
    labels = label_map(unary, image, CRFParams(5, 60, 6), iterations=2)
    assert labels.shape == (height, width)
    assert (labels[:, :half] == 0).mean() > 0.999 and (labels[:, half:] == 1).mean() > 0.999


def test_exact_refuses_large_images() -> None:
    with pytest.raises(WeaksegError, match="4096"):
        mean_field(np.zeros((2, 65, 64), np.float32), np.zeros((65, 64, 3), np.uint8), PARAMS, backend="exact")


def test_pydensecrf_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(WeaksegError, match="pydensecrf2"):
        mean_field(blobs(2, 8, 8), patches(8, 8), PARAMS, backend="pydensecrf")


@pytest.mark.parametrize("backend", BACKENDS)
def test_label_maps_are_the_argmax_set_by_set(backend: str) -> None:
    skip_without(backend)
    unary, image = blobs(3, 32, 32, 1, 1.0), patches(32, 32)
    # The first and the last share lattices, so that the engine makes them one after the other.
    sets = [PARAMS, CRFParams(30, 5, 60), CRFParams(0.5, 50, 10)]
    maps = mean_field_grid(unary, image, sets, backend=backend)  # type: ignore[arg-type]
    for found, params in zip(maps, sets, strict=True):
        assert found.dtype == np.uint8
        q = mean_field(unary, image, params, backend=backend)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, q.argmax(0))
        np.testing.assert_array_equal(label_map(unary, image, params, backend=backend), found)  # type: ignore[arg-type]
    assert len({found.tobytes() for found in maps}) == len(sets)  # an order mixed up would be seen
    assert mean_field_grid(unary, image, [], backend=backend) == []  # type: ignore[arg-type]


def matrix(labels: int, seed: int = 0) -> np.ndarray:
    """A symmetric matrix with negative energies, too, and a diagonal that is not 0."""
    values = np.random.default_rng(seed).normal(0.5, 0.7, (labels, labels)).astype(np.float32)
    return (values + values.T) / 2


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("labels", [1, 2, 5, 9, 21])
def test_compatibility_matrix_is_near_exact_and_near_pydensecrf(labels: int, normalization: str) -> None:
    image, unary = patches(40, 56, labels), blobs(labels, 40, 56, labels)
    params, mu = CRFParams(2, 30, 13), matrix(labels)
    q = {
        b: mean_field(unary, image, params, backend=b, normalization=normalization, compatibility=mu, iterations=4)  # type: ignore[arg-type]
        for b in ("fast", "exact")
    }
    np.testing.assert_allclose(q["fast"].sum(0), 1, atol=1e-5)
    assert np.abs(q["fast"] - q["exact"]).mean() < 1e-2
    assert (q["fast"].argmax(0) == q["exact"].argmax(0)).mean() > 0.98
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is an optional extra")
    theirs = mean_field(
        unary, image, params, backend="pydensecrf", normalization=normalization, compatibility=mu, iterations=4  # type: ignore[arg-type]
    )  # fmt: skip
    np.testing.assert_allclose(q["fast"], theirs, atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_potts_as_a_matrix_is_potts(backend: str) -> None:
    skip_without(backend)
    image, unary = patches(30, 40), blobs(6, 30, 40)
    potts = 1 - np.eye(6, dtype=np.float32)
    plain = mean_field(unary, image, PARAMS, backend=backend, savings=Savings.none())  # type: ignore[arg-type]
    q = mean_field(unary, image, PARAMS, backend=backend, compatibility=potts)  # type: ignore[arg-type]
    np.testing.assert_allclose(q, plain, atol=2e-3)
    assert (q.argmax(0) == plain.argmax(0)).mean() > 0.999


@pytest.mark.parametrize(
    "mu",
    [
        np.zeros((3, 2), np.float32), np.zeros((3, 3), int), np.full((3, 3), np.nan),
        np.arange(9, dtype=np.float64).reshape(3, 3),
    ],
)  # fmt: skip
def test_unusable_compatibility(mu: np.ndarray) -> None:
    with pytest.raises(WeaksegError, match="compatibility must be"):
        mean_field(blobs(3, 8, 8), patches(8, 8), PARAMS, compatibility=mu)


class TestUnary:
    def test_scores(self) -> None:
        scores = np.random.default_rng(0).normal(0, 30, (4, 5, 6)).astype(np.float32)
        unary = unary_from_scores(scores)
        assert unary.dtype == np.float32
        np.testing.assert_allclose(unary - unary[:1], scores[:1] - scores, atol=1e-3)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_a_constant_of_each_pixel_changes_nothing(self, backend: str) -> None:
        skip_without(backend)
        unary, image = blobs(6, 20, 24), patches(20, 24)
        moved = unary + np.random.default_rng(0).normal(0, 30, (1, 20, 24)).astype(np.float32)
        q = [mean_field(u, image, PARAMS, backend=backend) for u in (unary, moved)]  # type: ignore[arg-type]
        np.testing.assert_allclose(q[0], q[1], atol=2e-3)

    def test_hard_probabilities_keep_their_weight(self) -> None:
        unary = unary_from_probabilities(np.array([[[1.0]], [[0.0]]]))
        np.testing.assert_allclose(unary.ravel(), [0, 27.631], atol=1e-3)

    @pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
    def test_not_probabilities(self, bad: float) -> None:
        with pytest.raises(WeaksegError, match="probabilities"):
            unary_from_probabilities(np.full((2, 1, 1), bad))
        with pytest.raises(WeaksegError, match="epsilon"):
            unary_from_probabilities(np.full((2, 1, 1), 0.5), epsilon=0)
