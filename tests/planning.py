"""Calls of snakemake, in folders of their own, that do not wait for its imports: each is forked from a process that
has made them."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import warm
from warm import Done

from weakseg.job_client import status
from weakseg.job_server import JOB_SERVER


def begin(words: Sequence[str], folder: Path, environment: Mapping[str, str], output: int) -> socket.socket:
    """Call snakemake in a folder with this environment and no other; it is killed when what is returned is closed."""
    return warm.begin(_call, list(words), output=output, folder=folder, environment=environment)


def snakemake(words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float = 200) -> Done:
    """Call snakemake in a folder with this environment and no other.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    return warm.captured(_call, list(words), folder=folder, environment=environment, timeout=timeout)


def _call(words: list[str]) -> None:
    sys.argv = ["snakemake", *words]
    from snakemake.cli import main

    main()


def forked_commands() -> dict[str, str]:
    """What makes the jobs of a call of snakemake use the commands of `warm`, in its environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"PATH": path, JOB_SERVER: str(warm.commands())}


TINY = ("study=tiny", "config_dir=tests/tiny/config")
"""What is configured where the tiny study is planned."""

RULES = {
    "data", "annotate", "weights", "pretrain", "features", "train", "score", "tune_crf", "evaluate", "table",
    "findings", "notebook", "page", "index", "scenes", "bbox_rect", "tune_boxes", "bbox_seg", "label_quality",
    "estep_maps", "projection", "gallery_page", "submission",
}  # fmt: skip


class Project:
    """A copy of the workflow in its own folder, with a call of snakemake."""

    def __init__(self, root: Path, source: Path, without: Sequence[str] = ()) -> None:
        """Copy from the checkout `source` to the folder `root`, `without` these notebooks: each adds two jobs."""
        self.root = root
        shutil.copy(source / "Snakefile", root)
        for name in (".test", "workflow", "notebooks", "config", "tests/tiny", "src/weakseg/report/page"):
            shutil.copytree(
                source / name, root / name, ignore=shutil.ignore_patterns(".*_checkpoints", ".snakemake", "results")
            )
        for name in without:
            (root / "notebooks" / f"{name}.ipynb").unlink()
        (root / "profiles").symlink_to("workflow/profiles")
        self.environment = {k: v for k, v in os.environ.items() if k not in ("WEAKSEG_DATA_ROOT", "WEAKSEG_SEEDS")}
        self.cache = root / "cache"
        self.environment.update(PYTHONPATH=str(source / "src"), OMP_NUM_THREADS="1", WEAKSEG_CACHE=str(self.cache))
        self.environment.update(forked_commands())

    def snakemake(self, *arguments: str, config: tuple[str, ...] = TINY) -> str:
        """Output of a successful call."""
        done = self.call(*arguments, config=config)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def call(self, *arguments: str, config: tuple[str, ...] = TINY, folder: Path | None = None) -> Done:
        """A call of any end, in the project's folder or another one."""
        return snakemake([*arguments, "--config", *config], folder or self.root, self.environment)

    def planned(self, *arguments: str, config: tuple[str, ...] = TINY) -> dict[str, int]:
        """Rule -> number of jobs of a dry run; named targets and the total left out."""
        text = self.snakemake(*arguments, "--dry-run", "--quiet", "rules", config=config)
        return {} if "Nothing to be done" in text else planned_jobs(text)


def planned_jobs(text: str) -> dict[str, int]:
    """Rule -> number of jobs by the output of a dry run; named targets and the total left out."""
    stats = text.split("Job stats:")[1].split("total")[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats, flags=re.MULTILINE)}
    return {name: count for name, count in jobs.items() if name in RULES}


def main() -> int:
    """Make what the words of the command line ask for, its output where this process has it; then nothing is left."""
    environment = os.environ | forked_commands()
    words = sys.argv[1:]
    if code := status(begin(words, Path.cwd(), environment, output=1)):
        return code
    again = snakemake([*words, "--dry-run"], Path.cwd(), environment)
    print(again.stdout)
    return 0 if again.returncode == 0 and "Nothing to be done" in again.stdout else 1


if __name__ == "__main__":
    import planning  # by the name that a forked process finds it by

    sys.exit(planning.main())
