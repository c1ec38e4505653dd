"""EM-Adapt: biases per image, so that present labels take a given share of it (Papandreou et al. 2015, section 3.2)."""

import torch
from torch import Tensor

from weakseg.devices import to_device
from weakseg.errors import WeaksegError
from weakseg.estep.common import argmax_higher, check_present, check_scores


def label_orders(present: Tensor, rounds: int, generator: torch.Generator | None, keys: Tensor | None = None) -> Tensor:
    """The order in which each round visits an image's present labels: background first, the others at random.

    Args:
        present: (N, L+1) bool.
        rounds: number of rounds R.
        generator: source of the random order (CPU); None: torch's default.
        keys: (N, R, L+1) random numbers in [0, 1) on the CPU, by which labels are ordered; None: drawn here.

    Returns:
        (N, R, K) int64 on the CPU, K the largest number of present labels; -1 fills the rows of images with fewer.
    """
    images, labels = present.shape
    key = torch.rand(images, rounds, labels, generator=generator) if keys is None else keys.clone()
    key[:, :, 0] = -1.0
    key = key.masked_fill(~present.cpu()[:, None, :], torch.inf)
    longest = int(present.sum(1).max()) if images else 0
    first = key.sort(dim=2)
    order = first.indices[:, :, :longest]
    return order.masked_fill(first.values[:, :, :longest].isinf(), -1)


@torch.no_grad()
def em_adapt(
    scores: Tensor,
    present: Tensor,
    *,
    bg_portion: float,
    fg_portion: float,
    rounds: int,
    generator: torch.Generator | None = None,
    valid: Tensor | None = None,
    keys: Tensor | None = None,
) -> Tensor:
    """Label map under biases that give every present label at least its portion of the cells, absent ones none.

    A round visits the present labels, background first. For label l it takes the gaps d_i = max_k f_i(k) - f_i(l)
    over present k, raises f(l) at all cells by the gap of 0-based rank floor(rho_l * N) in ascending order (N cells),
    and goes on with the raised scores. Biases never fall; a later label may take cells back from an earlier one,
    which further rounds mend where the portions can be met together. (Section 3.2; released E-step layer.)

    The released layer lowers absent labels below all present ones at each cell. As neither the gaps nor the raises
    look at absent labels, the same map results from leaving them out of the argmax, which is what happens here.

    Args:
        scores: (N, L+1, h, w) unnormalised log-probabilities; label 0 is the background.
        present: (N, L+1) bool, whether a label occurs in the crop. An image without any is labelled by its scores. It
            may lie on the CPU while scores are on a GPU; then nothing waits for the GPU.
        bg_portion: rho_bg in [0, 1]; the paper's .4.
        fg_portion: rho_fg in [0, 1]; the paper's .2.
        rounds: R >= 1.
        generator: source of the random order of foreground labels (on the CPU).
        valid: (N, h, w) bool; portions are of the valid cells alone. None: of all cells, as in the release.
        keys: (N, rounds, L+1) random numbers in [0, 1) on the CPU that give the order; None: `generator` draws them.

    Returns:
        (N, h, w) int64; of equal scores the higher label.

    Raises:
        WeaksegError: shapes, dtypes, portions or rounds do not fit.
    """
    check_scores(scores)
    check_present(scores, present)
    if not (0 <= bg_portion <= 1 and 0 <= fg_portion <= 1):
        raise WeaksegError(f"em_adapt: portions must lie in [0, 1], got {bg_portion} and {fg_portion}")
    if rounds < 1:
        raise WeaksegError(f"em_adapt: rounds must be 1 at least, got {rounds}")
    images, _, height, width = scores.shape
    cells = height * width
    if valid is not None and valid.shape != (images, height, width):
        raise WeaksegError(f"em_adapt: valid must be {(images, height, width)}, got {tuple(valid.shape)}")

    present = present.cpu()
    orders = label_orders(present, rounds, generator, keys)
    if orders.shape[2] == 0:
        return argmax_higher(scores)

    # Work on the present labels alone, a slot for each: slot k of image n holds label slots[n, k]. Who comes when is
    # found on the CPU and goes to the scores' device in one piece.
    slots = orders[:, 0].sort(dim=1, descending=True).values  # (N, K), empty slots (-1) last
    visits = orders.flatten(1, 2).T  # (R K, N), one label an image at a time
    visited = (slots == visits[:, :, None]).to(torch.uint8).argmax(2)  # its slot
    slots, visits, visited = (to_device(one.contiguous(), scores.device) for one in (slots, visits, visited))
    filled = slots >= 0
    f = scores.flatten(2).gather(1, slots.clamp(min=0)[:, :, None].expand(-1, -1, cells))
    f = f.masked_fill(~filled[:, :, None], -torch.inf)
    highest = f.amax(1)  # (N, cells)
    invalid = None if valid is None else ~valid.flatten(1)
    counts = torch.full((images,), cells, device=f.device) if invalid is None else (~invalid).sum(1)
    ranks = torch.stack(
        [(portion * counts.double()).long().clamp(max=counts - 1) for portion in (bg_portion, fg_portion)], 1
    )  # (N, 2): truncation of the product, as in the release
    rank_of_visit = torch.where(visits > 0, ranks[:, 1], ranks[:, 0]).clamp(min=0)
    skipped = (visits < 0) | (counts < 1)
    rows = torch.arange(images, device=f.device)
    for slot, rank, skips in zip(visited, rank_of_visit, skipped, strict=True):
        gap = highest - f[rows, slot]
        raised = torch.where(skips, 0.0, _ranked(gap, rank, invalid))
        f[rows, slot] += raised[:, None]
        highest = torch.maximum(highest, f[rows, slot])

    # Slots are in descending order of their labels, so the first maximum is the higher label.
    winner = slots.gather(1, f.argmax(1)).view(images, height, width)
    unlabelled = ~present.any(1)
    if unlabelled.any():
        where = to_device(unlabelled, winner.device)[:, None, None]
        winner = torch.where(where, argmax_higher(scores), winner)
    return winner


def _ranked(gap: Tensor, rank: Tensor, invalid: Tensor | None) -> Tensor:
    """The element of 0-based rank `rank[n]` in each ascending row of `gap` (N, cells), invalid cells left out."""
    if invalid is not None:
        gap = gap.masked_fill(invalid, torch.inf)
    return _selected(gap, rank) if gap.device.type == "cpu" else _sorted(gap, rank)


def _sorted(gap: Tensor, rank: Tensor) -> Tensor:
    """By sorting whole rows, which a GPU does without a look at the ranks."""
    return gap.sort(dim=1).values.gather(1, rank[:, None])[:, 0]


def _selected(gap: Tensor, rank: Tensor) -> Tensor:
    """By selection, rows of equal rank together: several times faster on a CPU."""
    chosen = torch.zeros(len(gap), dtype=gap.dtype)
    for value in rank.unique().tolist():
        where = (rank == value).nonzero()[:, 0]
        chosen[where] = gap[where].kthvalue(value + 1, dim=1).values
    return chosen
