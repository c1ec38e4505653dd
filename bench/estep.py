"""How long the E-steps take: agreement with the plain twins first, then time, then the share of a VGG-16 step.

    python bench/estep.py [--threads 2] [--skip-vgg]

Prints medians; ratios are of figures measured in this one run.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from estep import slow

from weakseg.estep import em_adapt, em_fixed
from weakseg.estep.adapt import label_orders
from weakseg.model import build_model
from weakseg.train.mstep import cross_entropy

PORTIONS = {"bg_portion": 0.4, "fg_portion": 0.2}
BIASES = {"bg_bias": 3.0, "fg_bias": 5.0}


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call in milliseconds, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def problem(images: int, size: int, foreground: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random scores (images, 21, size, size) and tags: the background and `foreground` labels an image."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(images, 21, size, size, generator=generator) * 3
    present = torch.zeros(images, 21, dtype=torch.bool)
    present[:, 0] = True
    for row in present:
        row[1 + torch.randperm(20, generator=generator)[:foreground]] = True
    return scores, present


def agreement() -> None:
    """Hold both E-steps against their plain twins on a small problem."""
    scores, present = problem(4, 9, 3)
    orders = label_orders(present, 5, torch.Generator().manual_seed(1))
    adapted = em_adapt(scores, present, **PORTIONS, rounds=5, generator=torch.Generator().manual_seed(1))
    fixed = em_fixed(scores, present, **BIASES)
    for n in range(len(scores)):
        plain, _ = slow.em_adapt(scores[n].numpy(), present[n].numpy(), 0.4, 0.2, orders[n].tolist())
        assert np.array_equal(adapted[n], plain), "em_adapt differs from its plain twin"
        assert np.array_equal(fixed[n], slow.em_fixed(scores[n].numpy(), present[n].numpy(), 3.0, 5.0))
    print("agreement: both E-steps equal their plain twins")


def naive_adapt(scores: torch.Tensor, present: torch.Tensor, rounds: int) -> None:
    """A sort a label, round and image: the time of the obvious way."""
    for n in range(len(scores)):
        f = scores[n].clone().flatten(1)
        shown = present[n].nonzero()[:, 0].tolist()
        for _ in range(rounds):
            for label in shown:
                highest = f[shown].amax(0)
                gap = (highest - f[label]).sort().values
                f[label] += gap[int((0.4 if label == 0 else 0.2) * gap.numel())]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-vgg", action="store_true", help="leave out the VGG-16 step (1 GiB of memory)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    agreement()

    scores, present = problem(30, 41, 3)
    fast = median_ms(lambda: em_adapt(scores, present, **PORTIONS, rounds=5), 15)
    naive = median_ms(lambda: naive_adapt(scores, present, 5), 3)
    fixed = median_ms(lambda: em_fixed(scores, present, **BIASES), 15)
    print(f"30 maps of 41x41, 3 foreground labels each, {args.threads} threads:")
    print(f"  em_adapt, 5 rounds   {fast:8.2f} ms   ({naive / fast:.1f}x faster than a sort a label, round and image)")
    print(f"  em_fixed             {fixed:8.2f} ms")

    if not args.skip_vgg:
        model = build_model("vgg16-largefov").train()
        images, maps = torch.randn(2, 3, 321, 321), problem(2, 41, 3)

        def step() -> None:
            model.zero_grad()
            cross_entropy(model(images), torch.zeros(2, 41, 41, dtype=torch.long)).backward()

        whole = median_ms(step, 3)
        part = median_ms(lambda: em_adapt(*maps, **PORTIONS, rounds=5), 15)
        print(
            f"VGG-16 LargeFOV, forward and backward of 2 crops of 321: {whole:.0f} ms; em_adapt on them: {part:.2f} ms"
        )
        print(f"  the E-step is {100 * part / whole:.2f} % of the step")


if __name__ == "__main__":
    main()
