"""Mean field on torch tensors, for a GPU: the lattice of `weakseg.crf.engine.lattice` in whole-tensor operations.

The lattice is found by sorting packed keys in place of hashing them; splat, blur and slice are scatter and gather. The
whole loop stays on the tensors' device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from weakseg.crf.engine.lattice import feature_scale, key_layout
from weakseg.crf.params import CRFParams
from weakseg.errors import WeaksegError


@dataclass(frozen=True)
class TensorLattice:
    """Splat, blur and slice of one Gaussian kernel over n pixels, d features a pixel.

    Attributes:
        index: (n, d+1) int64, lattice points of each pixel.
        weight: (n, d+1) float32, barycentric weights; rows sum to 1.
        before, after: (d+1, points) int64, neighbours along each axis; `points` where there is none.
        points: number of lattice points.
    """

    index: Tensor
    weight: Tensor
    before: Tensor
    after: Tensor
    points: int

    def filter(self, columns: Tensor) -> Tensor:
        """The kernel's filter of (n, L) float32 columns, up to a constant factor."""
        width = columns.shape[1]
        values = columns.new_zeros((self.points + 1, width))  # the last row stands for missing neighbours
        spread = (self.weight[:, :, None] * columns[:, None, :]).reshape(-1, width)
        values.index_add_(0, self.index.reshape(-1), spread)
        for before, after in zip(self.before, self.after, strict=True):
            blurred = values[:-1] + 0.5 * (values[before] + values[after])
            values = torch.cat([blurred, values[-1:]])
        return (self.weight[:, :, None] * values[self.index]).sum(1)


def build_lattice(channels: Tensor, sigmas: tuple[float, ...]) -> TensorLattice:
    """The lattice of features x, y and the channels of an (H, W, C) uint8 tensor, each divided by its sigma.

    Raises:
        WeaksegError: widths so small that lattice keys do not fit 62 bits.
    """
    height, width, colours = channels.shape
    d, corners = len(sigmas), len(sigmas) + 1
    device = channels.device
    scale = feature_scale(sigmas)
    flat = channels.reshape(height * width, colours)
    low, high = [0.0] * d, [width - 1.0, height - 1.0] + [0.0] * colours
    if colours:
        low[2:], high[2:] = flat.amin(0).tolist(), flat.amax(0).tolist()
    lowest, shifts = key_layout(np.array(low), np.array(high), scale)

    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    features = torch.cat([columns.reshape(-1, 1), rows.reshape(-1, 1), flat], 1).to(torch.float32)
    features *= torch.from_numpy(scale).to(device)

    # Elevate onto the hyperplane of coordinates that sum to zero.
    elevated = torch.empty((len(features), corners), device=device)
    total = torch.zeros(len(features), device=device)
    for j in range(d, 0, -1):
        elevated[:, j] = total - j * features[:, j - 1]
        total = total + features[:, j - 1]
    elevated[:, 0] = total
    # Nearest point of remainder 0, brought back onto the hyperplane.
    quotient = elevated * (1 / corners)
    above, below = quotient.ceil(), quotient.floor()
    rounded = torch.where(above * corners - elevated < elevated - below * corners, above, below).to(torch.int64)
    excess = rounded.sum(1, keepdim=True)
    offset = elevated - (rounded * corners).to(torch.float32)
    rank = torch.zeros_like(rounded)
    for i in range(d):
        for j in range(i + 1, corners):
            less = (offset[:, i] < offset[:, j]).to(torch.int64)
            rank[:, i] += less
            rank[:, j] += 1 - less
    rank = rank + excess
    wrapped = (rank < 0).to(torch.int64) - (rank >= corners).to(torch.int64)
    rounded, rank = rounded + wrapped, rank + corners * wrapped
    # Barycentric weights and the keys of the simplex.
    value = (elevated - (rounded * corners).to(torch.float32)) * (1 / corners)
    weight = torch.zeros((len(features), corners + 1), device=device)
    weight.scatter_add_(1, d - rank, value)
    weight.scatter_add_(1, corners - rank, -value)
    weight[:, 0] += 1 + weight[:, corners]
    steps = torch.tensor([1 << int(s) for s in shifts] + [0], dtype=torch.int64, device=device)
    first = ((rounded[:, :d] - torch.tensor(lowest, device=device)) * steps[:d]).sum(1)
    owner = torch.empty_like(rank).scatter_(1, rank, torch.arange(corners, device=device).expand_as(rank))
    lowered = steps[owner.flip(1)]  # column r - 1: what the corner of remainder r lowers
    keys = torch.cat([first[:, None], first[:, None] + (1 - lowered[:, :d]).cumsum(1)], 1)

    points, index = torch.unique(keys, return_inverse=True)
    before = torch.full((corners, len(points)), len(points), dtype=torch.int64, device=device)
    after = before.clone()
    for axis in range(corners):
        # All coordinates one less, that of the axis d more; a remainder of 0 wraps to d.
        along = steps[axis]
        wanted = points + torch.where((points & 7) > 0, along - 1, along - steps.sum() + d)
        place = torch.searchsorted(points, wanted).clamp(max=len(points) - 1)
        found = points[place] == wanted
        after[axis, found] = place[found]
        before[axis, place[found]] = found.nonzero()[:, 0]
    return TensorLattice(index, weight[:, :corners].contiguous(), before, after, len(points))


