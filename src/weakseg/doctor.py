"""Whether a study can run on this machine: what is there, what is missing, what it takes, and how long."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from weakseg import costs
from weakseg.config import Experiment, Study, load_sheet
from weakseg.config.dataset import Fetched
from weakseg.costs import Images
from weakseg.data.download import archives_of, download_places, find_archive, layout_of
from weakseg.data.transfer import answers, cache_folder
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file
from weakseg.gpus import installed_gpus, why_no_gpu
from weakseg.memory import free_memory
from weakseg.needs import WEIGHTS, Need, data_sets, image_counts, outside_needs
from weakseg.paths import StudyPaths

LAYOUT_MB: dict[Fetched, int] = {"voc": 1800, "coco": 21000}
"""What is made of archives takes beside them, 10^6 bytes: the joined VOC layout (12,031 photos and their masks), and
MS-COCO unpacked (estimate by its archives)."""

LABEL_MAPS_MB = 0.02
"""What a label map made from boxes takes, as a PNG."""

Ask = Callable[[str], str | None]
"""Whether an address answers: what is wrong with it, or None."""


State = Literal["there", "fetched", "missing", "note"]
"""Whether a thing is there, will be fetched, or must be brought; a note says what is neither."""


class Finding(NamedTuple):
    """One line of the doctor's page."""

    state: State
    what: str
    text: str


def examine(
    study: Study,
    experiments: Sequence[Experiment],
    paths: StudyPaths,
    data_root: str | Path | None = None,
    config_dir: str | Path = "config",
    *,
    allow_cpu: bool = False,
    online: bool = False,
) -> None:
    """Print what a study needs, whether it is there, and what it will take.

    Args:
        study, experiments: what is to run.
        paths: the study's result files.
        data_root: replaces `{data_root}` in configured paths.
        config_dir: folder of the sheets.
        allow_cpu: a study that needs a GPU may do without.
        online: ask each address whether it answers.

    Raises:
        WeaksegError: something is missing, so that the study cannot run.
    """
    images = image_counts(study, load_sheet(config_dir).lists, data_root)
    runs = _unfinished(study, experiments, paths)
    ask = answers if online else None
    parts = {
        "device": _device(study, runs, allow_cpu),
        "data and weights": [
            *_photos(study, paths, data_root, config_dir, ask),
            *_weights(study, paths, data_root),
        ],
        "room": _room(study, runs, images, paths, config_dir),
        "time": _time(study, runs, images),
    }
    print(f"study {study.name}: {study.description}")
    for name, findings in parts.items():
        print(f"\n{name}")
        for state, what, text in findings:
            lines = text.split("\n")
            print(f"  {'' if state == 'note' else state:8} {what}: {lines[0]}")
            for line in lines[1:]:
                print(f"  {'':8}   {line}")
    everything = [finding for findings in parts.values() for finding in findings]
    missing = [finding.what for finding in everything if finding.state == "missing"]
    if missing:
        raise WeaksegError(f"study {study.name} cannot run here, missing: {', '.join(missing)}")
    print(f"\nstudy {study.name} can run here")


def _unfinished(study: Study, experiments: Sequence[Experiment], paths: StudyPaths) -> list[Experiment]:
    """The experiment of each run that has no result yet."""
    return [
        row for row in experiments for seed in study.seeds_of(row.id) if not paths.run(row.id, seed).metrics.is_file()
    ]


def _device(study: Study, runs: Sequence[Experiment], allow_cpu: bool) -> list[Finding]:
    import torch

    reason = why_no_gpu()
    wanted = max((costs.device_memory_mb(study, row) for row in runs), default=0)
    found = []
    if reason is None:
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            free, total = (size / 1e9 for size in torch.cuda.mem_get_info(number))
            text = f"{properties.name}, {total:.0f} GB of which {free:.0f} are free"
            if free < wanted / 1e3:
                text += f"; a training takes about {wanted / 1e3:.0f} GB (estimate): free it, or lower solver.batch"
            found.append(Finding("there", f"GPU {number}", text))
    elif study.needs_gpu and not allow_cpu:
        advice = "install a driver and a torch that fit the GPU, or say --allow-cpu and wait for weeks"
        found.append(Finding("missing", "GPU", f"{reason}; {advice}"))
    else:
        found.append(Finding("note", "GPU", f"none ({reason}); everything runs on the CPU"))
    listed = ", ".join(gpu.name for gpu in installed_gpus()) or "none"
    found.append(Finding("note", "nvidia-smi", listed))
    found.append(Finding("note", "torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"))
    found.append(Finding("note", "cores", f"{os.cpu_count()}"))
    return found


def _photos(
    study: Study, paths: StudyPaths, data_root: str | Path | None, config_dir: str | Path, ask: Ask | None
) -> list[Finding]:
    found, sets = [], data_sets(study)
    for what, dataset in sets.items():
        if dataset.source == "scenes":
            found.append(Finding("note", what, "none, the study draws its images"))
        elif dataset.fetched:
            found += _archives(dataset.fetched, what, paths, Path(config_dir) / "datasets.yaml", ask)
    needs = outside_needs(study, paths, data_root)
    fetched = {what for what, dataset in sets.items() if dataset.fetched}
    return [*found, *(_of_need(need) for need in needs if need.what not in {WEIGHTS, *fetched})]


def _archives(kind: Fetched, what: str, paths: StudyPaths, datasets: Path, ask: Ask | None) -> list[Finding]:
    archives, cache = archives_of(kind, datasets), cache_folder()
    root, complete = layout_of(archives, cache, kind)
    if complete.is_file():
        return [Finding("there", what, str(root))]
    places = download_places(paths.images, cache)
    found = []
    for name, archive in archives.items():
        path = find_archive(archive, places)
        if path is not None:
            found.append(Finding("there", name, f"{path}, not unpacked yet"))
            continue
        size = f"{archive.size_mb / 1e3:.1f} GB" if archive.size_mb else "size not known"
        elsewhere = f"fetch {archive.file} elsewhere and put it into {places[-1]}"
        found.append(_fetched(name, f"{archive.file}, {size}", archive.addresses, elsewhere, ask))
    return found


