"""Every rule lists what its command reads: a job of each runs in a folder that holds its declared inputs alone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import warm
from planning import snakemake

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def results() -> Path:
    """The results folder of the tiny study."""
    folder = os.environ.get("WEAKSEG_TINY_RESULTS")
    if not folder:
        pytest.skip("`make test` runs the tiny study and sets WEAKSEG_TINY_RESULTS to its results")
    return Path(folder)


BESIDE = {
    "train": ("coco_em_fixed_semi", "coco_cross_pretrain", "strong_12031_test", "strong_12031_msc_test"),
    "score": ("strong_12031_test", "strong_12031_msc_test"),
    "evaluate": ("strong_12031_test",),
}
"""Runs whose jobs read what those of others do not: another data set, a start, test photos, photos in place of maps."""


def name_of(rule: str, output: str) -> str:
    """What a job is an example of: its rule, for the study's own data set or another one, or for a run of `BESIDE`."""
    if "/datasets/" in output:
        return f"{rule}-of-another-data-set"
    run = re.search(r"/runs/(\w+)/", output)
    return f"{rule}-{run[1]}" if run and run[1] in BESIDE.get(rule, ()) else rule


def jobs(project_root: Path, results: Path) -> dict[str, dict[str, list[str]]]:
    """A finished job of each kind (`name_of`): its inputs, outputs and command, as Snakemake recorded them."""
    config = ["study=tiny", "config_dir=tests/tiny/config", f"results={results}"]
    done = snakemake(["--detailed-summary", "--config", *config], project_root, dict(os.environ))
    assert done.returncode == 0, done.stdout
    found: dict[str, dict[str, list[str]]] = {}
    for line in done.stdout.splitlines():
        columns = line.split("\t")
        if len(columns) == 8 and columns[0].startswith(f"{results}/"):
            output, _, rule, logs, inputs, command, _, _ = columns
            known = {"input": inputs.split(","), "output": [], "log": logs.split(","), "command": [command]}
            job = found.setdefault(name_of(rule, output), known)
            if job["command"] == [command]:
                job["output"].append(output)
    return found


def test_what_reads_images_runs_again_when_their_files_change(results: Path, project_root: Path) -> None:
    """The manifest is small and may stay the same then; Snakemake does not look at the date of such a file."""
    readers = {"annotate", "bbox_rect", "tune_boxes", "bbox_seg", "features", "train", "score", "tune_crf", "evaluate"}
    found = jobs(project_root, results)
    assert all(f"{results}/tiny/data/contents.json" in found[rule]["input"] for rule in readers)
    other = f"{results}/tiny/datasets/coco/data/contents.json"
    readers = {"annotate-of-another-data-set", "features-of-another-data-set", "train-coco_em_fixed_semi"}
    assert all(other in found[rule]["input"] for rule in readers) and other not in found["train"]["input"]


def test_each_rule_runs_on_its_declared_inputs_alone(results: Path, project_root: Path, tmp_path: Path) -> None:
    planned = jobs(project_root, results)
    assert {"scenes", "data", "annotate", "train", "estep_maps", "evaluate", "notebook", "index"} <= set(planned)
    assert {f"{rule}-of-another-data-set" for rule in ("scenes", "data", "annotate", "features")} <= set(planned)
    assert {f"{rule}-{run}" for rule, runs in BESIDE.items() for run in runs} <= set(planned)
    path = os.pathsep.join([str(warm.commands()), str(project_root / ".venv" / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(project_root / "src"), "PATH": path}
    failed = {}
    for name, job in planned.items():
        folder = tmp_path / name
        for word in (*job["output"], *job["log"]):  # Snakemake makes these folders
            (folder / word).parent.mkdir(parents=True, exist_ok=True)
        for word in filter(None, job["input"]):
            source, target = project_root / word, folder / word
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)
        # The command without the mark of an attempt, which is the workflow's own.
        command = re.sub(r"^attempt \S+ ('[^']*'|\S+) ", "", job["command"][0])
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        missing = [word for word in job["output"] if not (folder / word).exists()]
        if done.returncode or missing:
            failed[name] = (missing, (done.stdout + done.stderr)[-600:])
    assert not failed, failed
