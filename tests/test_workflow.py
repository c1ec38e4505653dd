"""The workflow: its targets, and what a change makes it run again. Nothing is computed here."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from weakseg.config import load_experiments, load_study
from weakseg.paths import StudyPaths

TINY = ("study=tiny", "config_dir=tests/tiny/config")
RUNS = [
    ("em_adapt_weak", 0),
    ("em_fixed_semi_1464_9118", 0),
    ("strong_1464", 0),
    ("strong_1464", 1),
    ("bbox_seg_semi", 0),
    ("bbox_em_fixed_weak", 0),  # the run whose E-step is looked at
]

pytestmark = pytest.mark.timeout(300)


class Project:
    """A copy of the workflow in its own folder, with a call of snakemake."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root = root
        shutil.copy(source / "Snakefile", root)
        for name in ("workflow", "notebooks", "config", "tests/tiny", "src/weakseg/report/page"):
            shutil.copytree(source / name, root / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        (root / "profiles").symlink_to("workflow/profiles")
        self.environment = {k: v for k, v in os.environ.items() if k != "WEAKSEG_DATA_ROOT"}
        self.environment["PYTHONPATH"] = str(source / "src")

    def snakemake(self, *arguments: str, config: tuple[str, ...] = TINY) -> str:
        """Output of a successful call."""
        done = self.call(*arguments, config=config)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def call(self, *arguments: str, config: tuple[str, ...] = TINY) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments, "--config", *config]
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=200,
        )

    def planned(self, *arguments: str, config: tuple[str, ...] = TINY) -> dict[str, int]:
        """Rule -> number of jobs of a dry run; named targets and the total left out."""
        text = self.snakemake(*arguments, "--dry-run", "--quiet", "rules", config=config)
        if "Nothing to be done" in text:
            return {}
        stats = text.split("Job stats:")[1].split("total")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats, flags=re.MULTILINE)}
        return {name: count for name, count in jobs.items() if name in RULES}


RULES = {
    "data", "annotate", "pretrain", "features", "train", "score", "tune_crf", "evaluate", "table", "notebook", "page",
    "index", "extract_boxes", "bbox_rect", "tune_boxes", "bbox_seg", "label_quality", "train_watched",
}  # fmt: skip