class TensorLattices:
    """The lattices of one image, each built once."""

    def __init__(self, image: Tensor) -> None:
        """Take an (H, W, 3) uint8 image."""
        self.image = image
        self._built: dict[tuple[float, ...], tuple[TensorLattice, Tensor]] = {}

    def of(self, *sigmas: float) -> tuple[TensorLattice, Tensor]:
        """The lattice of positions (two widths) or of positions and colours (five), and the kernel's mass (n, 1)."""
        if sigmas not in self._built:
            lattice = build_lattice(self.image[..., : len(sigmas) - 2], sigmas)
            ones = torch.ones((len(lattice.index), 1), device=self.image.device)
            self._built[sigmas] = lattice, lattice.filter(ones) + 1e-20
        return self._built[sigmas]


@torch.no_grad()
def mean_field_tensors(
    unary: Tensor,
    image: Tensor,
    params: CRFParams,
    *,
    iterations: int,
    normalization: str,
    compatibility: Tensor | np.ndarray | None = None,
    lattices: TensorLattices | None = None,
) -> Tensor:
    """Q on the device of `unary`; arguments as in `weakseg.crf.mean_field`.

    Args:
        unary, image, params, iterations, normalization, compatibility: see there.
        lattices: of the image, from an earlier call; None: built here.

    Raises:
        WeaksegError: shapes, dtypes, devices or values that cannot be used.
    """
    _check(unary, image)
    labels, height, width = unary.shape
    energy = unary.reshape(labels, -1).T.contiguous()
    mu = None if compatibility is None else torch.as_tensor(compatibility, dtype=torch.float32, device=unary.device)
    kernels = []
    lattices = lattices or TensorLattices(image)
    for weight, sigmas in (
        (params.w, (params.sigma_xy, params.sigma_xy, *[params.sigma_rgb] * 3)),
        (params.w_pos, (params.sigma_pos, params.sigma_pos)),
    ):
        lattice, mass = lattices.of(*sigmas)
        kernels.append((weight, lattice, mass.rsqrt() if normalization == "symmetric" else 1 / mass))
    q = torch.softmax(-energy, 1)
    for _ in range(iterations):
        message = torch.zeros_like(q)
        for weight, lattice, factor in kernels:
            columns = q * factor if normalization == "symmetric" else q
            message += weight * factor * lattice.filter(columns)
        if mu is not None:
            message = -message @ mu
        q = torch.softmax(message - energy, 1)
    return q.T.reshape(labels, height, width).contiguous()


def _check(unary: Tensor, image: Tensor) -> None:
    if unary.dim() != 3 or unary.dtype != torch.float32 or 0 in unary.shape:
        raise WeaksegError(f"CRF: unary must be float32 (L+1, H, W), not empty, got {unary.dtype} {tuple(unary.shape)}")
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or tuple(image.shape) != (*unary.shape[1:], 3):
        raise WeaksegError(f"CRF: image must be a uint8 tensor {(*unary.shape[1:], 3)} where the unary is a tensor")
    if image.device != unary.device:
        raise WeaksegError(f"CRF: unary lies on {unary.device}, image on {image.device}; they must be on one device")
    if not torch.isfinite(unary).all():
        raise WeaksegError("CRF: the unary has values that are not finite; clip probabilities before the logarithm")
