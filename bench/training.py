"""How fast a network trains: agreement with a plain loop first, then time by part, share of the matrix rate, memory.

    python bench/training.py [--trunk vgg16] [--batch 30] [--crop 321] [--precision bf16] [--photos device]
    python bench/training.py --trunk tiny --crop 65 --batch 8 --head-channels 32 --precision fp32 --photos host  (a CPU)

Photos are generated, of VOC's usual size; half of a mini-batch has pixel labels, half image-level ones. The plain loop
is single precision throughout (no TF32), channels first, reads a photo from its file for each crop, updates one
parameter after the other and looks at every loss; it runs in the same process on the same mini-batches. Prints medians;
ratios are of figures measured in this one run.
"""

import argparse
import itertools
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fabricate import make_experiment, make_study, prepare, write_voc

from weakseg.config import Experiment, Study
from weakseg.devices import choose_device, computing, set_precision
from weakseg.paths import StudyPaths
from weakseg.train import mstep
from weakseg.train.batches import Batch
from weakseg.train.loop import backward, forward, joined_loss, taught
from weakseg.train.record import Record
from weakseg.train.setup import Setup, prepare_run
from weakseg.train.solver import learning_rate

TOLERANCE = {"fp32": 2e-3, "tf32": 1e-2, "bf16": 5e-2}
"""How far the losses of both loops may lie apart, relative to the first."""

PARTS = ("data", "forward", "E-step", "loss and backward", "update")


def synchronised(device: torch.device) -> float:
    """The time in seconds when the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(precision: str, device: torch.device) -> float:
    """Operations a second of a large product of square matrices in a precision."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    set_precision(precision)  # type: ignore[arg-type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        begin = synchronised(device)
        left @ right
        times.append(synchronised(device) - begin)
    return 2 * side**3 / statistics.median(times[2:])


def weights_of(setup: Setup) -> list[float]:
    """The weight of each stream's loss."""
    return [teaching.weight for teaching in setup.teachings]


def plain_step(setup: Setup, velocities: list[torch.Tensor], iteration: int) -> float:
    """An iteration without any of the savings; returns its loss."""
    batch = setup.batches[iteration]
    inputs = setup.inputs.batch(batch.inputs, batch.visible, setup.device).contiguous()
    losses, _ = taught(setup, batch, setup.trained(inputs), iteration)
    loss = joined_loss(losses, weights_of(setup))
    setup.optimiser.zero_grad()
    loss.backward()
    rate, at = learning_rate(setup.solver, iteration), iter(velocities)
    with torch.no_grad():
        for parameters, multiplier, decay in setup.optimiser.groups:
            for parameter in parameters:
                velocity = next(at)
                velocity.mul_(setup.solver.momentum).add_(parameter.grad + decay * parameter, alpha=rate * multiplier)
                parameter.sub_(velocity)
    return float(loss.detach())


def step(setup: Setup, batch: Batch, iteration: int, record: Record) -> None:
    """An iteration as `weakseg train` does it."""
    losses, label_maps = taught(setup, batch, forward(setup, batch), iteration)
    loss = joined_loss(losses, weights_of(setup))
    setup.optimiser.zero_grad()
    backward(setup, loss)
    setup.optimiser.step(learning_rate(setup.solver, iteration))
    record.add(iteration, loss, losses, label_maps, lr=0.0, images=setup.solver.batch, waited=0.0)


@contextmanager
def timed_estep(device: torch.device) -> Iterator[list[float]]:
    """Seconds of each E-step within the block."""
    whole, seconds = mstep.estep, []

    def estep(*arguments: object) -> torch.Tensor:
        begin = synchronised(device)
        labels = whole(*arguments)  # type: ignore[arg-type]
        seconds.append(synchronised(device) - begin)
        return labels

    mstep.estep = estep  # type: ignore[assignment]
    try:
        yield seconds
    finally:
        mstep.estep = whole


def parts_of(setup: Setup, batches: Iterator[Batch], first: int) -> dict[str, float]:
    """Seconds of an iteration by part; the device is waited for after each."""
    device, times = setup.device, [synchronised(setup.device)]
    batch = next(batches)
    inputs = setup.inputs.batch(batch.inputs, batch.visible, device)
    times.append(synchronised(device))
    with computing(setup.compute.precision, device):
        scores = setup.called(inputs)
    times.append(synchronised(device))
    with timed_estep(device) as esteps:
        losses, _ = taught(setup, batch, scores, first)
        setup.optimiser.zero_grad()
        backward(setup, joined_loss(losses, weights_of(setup)))
    times.append(synchronised(device))
    setup.optimiser.step(learning_rate(setup.solver, first))
    times.append(synchronised(device))
    data, passed, taken, updated = (end - begin for begin, end in itertools.pairwise(times))
    return dict(zip(PARTS, (data, passed, sum(esteps), taken - sum(esteps), updated), strict=True))


def operations(setup: Setup) -> int:
    """Floating-point operations of a forward and a backward pass, counted."""
    counter = FlopCounterMode(display=False)
    batch = setup.batches[0]
    with counter:
        losses, _ = taught(setup, batch, forward(setup, batch), 0)
        backward(setup, joined_loss(losses, weights_of(setup)))
    setup.optimiser.zero_grad()
    return counter.get_total_flops()


def median_rate(images: int, iterations: int, run: Callable[[int], None], device: torch.device) -> float:
    """Images a second: the median of three blocks of iterations, after one iteration that is not counted."""
    run(1)
    rates = []
    for _ in range(3):
        begin = synchronised(device)
        run(iterations)
        rates.append(images * iterations / (synchronised(device) - begin))
    return statistics.median(rates)


