"""What a study will cost: memory, time and disk, from the size of its network and rates that were measured elsewhere.

Requests of jobs (`memory_mb`, `minutes`) are meant to hold, so they are generous. Estimates (`hours`) are meant to be
near, and are called estimates wherever they are shown.
"""

import math
from typing import NamedTuple

from weakseg.config import CrfSearch, Experiment, Network, Study
from weakseg.config.network import BOUNDED_TRUNKS


class Trunk(NamedTuple):
    """What a trunk takes for an image of 321 x 321 pixels."""

    gmac: float
    """Multiply-adds of the forward pass, 10^9."""
    saved_mb: float
    """What is kept of it for the backward pass, 10^6 bytes of float32."""
    parameters: float
    """10^6."""
    channels: int
    """Of its last map."""


TRUNKS = {
    ("vgg16", 8): Trunk(41.2, 177, 14.7, 512),
    ("mobilenet_v2", 8): Trunk(3.83, 409, 2.2, 1280),
    ("mobilenet_v2", 16): Trunk(1.19, 197, 2.2, 1280),
    ("squeezenet1_1", 8): Trunk(1.37, 64, 0.7, 512),
    ("squeezenet1_1", 16): Trunk(0.62, 44, 0.7, 512),
    ("tiny", 8): Trunk(0.97, 18, 0.4, 192),
    ("tiny", 16): Trunk(0.73, 15, 0.4, 192),
    ("efficientnet_lite0", 8): Trunk(5.75, 487, 3.4, 1280),
    ("efficientnet_lite0", 16): Trunk(1.70, 214, 3.4, 1280),
    ("efficientnet_lite1", 8): Trunk(7.05, 619, 4.1, 1280),
    ("efficientnet_lite1", 16): Trunk(2.11, 274, 4.1, 1280),
    ("efficientnet_lite2", 8): Trunk(8.18, 662, 4.8, 1280),
    ("efficientnet_lite2", 16): Trunk(2.44, 289, 4.8, 1280),
}
"""By name and output stride; a test holds them against the networks themselves."""

FC6 = {"small": (4, 4096), "rate8": (4, 4096), "seven": (7, 4096), "large": (3, 1024)}
"""Kernel and channels of fc6 by field of view (`weakseg.model.heads`)."""

_TAPS_OF_LITE = ((1, 3), (2, 16), (4, 24), (8, 40), (16, 112))
TAPS = {
    "vgg16": ((1, 3), (2, 64), (4, 128), (8, 256), (16, 512)),
    "mobilenet_v2": ((1, 3), (2, 16), (4, 24), (8, 32), (16, 96)),
    "squeezenet1_1": ((1, 3), (2, 64), (4, 128), (8, 256)),
    "tiny": ((1, 3), (2, 32), (4, 64), (8, 96)),
    "efficientnet_lite0": _TAPS_OF_LITE,
    "efficientnet_lite1": _TAPS_OF_LITE,
    "efficientnet_lite2": ((1, 3), (2, 16), (4, 24), (8, 48), (16, 120)),
}
"""Stride (the output stride at most) and channels of what multi-scale branches see, by trunk (`weakseg.model.taps`)."""

BRANCH = 128
"""Channels of a branch's convolutions (`weakseg.model.multi_scale`)."""

PHOTO = (500, 375)
"""Pixels of a photo of VOC."""


class Rate(NamedTuple):
    """How fast something computes, and where that is from."""

    tflops: float
    """10^12 operations a second that a network gets, a multiply-add as two."""
    source: str


GPU = Rate(40, "an A100 with VGG-16 in single precision, read in public (pytorch-benchmark-volta)")
SLOW_GPU = Rate(8, "assumed for requests of jobs")
CPU_TRAINING = Rate(0.027, "a core of two of a virtual Xeon that trained VGG-16")
CPU_SCORING = Rate(0.09, "a core of a virtual Xeon that scored with VGG-16")
CPU_REQUEST = 0.5
"""Share of these that is reckoned with in requests of jobs."""
LOADER_IMAGES_S = 175
"""Training images that a core makes ready in a second (measured with photos of VOC)."""
PHOTO_MB = 0.57
"""A decoded photo of VOC at its own size, three bytes a pixel, 10^6 bytes."""
CRF_S = 0.1
"""Seconds of a core for the CRF on a photo, 21 labels and ten iterations (docs/crf.md)."""


class Images(NamedTuple):
    """How many images a study has by what they are for."""

    training: int
    evaluation: int
    held_out: int


class Head(NamedTuple):
    """What a head takes for a score cell."""

    mac: float
    saved_bytes: float
    parameters: float


def head_of(network: Network, fov: str, labels: int = 21) -> Head:
    """The head of a network: multiply-adds, bytes kept for the backward pass, and parameters."""
    kernel, width = FC6[fov]
    width = network.head_channels or width
    channels = network.principal_axes or trunk_of(network).channels
    fc6 = channels * width + kernel**2 * width if network.separable_fc6 else kernel**2 * channels * width
    mac = fc6 + width**2 + width * labels + (channels * labels if network.skip_classifier else 0)
    return Head(mac, 4 * (channels + 6 * width), mac)  # its input, and of fc6 and fc7 map, mask and product


