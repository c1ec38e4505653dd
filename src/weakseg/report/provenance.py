"""Where a study's results come from: code, configuration, versions, hardware and time; no paths of the machine."""

import functools
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from weakseg import __version__
from weakseg.config import config_hash, load_weights, named_weights
from weakseg.data.dataset import read_manifest
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_json
from weakseg.report.results import StudyResults

PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "pydensecrf2", "safetensors", "pydantic",
    "snakemake", "papermill", "nbconvert", "matplotlib",
)  # fmt: skip
"""Packages whose version may change a figure or a page."""


def gather_provenance(results: StudyResults) -> dict[str, Any]:
    """Everything known about how the results were made, as JSON-able values.

    `reported` says what wrote the report (commit, versions, machine); `runs` what each run noted of itself. Results
    that were kept (`restore.restore_results`) have it as it was noted when they were.

    Raises:
        WeaksegError: a run is not trained, or the data are not prepared.
    """
    if results.paths.provenance.is_file():
        return json.loads(results.paths.provenance.read_text(encoding="utf-8"))
    manifest = read_manifest(results.paths.manifest)
    runs: list[dict[str, Any]] = []
    for row, seed, files in results.runs():
        config = run_config(files.config, f"run {row.id}, seed {seed}")
        runs.append(
            {
                "experiment": row.id,
                "seed": seed,
                "config_hash": config.get("hash"),
                **{
                    name: config.get(name)
                    for name in ("strong", "weak", "device", "threads", "train_seconds", "versions", "start")
                },
            }
        )
    return {
        "study": results.study.name,
        "study_hash": config_hash(results.study),
        "experiments_hash": config_hash(*results.experiments),
        "data": {
            "name": manifest.get("name"),
            "source": manifest.get("source"),
            "counts": manifest["counts"],
            "list_sha256": manifest.get("list_sha256"),
        },
        "weights": _weights(results),
        "reported": {
            **_commit(Path(__file__).parent),
            "weakseg": __version__,
            "python": platform.python_version(),
            "system": platform.system(),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "hardware": _hardware(),
        },
        "runs": runs,
        "train_seconds_total": round(sum(float(run["train_seconds"] or 0) for run in runs), 1),
    }


def figure_facts(results: StudyResults, page: str, runs: Iterable[tuple[str, int]] | None = None) -> dict[str, Any]:
    """What made a figure of a page: `command`, `code` and `runs` (each with experiment, seed and configuration hash).

    Args:
        results: the study.
        page: the page that shows it, as snakemake knows it.
        runs: experiments with their seeds; None for all.

    Raises:
        WeaksegError: a run is not trained.
    """
    chosen = None if runs is None else set(runs)
    used = []
    for row, seed, files in results.runs():
        if chosen is None or (row.id, seed) in chosen:
            config = run_config(files.config, f"run {row.id}, seed {seed}")
            used.append({"experiment": row.id, "seed": seed, "hash": str(config.get("hash"))[:12]})
    return {"command": command_of(results, page), "code": code_text(_commit(Path(__file__).parent)), "runs": used}


def command_of(results: StudyResults, target: str) -> str:
    """The call of snakemake that makes a page or a file of a study; folders outside the project are not named."""
    settings = [f"study={results.study.name}"]
    for name, folder, default in (
        ("config_dir", results.config_dir, "config"), ("results", results.paths.results, "results"),
    ):  # fmt: skip
        # Kept results lie in another folder than the one that they were made in.
        if Path(folder) != Path(default) and not results.paths.provenance.is_file():
            settings.append(f"{name}=FOLDER" if Path(folder).is_absolute() else f"{name}={folder}")
    if "{data_root}" in str(results.study.dataset.path):
        settings.append("data_root=FOLDER")
    return f"snakemake {target} --config {' '.join(settings)}"


def code_text(commit: Mapping[str, Any]) -> str:
    """Version and commit of the code, by the facts that `gather_provenance` gives of it."""
    text = f"weakseg {__version__}, commit {commit['commit'] or 'not a checkout'}"
    return text + (" with uncommitted changes" if commit["uncommitted_changes"] else "")


def source_facts(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Code, configuration and data behind a report, as its pages print them, by what `gather_provenance` gives."""
    data = provenance["data"]
    hashes = f"study {provenance['study_hash'][:16]}, experiments {provenance['experiments_hash'][:16]} (SHA-256)"
    return {
        "Code": code_text(provenance["reported"]),
        "Configuration": hashes,
        "Data": f"{data['name']}, {data['source']}",
    }


def write_provenance(results: StudyResults, path: str | Path) -> None:
    """Write `gather_provenance` as JSON."""
    atomic_write_json(path, gather_provenance(results))


def run_config(path: Path, name: str) -> dict[str, Any]:
    """What a run noted of itself; `name` is the run's in an error.

    Raises:
        WeaksegError: not trained, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeaksegError(f"{path}: no such file; {name} is not trained") from None
    except ValueError as error:
        raise WeaksegError(f"{path}: not JSON ({error}); delete it and train {name} again") from error


def _weights(results: StudyResults) -> dict[str, str | None] | None:
    weights = results.study.network.weights
    if weights is None:
        return None
    if weights.name is None:
        return {"file": Path(weights.path).name, "sha256": weights.sha256}
    row = named_weights(weights.name, load_weights(results.config_dir))
    return {"name": weights.name, "checksum": weights.checksum, "licence": row.licence, "citation": row.citation}


@functools.cache
def _commit(folder: Path) -> dict[str, Any]:
    """The commit of the code, and whether tracked files differ from it; None where the code is no checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # A folder inside somebody else's checkout is not ours: the package must be tracked there.
    if not git("ls-files", "--error-unmatch", "__init__.py"):
        return {"commit": None, "uncommitted_changes": None}
    # Reference results are outputs, and are replaced while this is written.
    status = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", ":(top,exclude)results/reference")
    return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": None if status is None else bool(status)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    """Processor, cores open to this process and memory (GiB) of the machine that writes the report."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_name(), "cores": cores, "memory_gib": _memory_gib()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (OSError, ValueError, AttributeError):
        return None