def rate_of_plain_loop(setup: Setup, iterations: int) -> float:
    """Images a second of the plain loop."""
    setup.trained.to(memory_format=torch.contiguous_format)
    velocities = [torch.zeros_like(p) for group in setup.optimiser.groups for p in group[0]]
    counted = itertools.count()

    def plainly(count: int) -> None:
        for _ in range(count):
            plain_step(setup, velocities, next(counted))

    return median_rate(setup.solver.batch, iterations, plainly, setup.device)


def agreement(study: Study, plain: Study, experiment: Experiment, paths: StudyPaths, tolerance: float) -> None:
    """Hold the losses of both loops against each other, without dropout, whose draws differ by precision."""
    setup = prepared(study, experiment, paths, dropout=0.0)
    record = Record(setup.teachings, setup.processes, setup.device, 0.0)
    for iteration in range(5):
        step(setup, setup.batches[iteration], iteration, record)
    ours = [row["loss"] for row in record.read()]
    setup = prepared(plain, experiment, paths, dropout=0.0)
    velocities = [torch.zeros_like(p) for group in setup.optimiser.groups for p in group[0]]
    theirs = [plain_step(setup, velocities, iteration) for iteration in range(5)]
    apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / theirs[0]
    shown = ", ".join(f"{one:.4f}/{other:.4f}" for one, other in zip(ours, theirs, strict=True))
    print(f"agreement: losses of five iterations, this loop's/the plain one's: {shown}")
    if not apart <= tolerance:
        raise SystemExit(f"the losses differ by {apart:.2g} of the first, {tolerance} is allowed")


def prepared(study: Study, experiment: Experiment, paths: StudyPaths, dropout: float | None = None) -> Setup:
    """A run that is ready for its first iteration."""
    if dropout is not None:
        study = study.model_copy(update={"network": study.network.model_copy(update={"dropout": dropout})})
    setup = prepare_run(study, experiment, 0, paths, hold_photos=True, threads=torch.get_num_threads())
    setup.trained.train()
    return setup


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunk", default="vgg16")
    parser.add_argument("--fov", default="large", choices=["large", "small"])
    parser.add_argument("--head-channels", type=int)
    parser.add_argument("--crop", type=int, default=321)
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--photos", default="device", choices=["files", "host", "device"])
    parser.add_argument("--method", default="em_adapt", choices=["em_adapt", "em_fixed"])
    parser.add_argument("--workers", type=int, default=0, help="processes that make mini-batches")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo-count", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=20, help="of each of three blocks")
    parser.add_argument("--plain-iterations", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    device = choose_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{name}, torch {torch.__version__}, {args.threads} threads, {args.workers} loader processes")
    print(f"{args.trunk} {args.fov} FOV, {args.batch} crops of {args.crop}, {args.precision}, photos: {args.photos}")

    with tempfile.TemporaryDirectory() as folder:
        count = args.photo_count
        root = write_voc(Path(folder) / "VOC2012", train=count, train_aug=2 * count, val=1, size=(375, 500))
        # A step of this size must neither diverge nor stand still: the rate is the paper's, its drops are left out.
        sections = {
            "network": {"trunk": args.trunk, "crop_px": args.crop, "head_channels": args.head_channels},
            "solver": {"iterations": 10**6, "batch": args.batch, "lr": 1e-4, "step_iterations": 10**6},
        }
        study = make_study(root, **sections, compute={"precision": args.precision, "photos": args.photos})
        plain = make_study(root, **sections)
        experiment = make_experiment("bench", strong=1464, weak=9118, method=args.method, fov=args.fov)
        paths = prepare(study, Path(folder) / "results", [experiment])
        agreement(study, plain, experiment, paths, TOLERANCE[args.precision])

        plain_rate = rate_of_plain_loop(prepared(plain, experiment, paths), args.plain_iterations)

        rate_of_products = matrix_rate(args.precision, device)
        setup = prepared(study, experiment, paths)
        total = operations(setup)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        record = Record(setup.teachings, setup.processes, device, 0.0)
        batches = setup.batches.iterate(0, 10**6, args.workers)

        def as_trained(iterations: int) -> None:
            for iteration in range(iterations):
                step(setup, next(batches), iteration, record)
                if record.due:
                    record.read()

        rate = median_rate(args.batch, args.iterations, as_trained, device)
        parts = [parts_of(setup, batches, iteration) for iteration in range(max(5, args.iterations // 2))]
        if device.type == "cuda":
            memory = torch.cuda.max_memory_allocated()
        else:
            memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        share = total * rate / args.batch / rate_of_products
        print(f"this loop   {rate:9.1f} images/s   {1000 * args.batch / rate:9.1f} ms an iteration")
        print(f"plain loop  {plain_rate:9.1f} images/s   {rate / plain_rate:9.2f} times slower")
        print(f"{total / 1e12:.3f} TFLOP an iteration; products of matrices: {rate_of_products / 1e12:.2f} TFLOP/s")
        print(f"share of the matrix rate: {100 * share:.1f} %")
        print("by part, the device waited for after each:")
        for part in PARTS:
            print(f"  {part:18s} {1000 * statistics.median(one[part] for one in parts):9.2f} ms")
        print(f"peak memory: {memory / 1e9:.2f} GB" + (" of the GPU" if device.type == "cuda" else " of the process"))


if __name__ == "__main__":
    main()