def _fetched(what: str, text: str, addresses: Sequence[str], elsewhere: str, ask: Ask | None) -> Finding:
    """A file that is fetched when it is needed; missing if its addresses were asked and none answers."""
    if ask is None:
        number = f"{len(addresses)} address" + ("es" if len(addresses) > 1 else "")
        return Finding("fetched", what, f"{text}, from {number} (--online asks them)\nwithout a network: {elsewhere}")
    wrong = {address: ask(address) for address in addresses}
    lines = "".join(f"\n{address}: {fault or 'answers'}" for address, fault in wrong.items())
    if None in wrong.values():
        return Finding("fetched", what, text + lines)
    return Finding("missing", what, f"{text}, no address answers{lines}\n{elsewhere}")


def _weights(study: Study, paths: StudyPaths, data_root: str | Path | None) -> list[Finding]:
    weights = study.network.weights
    need = next((need for need in outside_needs(study, paths, data_root) if need.what == WEIGHTS), None)
    if weights is None or need is None:
        made = "random" if weights is None else "made by the study (pre-training)"
        return [Finding("note", WEIGHTS, made)]
    cached = Path(need.place.replace("{cache}", str(cache_folder())))
    if need.state == "fetched":
        state: State = "there" if cached.is_file() else "fetched"
        if weights.name is None:
            return [Finding(state, WEIGHTS, str(cached))]
        offline = f"\nwithout a network: `weakseg weights {weights.name} --from FILE`" if state == "fetched" else ""
        return [Finding(state, WEIGHTS, f"{weights.name}, converted to {cached}{offline}")]
    if need.state == "there" and weights.sha256 is not None and sha256_file(need.place) != weights.sha256:
        text = f"{need.place}: its SHA-256 is not the study's, {weights.sha256}; fetch the file again"
        return [Finding("missing", WEIGHTS, text)]
    return [_of_need(need)]


def _of_need(need: Need) -> Finding:
    return Finding(need.state, need.what, need.advice or need.place)


def _room(
    study: Study, runs: Sequence[Experiment], images: Images, paths: StudyPaths, config_dir: str | Path
) -> list[Finding]:
    results = sum(costs.run_disk_mb(study, row, images) for row in runs)
    results += costs.feature_cache_mb(study, images.training + images.evaluation)
    folders = {name for row in runs for name in row.label_maps}
    results += round(LABEL_MAPS_MB * images.training * len(folders))
    found = [_disk("results", paths.root, results)]
    kinds = {dataset.fetched: None for dataset in data_sets(study).values() if dataset.fetched}
    if kinds:
        coming = sum(_coming_mb(kind, paths, Path(config_dir) / "datasets.yaml") for kind in kinds)
        found.append(_disk("cache", cache_folder(), coming))
    memory = max((costs.memory_mb(study, row, images, job="train") for row in runs), default=0) / 1e3
    free = free_memory() / 1e9
    text = f"{free:.0f} GB are free; a training asks for {memory:.1f} (estimate, with a margin)"
    found.append(Finding("note" if free < memory else "there", "memory", text))
    return found


def _coming_mb(kind: Fetched, paths: StudyPaths, datasets: Path) -> int:
    """What is still to be fetched and unpacked, 10^6 bytes."""
    archives, cache = archives_of(kind, datasets), cache_folder()
    if layout_of(archives, cache, kind)[1].is_file():
        return 0
    places = download_places(paths.images, cache)
    coming = [archive.size_mb or 0 for archive in archives.values() if find_archive(archive, places) is None]
    return LAYOUT_MB[kind] + sum(coming)


def _disk(what: str, folder: Path, needed_mb: int) -> Finding:
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free / 1e9
    text = f"{folder}: about {needed_mb / 1e3:.1f} GB to come (estimate), {free:.1f} GB free"
    if free < needed_mb / 1e3:
        option = "set WEAKSEG_CACHE to" if what == "cache" else "say --config results="
        return Finding("missing", f"room for {what}", f"{text}; make room, or {option} a folder on another disk")
    return Finding("there", f"room for {what}", text)


def _time(study: Study, runs: Sequence[Experiment], images: Images) -> list[Finding]:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = os.cpu_count() or 1
    taken = costs.hours(study, list(runs), images, gpu=gpus > 0, cores=cores)
    rate = costs.GPU if gpus else costs.CPU_TRAINING
    per_second = f"{rate.tflops:g} TFLOP/s" + ("" if gpus else " a core")
    device = f"{gpus} GPU{'s' if gpus > 1 else ''}" if gpus else f"{cores} core{'s' if cores > 1 else ''}"
    return [
        Finding(
            "note",
            "runs to do",
            f"{len(runs)}, of {images.training:,} training and {images.evaluation:,} scored images",
        ),
        Finding("note", "training", f"about {_span(taken.training / max(gpus, 1))} on {device} (estimate)"),
        Finding("note", "scoring", f"about {_span(taken.scoring / max(gpus, 1))} (estimate)"),
        Finding("note", "CRF and evaluation", f"about {_span(taken.cores / cores)} on {cores} cores (estimate)"),
        Finding("note", "from", f"{per_second}, the rate of {rate.source}; not measured on this machine"),
    ]


def _span(hours: float) -> str:
    if hours < 1.5:
        minutes = round(60 * hours)
        return f"{minutes} minutes" if minutes > 1 else "a minute"
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
