"""Mean field with a general compatibility matrix, on the engine's lattices.

Under a Potts model much can be left out (`weakseg.crf.engine.savings`). With a matrix every label's message enters
every other's, so all labels are filtered in each update.
"""

import numpy as np

from weakseg.crf.engine.kernels import filter_columns
from weakseg.crf.engine.lattice import Lattice, Lattices
from weakseg.crf.engine.tiles import tiles
from weakseg.crf.params import CRFParams

LANES = 8
"""Labels that are filtered together."""


def mean_field_matrix(
    unary: np.ndarray,
    lattices: Lattices,
    params: CRFParams,
    compatibility: np.ndarray,
    *,
    iterations: int,
    normalization: str,
) -> np.ndarray:
    """Q <- softmax(-U - sum_k w_k mu K_k Q / K_k 1); arguments as in `weakseg.crf.mean_field`.

    Args:
        unary: (L+1, H, W) float32, finite.
        lattices: of the image.
        params: weights and widths.
        compatibility: mu, (L+1, L+1) float: energy of a pair of labels at a distance of 0 and a weight of 1.
        iterations: updates.
        normalization: `after` or `symmetric`.

    Returns:
        Q, (L+1, H, W) float32.
    """
    labels = len(unary)
    order = tiles(*unary.shape[1:])
    energy = unary.reshape(labels, -1)[:, order.order]
    mu = compatibility.astype(np.float32)
    pairs = [
        (np.float32(params.w), lattices.bilateral(params.sigma_xy, params.sigma_rgb)),
        (np.float32(params.w_pos), lattices.position(params.sigma_pos)),
    ]
    q = _softmax(-energy)
    for _ in range(iterations):
        message = np.zeros_like(q)
        for weight, lattice in pairs:
            message += weight * _filtered(q, lattice, normalization)
        q = _softmax(-energy - mu @ message)
    return order.back(q).reshape(unary.shape)


def _filtered(q: np.ndarray, lattice: Lattice, normalization: str) -> np.ndarray:
    """The kernel's normalised filter of each label's plane, (L+1, n)."""
    symmetric = normalization == "symmetric"
    factor = lattice.factor(normalization)
    out = np.empty_like(q)
    for first in range(0, len(q), LANES):
        planes = q[first : first + LANES]
        columns = np.zeros((q.shape[1], LANES), dtype=np.float32)
        columns[:, : len(planes)] = (planes * factor if symmetric else planes).T
        found = filter_columns(columns, lattice.corners, lattice.chains, lattice.runs, lattice.points)
        out[first : first + LANES] = found[:, : len(planes)].T * factor
    return out


def _softmax(values: np.ndarray) -> np.ndarray:
    values = values - values.max(0)
    np.exp(values, out=values)
    values /= values.sum(0)
    return values