BOX_RULES = ("extract_boxes", "bbox_rect", "tune_boxes", "bbox_seg", "label_quality")
EVERY_RUN = {"train": 5, "train_watched": 1, "score": 6, "tune_crf": 6, "evaluate": 6}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Project:
    """A project in which nothing has been run."""
    return Project(tmp_path_factory.mktemp("fresh"), project_root)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Project:
    """A project in which the tiny study counts as finished: its files are empty and marked as made."""
    project = Project(tmp_path_factory.mktemp("finished"), project_root)
    listed = project.snakemake("--summary")
    for row in listed.splitlines():
        if not row.startswith("results/"):
            continue
        path = project.root / row.split("\t")[0]
        if path.name.startswith("labels") or path.name in ("bbox_rect", "bbox_seg"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("empty\n", encoding="utf-8")
    project.snakemake("--touch", "--forceall")
    assert project.planned() == {}
    return project


@pytest.fixture
def edit(finished: Project) -> Iterator[Callable[[str, Callable[[str], str]], None]]:
    """Change a file of the finished project by a function of its text; undone afterwards, its date too."""
    before: list[tuple[Path, bytes, os.stat_result]] = []

    def change(name: str, function: Callable[[str], str]) -> None:
        path = finished.root / name
        before.append((path, path.read_bytes(), path.stat()))
        text = path.read_text(encoding="utf-8")
        changed = function(text)
        assert changed != text
        path.write_text(changed, encoding="utf-8")

    yield change
    for path, content, status in reversed(before):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_study(function: Callable[[dict], object]) -> Callable[[str], str]:
    """A text change that applies `function` to the study's mapping."""

    def change(text: str) -> str:
        study = yaml.safe_load(text)
        function(study)
        return yaml.safe_dump(study)

    return change


STUDY_FILE = "tests/tiny/config/studies/tiny.yaml"


def test_default_target_runs_every_rule_once_a_run(fresh: Project) -> None:
    pages = len(list((fresh.root / "notebooks").glob("*.ipynb")))
    runs = dict.fromkeys(("score", "tune_crf", "evaluate"), len(RUNS))
    once = dict.fromkeys(("data", "annotate", "pretrain", "index", *BOX_RULES, "train_watched"), 1)
    twice = dict.fromkeys(("features", "table"), 2)
    expected = {**runs, **once, **twice, "train": len(RUNS) - 1, "notebook": pages, "page": pages}
    assert fresh.planned() == {name: count for name, count in expected.items() if count}


def test_every_study_has_a_target_for_its_report_tables_and_experiments(fresh: Project) -> None:
    for study in ("demo", "voc-subset", "voc"):
        chosen = load_study(study, fresh.root / "config").experiments
        experiments = [row.id for row in load_experiments(fresh.root / "config") if not chosen or row.id in chosen]
        listed = fresh.snakemake("--list-target-rules", "--quiet", "all", config=(f"study={study}",)).split()
        assert {"report", "table1", "table3", "figure4", *experiments} <= set(listed)


def test_dry_run_of_a_study_of_photos_needs_none(fresh: Project) -> None:
    planned = fresh.planned(config=("study=voc-subset",))
    assert planned["train"] + planned["train_watched"] == planned["evaluate"] >= 10
    assert "pretrain" not in planned


def test_run_by_file_name_of_a_study_that_is_not_the_configured_one(fresh: Project) -> None:
    target = StudyPaths("voc-subset").run("em_adapt_weak", 0).metrics
    jobs = fresh.planned(str(target), config=("study=demo",))
    assert jobs["train"] == jobs["evaluate"] == 1 and "pretrain" not in jobs


def test_figure_4_and_the_boxes_train_no_more_than_they_show(fresh: Project) -> None:
    planned = fresh.planned("figure4")
    assert planned["train_watched"] == 1 and "train" not in planned and "score" not in planned
    assert "bbox_seg" in fresh.planned("boxes")
    assert fresh.planned("table3") == {
        name: count for name, count in fresh.planned().items()
        if name not in ("notebook", "page", "index", "label_quality")
    } | {"table": 1, "train": 3, "score": 4, "tune_crf": 4, "evaluate": 4}  # fmt: skip


def test_a_study_without_boxes_leaves_their_lines_and_pages_out(fresh: Project) -> None:
    text = (fresh.root / STUDY_FILE).read_text(encoding="utf-8")
    study = yaml.safe_load(text)
    study.update(name="boxless", boxes=None, experiments=None)
    (fresh.root / "boxless.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    planned = fresh.planned(config=("study=boxless.yaml", TINY[1]))
    assert not set(BOX_RULES) & set(planned) and planned["table"] == 1 and "train_watched" not in planned
    listed = fresh.snakemake("--list-target-rules", "--quiet", "all", config=("study=boxless.yaml", TINY[1])).split()
    assert "table3" not in listed and "figure4" not in listed and "table1" in listed


def test_experiment_target_runs_its_seeds_only(fresh: Project) -> None:
    assert fresh.planned("strong_1464")["train"] == 2
    assert "table" not in fresh.planned("strong_1464")


def test_study_by_yaml_path_and_other_results_folder(fresh: Project) -> None:
    text = (fresh.root / STUDY_FILE).read_text(encoding="utf-8").replace("name: tiny", "name: mine", 1)
    (fresh.root / "mine.yaml").write_text(text, encoding="utf-8")
    shown = fresh.snakemake("--dry-run", "--printshellcmds", config=("study=mine.yaml", "results=elsewhere"))
    assert "weakseg data --study mine.yaml --results elsewhere --config-dir config" in shown
    assert "elsewhere/mine/report/index.html" in shown


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (("study=nosuch",), "no such study in config/studies; there are demo, voc-subset, voc"),
        (("stduy=demo",), "no setting named stduy"),
    ],
)
def test_wrong_settings_are_refused_without_a_traceback_of_ours(
    fresh: Project, config: tuple[str, ...], message: str
) -> None:
    done = fresh.call("--dry-run", config=config)
    assert done.returncode != 0
    assert message in done.stdout and "Traceback" not in done.stdout