def branches_of(network: Network, labels: int = 21) -> Head:
    """All multi-scale branches of a network: multiply-adds and bytes a score cell, and parameters."""
    mac, kept = 0, 0.0
    for stride, channels in TAPS[network.trunk]:
        mac += 9 * channels * BRANCH + BRANCH**2 + BRANCH * labels
        kept += 4 * (channels * max(1, network.output_stride // stride) ** 2 + 6 * BRANCH)  # as of a head
    return Head(mac, kept, mac)


def trunk_of(network: Network) -> Trunk:
    """The figures of a network's trunk; at a stride that is not built, those of stride 8."""
    return TRUNKS.get((network.trunk, network.output_stride)) or TRUNKS[network.trunk, 8]


def _crops(network: Network) -> float:
    """A training crop's area in that of 321 x 321 pixels."""
    return (network.crop_px / 321) ** 2


def _photos(network: Network) -> float:
    """The same of a whole photo."""
    return math.prod(side * network.image_scale for side in PHOTO) / 321**2


def _cells(network: Network) -> float:
    """Score cells of 321 x 321 pixels."""
    return (320 / network.output_stride + 1) ** 2


def forward_gmac(
    network: Network, fov: str, *, trunk: bool = True, multi_scale: bool = False, labels: int = 21
) -> float:
    """10^9 multiply-adds of the forward pass for 321 x 321 pixels, with the trunk or of head and branches alone."""
    mac = head_of(network, fov, labels).mac + (branches_of(network, labels).mac if multi_scale else 0)
    return _cells(network) * mac / 1e9 + (trunk_of(network).gmac if trunk else 0)


def forward_tflop(network: Network, fov: str, *, trunk: bool = True, multi_scale: bool = False) -> float:
    """10^12 operations of the same."""
    return 2 * forward_gmac(network, fov, trunk=trunk, multi_scale=multi_scale) / 1e3


def training_tflop(study: Study, experiment: Experiment) -> float:
    """10^12 operations of a training: three times the forward pass for every image; of a frozen base, once."""
    network, solver = study.network, study.solver_of(experiment)
    if experiment.multi_scale:
        passes = 3 * forward_tflop(network, experiment.fov, multi_scale=True)
        if experiment.init_from is not None:  # the branches alone learn
            passes -= 2 * forward_tflop(network, experiment.fov)
    else:
        passes = 3 * forward_tflop(network, experiment.fov, trunk=not network.freeze_trunk)
    return passes * _crops(network) * solver.iterations * solver.batch


def scoring_tflop(study: Study, experiment: Experiment, images: int) -> float:
    """10^12 operations of scoring so many photos."""
    network, branches = study.network, experiment.multi_scale
    trunk = branches or not network.freeze_trunk  # a cache does not hold what branches see
    return forward_tflop(network, experiment.fov, trunk=trunk, multi_scale=branches) * _photos(network) * images


def parameters(study: Study, experiment: Experiment) -> float:
    """10^6 parameters of the network of a run."""
    others = head_of(study.network, experiment.fov).parameters
    if experiment.multi_scale:
        others += branches_of(study.network).parameters
    return trunk_of(study.network).parameters + others / 1e6


def device_memory_mb(study: Study, experiment: Experiment) -> int:
    """Memory that a training takes on its device, 10^6 bytes: parameters, gradients, velocity, and a mini-batch."""
    network, batch = study.network, study.solver_of(experiment).batch
    head = _cells(network) * head_of(network, experiment.fov).saved_bytes / 1e6
    saved = head + (0 if network.freeze_trunk else trunk_of(network).saved_mb)
    if experiment.multi_scale:
        saved += _cells(network) * branches_of(network).saved_bytes / 1e6
    return round(16 * parameters(study, experiment) + 1.25 * saved * _crops(network) * batch)


def feature_cache_mb(study: Study, images: int) -> int:
    """The cached maps of a frozen trunk, 10^6 bytes: a byte a value (two where the trunk has no bound)."""
    network = study.network
    if not network.freeze_trunk:
        return 0
    size = 1 if network.trunk in BOUNDED_TRUNKS and network.principal_axes is None else 2
    cells = _photos(network) * _cells(network)
    if study.dataset.scenes is not None:
        scenes = study.dataset.scenes
        cells = scenes.height_px * scenes.width_px * (network.image_scale / network.output_stride) ** 2
    return round(size * (network.principal_axes or trunk_of(network).channels) * cells * images / 1e6)


def _held_photos_mb(study: Study, images: int) -> int:
    """The decoded photos that a training keeps; those that end on a GPU are decoded here too."""
    held = study.compute.photos != "files" and not study.network.freeze_trunk
    return round(PHOTO_MB * study.network.image_scale**2 * images) if held else 0


def memory_mb(study: Study, experiment: Experiment, images: Images, *, job: str) -> int:
    """Memory that a job of a run asks for, 10^6 bytes.

    A training on a CPU has all of it there. On a GPU it needs less, but CUDA takes some gigabytes itself.

    Args:
        study, experiment: the run.
        images: how many the study has.
        job: `train`, `score` or `estep_maps`.
    """
    base = 6000 if study.needs_gpu else 2000
    if job == "train":
        needed = 2000 + device_memory_mb(study, experiment) + feature_cache_mb(study, images.training)
        needed += _held_photos_mb(study, images.training)
    else:
        # One photo at a time, in the largest layer two maps of it; the cached maps are mapped, not read.
        needed = 2000 + round(8 * parameters(study, experiment)) + 1000
        if job == "estep_maps":
            needed += feature_cache_mb(study, images.training)
    return _rounded(max(base, needed), 500)


def minutes(
    study: Study, experiment: Experiment, images: Images, *, job: str, threads: int, allow_cpu: bool = False
) -> int:
    """Time that a job of a run asks for, minutes: at twice its reckoned time and half an hour more.

    Args:
        study, experiment, images: see `memory_mb`.
        job: `train`, `score` or `estep_maps`.
        threads: cores of the job.
        allow_cpu: a study that needs a GPU may have to do without one.
    """
    on_gpu = study.needs_gpu and not allow_cpu
    tflop, loaded = _work(study, experiment, images, job)
    if on_gpu:
        seconds = tflop / SLOW_GPU.tflops + loaded / LOADER_IMAGES_S
    else:
        rate = CPU_TRAINING if job == "train" else CPU_SCORING
        seconds = tflop / (rate.tflops * CPU_REQUEST * threads) + loaded / (LOADER_IMAGES_S * threads)
    return _rounded(30 + 2 * seconds / 60, 10)


def _work(study: Study, experiment: Experiment, images: Images, job: str) -> tuple[float, int]:
    """10^12 operations of a job, and images that are made ready for it."""
    solver = study.solver_of(experiment)
    if job == "train":
        return training_tflop(study, experiment), solver.iterations * solver.batch
    if job == "score":
        return scoring_tflop(study, experiment, images.evaluation), images.evaluation
    shown = (study.boxes.quality_images if study.boxes else None) or images.training
    shown = 3 * min(shown, images.training)  # at three moments
    return scoring_tflop(study, experiment, shown), shown


def features_minutes(study: Study, images: int, *, threads: int) -> int:
    """Time that the caching of a frozen trunk's maps asks for, minutes, on a CPU."""
    tflop = 2 * trunk_of(study.network).gmac / 1e3 * _photos(study.network) * images
    return _rounded(30 + 2 * tflop / (CPU_SCORING.tflops * CPU_REQUEST * threads) / 60, 10)


def crf_sets(search: CrfSearch) -> int:
    """Parameter sets that a search tries; a finer grid that moves on tries more."""
    grid = search.coarse
    varied = (grid.w, grid.sigma_xy, grid.sigma_rgb)
    finer = math.prod(3 if len(values) > 1 else 1 for values in varied)
    return math.prod(map(len, varied)) + search.rounds * finer


def run_disk_mb(study: Study, experiment: Experiment, images: Images) -> int:
    """Disk that a finished run takes, 10^6 bytes: network, snapshots, scores in half precision, label maps."""
    network = study.network
    copies = 1 + (3 if any(stream.how.estep for stream in experiment.streams) else 0)
    labels = len(study.dataset.label_set())
    scores = 2 * labels * _photos(network) * _cells(network) * images.evaluation / 1e6
    return round(4 * parameters(study, experiment) * copies + scores + 0.02 * images.evaluation)


class Hours(NamedTuple):
    """Estimated time of a study."""

    training: float
    """Hours of one GPU (or of all cores where there is none) for all trainings, one after the other."""
    scoring: float
    """The same for scoring."""
    cores: float
    """Core-hours of the rest: CRF search, evaluation, labels from boxes."""


def hours(study: Study, runs: list[Experiment], images: Images, *, gpu: bool, cores: int) -> Hours:
    """An estimate for all runs of a study.

    Args:
        study: whose network and searches.
        runs: the experiment of each run.
        images: how many there are.
        gpu: whether there is one.
        cores: cores of the machine, of which the loader of a GPU's training has one.
    """
    training = scoring = rest = 0.0
    for run in runs:
        tflop, loaded = _work(study, run, images, "train")
        if gpu:
            training += max(tflop / GPU.tflops, loaded / LOADER_IMAGES_S)
        else:
            training += tflop / (CPU_TRAINING.tflops * cores) + loaded / (LOADER_IMAGES_S * cores)
        rate = GPU.tflops if gpu else CPU_SCORING.tflops * cores
        scoring += scoring_tflop(study, run, images.evaluation) / rate
        searched = min(study.crf.images or images.held_out, images.held_out)
        rest += CRF_S * (searched * crf_sets(study.crf) + 2 * images.evaluation)
    if study.boxes and any("bbox_seg" in run.label_maps for run in runs):
        rest += CRF_S * (images.training + images.held_out * crf_sets(study.boxes.search) * len(study.boxes.alphas))
    return Hours(training / 3600, scoring / 3600, rest / 3600)


def _rounded(value: float, step: int) -> int:
    return math.ceil(value / step) * step
