"""How fast the fields of view of DeepLab's head train: agreement first, then images a second of each, medians.

    python bench/fields_of_view.py [--trunk tiny] [--crop 65] [--batch 2] [--channels 256] [--repeats 5]
    python bench/fields_of_view.py --trunk vgg16 --crop 321 --batch 10 --channels 0  (a GPU; 0: the paper's)

A pass is forward and backward, of the head alone on the trunk's map and of the whole network; with multi-scale branches
(MSc) also of the branches alone, on a base that is frozen. Inputs are random, single precision. As agreement, the heads
with fewer taps are held against the 7x7 kernel with zeros between.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from weakseg.config import Network
from weakseg.devices import choose_device
from weakseg.model import Segmenter, build_model
from weakseg.model.heads import GEOMETRY, Head
from weakseg.model.multi_scale import freeze_all_but_branches


def check_heads() -> float:
    """Largest difference of scores between a head and the 7x7 one with its taps; stops where they do not agree."""
    torch.manual_seed(0)
    worst = 0.0
    for fov, step in (("rate8", 2), ("large", 3)):
        sparse, full = (
            Head(5, fov=name, output_stride=8, num_labels=4, channels=7).eval()  # type: ignore[arg-type]
            for name in (fov, "seven")
        )
        kernel = torch.zeros(7, 5, 7, 7)
        kernel[:, :, ::step, ::step] = sparse.state_dict()["fc6.weight"]
        full.load_state_dict({**sparse.state_dict(), "fc6.weight": kernel})
        maps = torch.randn(2, 5, 15, 11)
        with torch.no_grad():
            worst = max(worst, float((full(maps) - sparse(maps)).abs().max()))
    if not worst < 1e-4:
        raise SystemExit(f"the heads differ from the 7x7 one with their taps by {worst:g}")
    return worst


def images_a_second(run: Callable[[], Tensor], images: int, repeats: int, device: torch.device) -> float:
    """The median over so many passes, forward and backward, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begin = _now(device)
        run().square().mean().backward()
        times.append(_now(device) - begin)
    return images / statistics.median(times[1:])


def rates(model: Segmenter, x: Tensor, repeats: int) -> tuple[float, float]:
    """Images a second of the head alone and of the whole network."""
    device, images = x.device, len(x)
    model.train()
    with torch.no_grad():
        maps = model.features(x)
    head = images_a_second(lambda: model.head(maps), images, repeats, device)
    return head, images_a_second(lambda: model(x), images, repeats, device)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trunk", default="tiny")
    parser.add_argument("--crop", type=int, default=65)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=256, help="of fc6 and fc7; 0: the paper's")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    device = choose_device()
    name = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or platform.machine()} CPU"
    )
    print(f"agreement: scores of the heads and of the 7x7 one with their taps differ by {check_heads():.1e} at most")
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, fp32; medians of {given.repeats}")
    print(f"{given.trunk}, {given.batch} crops of {given.crop} px, {given.channels or 'the paper’s'} channels of fc6")
    print(f"{'head':<12}{'head alone':>14}{'whole':>14}{'branches alone':>16}   images/s, forward and backward")
    network = Network(trunk=given.trunk, head_channels=given.channels or None, crop_px=given.crop)
    x = torch.randn(given.batch, 3, given.crop, given.crop, device=device)
    for multi_scale in (False, True):
        for fov in GEOMETRY:
            torch.manual_seed(0)
            model = build_model(network, fov=fov, multi_scale=multi_scale).to(device)
            line = f"{fov + (' MSc' if multi_scale else ''):<12}"
            line += "".join(f"{rate:>14.2f}" for rate in rates(model, x, given.repeats))
            if multi_scale:
                model.zero_grad()
                freeze_all_but_branches(model)
                alone = images_a_second(lambda model=model: model(x), given.batch, given.repeats, device)
                line += f"{alone:>16.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