def test_broken_study_is_named_with_its_field(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    edit(STUDY_FILE, lambda text: text.replace("seeds: [0]", "seed: [0]"))
    done = finished.call("--dry-run")
    assert done.returncode != 0
    assert "tiny.yaml" in done.stdout and "seed: Extra inputs are not permitted" in done.stdout


def test_cosmetic_edits_of_a_study_run_nothing(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    edit(STUDY_FILE, lambda text: "# A remark.\n" + text)
    edit(STUDY_FILE, lambda text: text.replace("checkpoint_iterations: 3", "checkpoint_iterations: 2"))
    assert not {"data", "train", "score", "tune_crf", "evaluate", "table"} & set(finished.planned())


def test_edit_of_a_notebook_makes_its_page_again_and_trains_nothing(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    notebook = min((finished.root / "notebooks").glob("*.ipynb"))
    edit(f"notebooks/{notebook.name}", lambda text: text + "\n")
    assert finished.planned() == {"notebook": 1, "page": 1, "index": 1}


def test_edit_of_a_rule_s_command_trains_nothing(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    edit("workflow/rules/train.smk", lambda text: text.replace("weakseg train {", "weakseg  train {"))
    assert finished.planned() == {}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda s: s["crf"].update(iterations=3), {"tune_crf": 6, "evaluate": 6}),
        (lambda s: s["solver"].update(lr=0.02), {**EVERY_RUN, "label_quality": 1}),
        (
            lambda s: s.update(solver_for={"em_adapt_weak": {"lr": 0.02}}),
            {"train": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            # EM-Adapt alone.
            lambda s: s.update(estep={"rounds": 3}),
            {"train": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            lambda s: s.update(estep={"box_fg_bias": 7}),
            {"train_watched": 1, "score": 1, "tune_crf": 1, "evaluate": 1, "label_quality": 1},
        ),
        (lambda s: s["network"].update(head_channels=9), {**EVERY_RUN, "label_quality": 1}),
        (lambda s: s["report"].update(qualitative_images=3), {}),
        (
            lambda s: s["boxes"].update(alphas=[0.4]),
            {"tune_boxes": 1, "bbox_seg": 1, "label_quality": 1}
            | {"train": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            # The E-step's labels must be those of the same images, so its run is made again.
            lambda s: s["boxes"].update(quality_images=2),
            {"label_quality": 1, "train_watched": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            lambda s: s["dataset"]["scenes"].update(seed=2),
            {"data": 1, "annotate": 1, "pretrain": 1, "features": 2} | dict.fromkeys(BOX_RULES, 1) | EVERY_RUN,
        ),
    ],
    ids=[
        "crf",
        "solver",
        "solver of a run",
        "estep",
        "estep of boxes",
        "network",
        "report",
        "boxes",
        "label quality",
        "images",
    ],
)
def test_change_of_a_study_runs_what_depends_on_it(
    finished: Project,
    edit: Callable[[str, Callable[[str], str]], None],
    change: Callable[[dict], object],
    rules: dict[str, int],
) -> None:
    edit(STUDY_FILE, change_study(change))
    planned = finished.planned()
    assert {k: v for k, v in planned.items() if k not in ("table", "notebook", "page", "index")} == rules


def test_more_seeds_run_the_new_ones_only(finished: Project, edit: Callable[[str, Callable[[str], str]], None]) -> None:
    edit(STUDY_FILE, lambda text: text.replace("{strong_1464: [0, 1]}", "{strong_1464: [0, 1, 2]}"))
    assert finished.planned()["train"] == 1


def test_killed_training_leaves_its_resume_states(fresh: Project) -> None:
    """Snakemake removes the outputs of a job that failed; the resume folder is none of them."""
    summary = fresh.snakemake("--summary")
    assert "model.safetensors" in summary and "resume" not in summary


def test_snakemake_lines_of_the_readme_can_be_planned(fresh: Project, project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    lines = [
        line.split("#")[0].split("&&")[0].split()[1:] for line in re.findall(r"^snakemake\b.*$", text, re.MULTILINE)
    ]
    assert len(lines) >= 6
    for words in lines:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *words, "--dry-run"],
            cwd=fresh.root,
            env=fresh.environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, (words, done.stdout + done.stderr)
