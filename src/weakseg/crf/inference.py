"""Mean-field inference: one entry for all backends, for one parameter set or for many."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from weakseg.crf.exact import mean_field_exact
from weakseg.crf.params import CRFParams
from weakseg.crf.pydensecrf_backend import mean_field_pydensecrf
from weakseg.errors import WeaksegError

if TYPE_CHECKING:
    from torch import Tensor

    # the engine is compiled on first use, which an import must not wait for
    from weakseg.crf.engine.marginals import Marginals
    from weakseg.crf.engine.savings import Savings
    from weakseg.crf.gpu import TensorLattices

Backend = Literal["fast", "pydensecrf", "exact"]
Normalization = Literal["after", "symmetric"]


def mean_field(
    unary: np.ndarray,
    image: np.ndarray,
    params: CRFParams,
    *,
    iterations: int = 10,
    backend: Backend = "fast",
    normalization: Normalization = "after",
    compatibility: np.ndarray | None = None,
    savings: "Savings | None" = None,
) -> np.ndarray:
    """Approximate marginals Q of the fully connected CRF.

    Q <- softmax(-U + sum_k w_k K_k Q / K_k 1), ten parallel updates from Q = softmax(-U), self pairs included
    (Krähenbühl and Koltun 2011, Algorithm 1; DeepLab's program). With a compatibility matrix mu in place of the Potts
    model the message is -sum_k w_k mu K_k Q / K_k 1; mu = 1 - identity is the Potts model.

    Args:
        unary: (L+1, H, W) float32, -log probability; a NumPy array, or a torch tensor on any device.
        image: (H, W, 3) uint8 RGB at the same size; a tensor on the same device where the unary is one.
        params: weights and widths.
        iterations: updates; 0 gives softmax(-U).
        backend: `fast` (`weakseg.crf.engine`; for tensors `weakseg.crf.gpu`), `pydensecrf` (if installed) or `exact`
            (all pairs, small images).
        normalization: `after` (DeepLab) or `symmetric`.
        compatibility: mu, (L+1, L+1) float, finite and symmetric; None: Potts.
        savings: what backend `fast` may leave out under a Potts model; None: the default, see
            `weakseg.crf.engine.savings`.

    Returns:
        Q, (L+1, H, W) float32; sums to 1 over labels. A tensor on the unary's device where that is one.

    Raises:
        WeaksegError: shapes, dtypes or values that cannot be used, an unknown backend or normalisation.
    """
    if backend not in ("fast", "pydensecrf", "exact"):
        raise WeaksegError(f"CRF: backend {backend!r} is not known; use fast, pydensecrf or exact")
    if compatibility is not None:
        _check_compatibility(compatibility, len(unary))
    if not isinstance(unary, np.ndarray):
        return _mean_field_tensors(unary, image, params, iterations, backend, normalization, compatibility)
    _check(unary, image, iterations, normalization)
    if backend == "fast" and compatibility is None:
        return next(_fast(unary, image, [params], iterations, normalization, savings))[1].q()
    _check_finite(unary)
    if backend != "fast":
        function = mean_field_exact if backend == "exact" else mean_field_pydensecrf
        return function(
            unary, image, params, iterations=iterations, normalization=normalization, compatibility=compatibility
        )
    from weakseg.crf.engine.lattice import Lattices
    from weakseg.crf.engine.matrix import mean_field_matrix

    assert compatibility is not None
    return mean_field_matrix(
        unary, Lattices(image), params, compatibility, iterations=iterations, normalization=normalization
    )


def mean_field_grid(
    unary: np.ndarray,
    image: np.ndarray,
    sets: Sequence[CRFParams],
    *,
    iterations: int = 10,
    backend: Backend = "fast",
    normalization: Normalization = "after",
    savings: "Savings | None" = None,
) -> list[np.ndarray]:
    """Label maps of one image for many parameter sets, equal to the argmax of `mean_field` for each.

    Backend `fast` reads the unary once and builds each lattice once for all sets that share it, on tensors too.

    Args:
        unary, image, iterations, backend, normalization, savings: as in `mean_field`.
        sets: parameter sets in any order.

    Returns:
        One (H, W) uint8 map a set, in the order of `sets`: the first label of largest Q.

    Raises:
        WeaksegError: as `mean_field`, and more than 256 labels.
    """
    if len(unary) > 256:
        raise WeaksegError(f"CRF: label maps hold 256 labels at most, got {len(unary)}")
    if not isinstance(unary, np.ndarray):
        from weakseg.crf.gpu import TensorLattices

        lattices = TensorLattices(image)
        return [
            _mean_field_tensors(unary, image, p, iterations, backend, normalization, None, lattices)
            .argmax(0)
            .cpu()
            .numpy()
            .astype(np.uint8)
            for p in sets
        ]
    _check(unary, image, iterations, normalization)
    if backend != "fast":
        return [
            mean_field(unary, image, p, iterations=iterations, backend=backend, normalization=normalization)
            .argmax(0)
            .astype(np.uint8)
            for p in sets
        ]
    maps: list[np.ndarray] = [np.empty(0, dtype=np.uint8)] * len(sets)
    for position, found in _fast(unary, image, sets, iterations, normalization, savings):
        maps[position] = found.labels()
    return maps


def label_map(
    unary: np.ndarray,
    image: np.ndarray,
    params: CRFParams,
    *,
    iterations: int = 10,
    backend: Backend = "fast",
    normalization: Normalization = "after",
    savings: "Savings | None" = None,
) -> np.ndarray:
    """The label map of one parameter set, (H, W) uint8; cheaper than the argmax of `mean_field`, and equal to it."""
    return mean_field_grid(
        unary, image, [params], iterations=iterations, backend=backend, normalization=normalization, savings=savings
    )[0]


def _fast(
    unary: np.ndarray,
    image: np.ndarray,
    sets: Sequence[CRFParams],
    iterations: int,
    normalization: Normalization,
    savings: "Savings | None",
) -> "Iterator[tuple[int, Marginals]]":
    from weakseg.crf.engine.lattice import Lattices
    from weakseg.crf.engine.marginals import marginals

    return marginals(unary, Lattices(image), sets, iterations=iterations, normalization=normalization, savings=savings)


def _mean_field_tensors(
    unary: "Tensor",
    image: "Tensor",
    params: CRFParams,
    iterations: int,
    backend: str,
    normalization: str,
    compatibility: np.ndarray | None,
    lattices: "TensorLattices | None" = None,
) -> "Tensor":
    from weakseg.crf.gpu import mean_field_tensors

    if backend != "fast":
        raise WeaksegError(f"CRF: backend {backend!r} takes NumPy arrays; for tensors use fast")
    _check_options(iterations, normalization)
    return mean_field_tensors(
        unary,
        image,
        params,
        iterations=iterations,
        normalization=normalization,
        compatibility=compatibility,
        lattices=lattices,
    )


def _check_compatibility(compatibility: np.ndarray, labels: int) -> None:
    fits = compatibility.shape == (labels, labels) and np.issubdtype(compatibility.dtype, np.floating)
    if not fits or not np.isfinite(compatibility).all():
        raise WeaksegError(
            f"CRF: compatibility must be finite and floating point {(labels, labels)}, got {compatibility.dtype} "
            f"{compatibility.shape}"
        )
    if not np.array_equal(compatibility, compatibility.T):
        raise WeaksegError("CRF: compatibility must be symmetric: a pair of labels has one energy")


def _check(unary: np.ndarray, image: np.ndarray, iterations: int, normalization: str) -> None:
    if unary.ndim != 3 or unary.dtype != np.float32 or 0 in unary.shape:
        raise WeaksegError(f"CRF: unary must be float32 (L+1, H, W), not empty, got {unary.dtype} {unary.shape}")
    if image.dtype != np.uint8 or image.shape != (*unary.shape[1:], 3):
        raise WeaksegError(f"CRF: image must be uint8 {(*unary.shape[1:], 3)}, got {image.dtype} {image.shape}")
    _check_options(iterations, normalization)


def _check_finite(unary: np.ndarray) -> None:
    """Refuse values that are not finite; the fast engine finds them itself, as it reads the unary anyway."""
    if not np.isfinite(unary).all():
        raise WeaksegError("CRF: the unary has values that are not finite; clip probabilities before the logarithm")


def _check_options(iterations: int, normalization: str) -> None:
    if iterations < 0:
        raise WeaksegError(f"CRF: iterations must be 0 or more, got {iterations}")
    if normalization not in ("after", "symmetric"):
        raise WeaksegError(f"CRF: normalization {normalization!r} is not known; use after or symmetric")
