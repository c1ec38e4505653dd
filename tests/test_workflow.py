"""The workflow: its targets, and what a change makes it run again. Nothing is computed here."""

import copy
import dataclasses
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml
from planning import RULES, TINY, Project, begin, planned_jobs, snakemake

from weakseg.config import Role, load_sheet, load_study, load_weights, study_experiments
from weakseg.labels import VOC
from weakseg.needs import outside_needs
from weakseg.paths import StudyPaths
from weakseg.report.findings import Finding

STUDIES = [path.stem for path in sorted((Path(__file__).parents[1] / "config" / "studies").glob("*.yaml"))]
TINY_CONFIG = Path(__file__).parent / "tiny" / "config"
TINY_STUDY = load_study("tiny", TINY_CONFIG)
ROWS = study_experiments(TINY_STUDY, TINY_CONFIG)
RUNS = [(row.id, seed) for row in ROWS for seed in TINY_STUDY.seeds_of(row.id)]
TUNED = [(row.id, seed) for row in ROWS for seed in TINY_STUDY.seeds_of(row.id) if row.stage == "val"]
"""Runs whose CRF is searched for; one of stage `test` has that of the run it goes back to."""

pytestmark = pytest.mark.timeout(300)


LIKE_OTHERS = ("annotation_cost", "crf_grid", "iou_vs_strong", "qualitative", "training_curves")
"""Notebooks that are planned as others are: without them each plan is sooner made."""

BOX_RULES = ("bbox_rect", "tune_boxes", "bbox_seg", "label_quality")
EVERY_RUN = {
    **dict.fromkeys(("train", "score", "evaluate"), len(RUNS)), "tune_crf": len(TUNED),
    "estep_maps": 3,  # one run a method
}  # fmt: skip


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Project:
    """A project in which nothing has been run."""
    return Project(tmp_path_factory.mktemp("fresh"), project_root, LIKE_OTHERS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Project:
    """A project in which the tiny study counts as finished: its files are empty and marked as made."""
    project = Project(tmp_path_factory.mktemp("finished"), project_root, LIKE_OTHERS)
    listed = project.snakemake("--summary")
    for row in listed.splitlines():
        if not row.startswith("results/"):
            continue
        path = project.root / row.split("\t")[0]
        if path.name.startswith("labels") or path.name in ("bbox_rect", "bbox_seg", "images", "snapshots"):
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


PAGES = ("table", "findings", "notebook", "page", "gallery_page", "index")
"""Rules of what people read."""

STUDY_FILE = "tests/tiny/config/studies/tiny.yaml"


def test_default_target_runs_every_rule_once_a_run(fresh: Project) -> None:
    assert len(RUNS) == 13 and len(TUNED) == 11
    # The tiny study runs lines of all tables but one; each is a page of its own.
    tables = {row.table for row in ROWS}
    assert tables == {"table1", "table2", "table3", "table5", "table6", "fields_of_view"}
    pages = sum(path.stem != "table4" for path in (fresh.root / "notebooks").glob("*.ipynb"))
    # Of both data sets the images, of one the rest. Maps of its three lists, and of the other's training images.
    once = dict.fromkeys(("pretrain", "findings", "gallery_page", "index", *BOX_RULES), 1)
    twice = dict.fromkeys(("scenes", "data", "annotate"), 1 + len(TINY_STUDY.other_datasets))
    report = {"table": len(tables), "notebook": pages, "page": pages}
    assert fresh.planned() == {**EVERY_RUN, **once, **twice, **report, "features": 4}


def bring(study: str, project: Project) -> tuple[str, ...]:
    """Settings of a study, with a data root that holds empty files for all that it cannot make or fetch."""
    root = project.root / "brought"
    loaded = load_study(study, project.root / "config")
    for need in outside_needs(loaded, StudyPaths(study), root):
        path = Path(need.place.replace("{data_root}", str(root)))
        if need.what == "photos" and need.state == "missing":
            (path / "JPEGImages").mkdir(parents=True)
            lists = path / "ImageSets" / "Segmentation"
            lists.mkdir(parents=True)
            for name in loaded.dataset.list_names():
                (lists / f"{name}.txt").write_text(f"{name}_0001\n", encoding="utf-8")
        elif need.what.startswith("photos of") and need.state == "missing":
            (path / "images").mkdir(parents=True)
            (path / "annotations").mkdir()
            empty = {"images": [], "annotations": [], "categories": []}
            (path / "annotations" / "instances.json").write_text(json.dumps(empty), encoding="utf-8")
        elif need.state == "missing":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return (f"study={study}", f"data_root={root}")


@pytest.mark.parametrize("study", STUDIES)
def test_a_plan_names_all_that_a_study_can_neither_make_nor_fetch(
    fresh: Project, study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo needs nothing; what `voc` downloads is not missing."""
    monkeypatch.delenv("WEAKSEG_DATA_ROOT", raising=False)
    needs = outside_needs(load_study(study, fresh.root / "config"), StudyPaths(study))
    missing = [need for need in needs if need.state == "missing"]
    done = fresh.call("--dry-run", config=(f"study={study}",))
    assert (done.returncode == 0) == (not missing), done.stdout
    for need in missing:
        assert done.stdout.count(f"{need.what}: {need.advice}") == 1
    assert not missing or "data_root=FOLDER" in done.stdout
    # Neither a list of the targets nor another study's plan asks for them.
    fresh.snakemake("--list-target-rules", config=(f"study={study}",))
    target = StudyPaths("demo").run("em_adapt_weak", 0).metrics
    assert fresh.planned(str(target), config=(f"study={study}",))["train"] == 1


@pytest.mark.parametrize("study", STUDIES)
def test_every_target_of_a_study_can_be_planned(fresh: Project, study: str) -> None:
    """Once there is what it can neither make nor fetch."""
    config = bring(study, fresh)
    listed = fresh.snakemake("--list-target-rules", "--quiet", "all", config=config)
    targets = [line.split()[0] for line in listed.splitlines() if line and not line.startswith("Using workflow")]
    experiments = [row.id for row in study_experiments(load_study(study, fresh.root / "config"), fresh.root / "config")]
    assert {"report", "table1", "table3", "figure4", *experiments} <= set(targets)
    assert fresh.planned(*targets, config=config)["train"] >= len(experiments)


def test_dry_run_of_a_study_of_photos_makes_none(fresh: Project) -> None:
    planned = fresh.planned(config=bring("voc-subset", fresh))
    assert planned["train"] == planned["evaluate"] >= 10
    assert planned["weights"] == 1 and not {"pretrain", "scenes"} & set(planned)


def test_named_weights_are_made_once_for_all_studies_and_their_date_is_nothing(fresh: Project) -> None:
    row = load_weights(fresh.root / "config")["efficientnet_lite0"]
    target = fresh.cache / "weights" / row.stored_as("efficientnet_lite0")
    study = yaml.safe_load((fresh.root / "config/studies/demo.yaml").read_text(encoding="utf-8"))
    study["network"].update(trunk="efficientnet_lite0", weights="efficientnet_lite0")
    for name in ("one", "other"):
        (fresh.root / f"{name}.yaml").write_text(yaml.safe_dump({**study, "name": name}), encoding="utf-8")
    one, other = ("study=one.yaml",), ("study=other.yaml",)
    assert fresh.planned("strong_1464", config=one)["weights"] == 1
    target.parent.mkdir(parents=True)
    target.write_text("empty\n", encoding="utf-8")
    for config in (one, other):
        assert not {"weights", "pretrain"} & set(fresh.planned("strong_1464", config=config))
    files = StudyPaths("one")
    maps = files.features("training")
    (fresh.root / files.images).mkdir(parents=True)
    for path in (files.manifest, files.contents, maps):
        (fresh.root / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh.root / path).write_text("empty\n", encoding="utf-8")
    fresh.snakemake("--touch", str(maps), config=one)
    assert fresh.planned(str(maps), config=one) == {}
    os.utime(target, (time.time() + 60, time.time() + 60))
    assert fresh.planned(str(maps), config=one) == {}
    target.unlink()  # an emptied cache makes nothing anew that is finished
    assert fresh.planned(str(maps), config=one) == {}
    assert set(fresh.planned("strong_1464", config=one)) >= {"weights", "train"}


def test_a_study_that_names_no_weights_needs_no_list_of_them(fresh: Project) -> None:
    planned = fresh.planned()
    assert planned["pretrain"] == 1 and "weights" not in planned
    (fresh.root / "config/weights.yaml").rename(fresh.root / "weights.yaml")
    try:
        assert fresh.planned() == planned
        assert "weights.yaml: no such file" in fresh.call("--dry-run", config=("study=demo",)).stdout
    finally:
        (fresh.root / "weights.yaml").rename(fresh.root / "config/weights.yaml")


def test_run_by_file_name_of_a_study_that_is_not_the_configured_one(fresh: Project) -> None:
    target = StudyPaths("voc-subset").run("em_adapt_weak", 0).metrics
    jobs = fresh.planned(str(target), config=("study=demo", bring("voc-subset", fresh)[1]))
    assert jobs["train"] == jobs["evaluate"] == 1 and "pretrain" not in jobs


def test_the_gallery_is_part_of_the_report_and_a_target(fresh: Project, project_root: Path) -> None:
    planned = fresh.planned("gallery")
    # Every run that labels val's photos, of which one draws; the second stage labels others.
    runs = dict.fromkeys(("train", "evaluate"), len(TUNED))
    drawn = {**runs, "estep_maps": 3, "bbox_rect": 1, "bbox_seg": 1, "gallery_page": 1}
    assert planned.items() >= drawn.items() and not {"notebook", "page", "table", "index"} & set(planned)
    page = project_root / "src/weakseg/report/page"
    included = set(re.findall(r"'(gallery\S*)'", (page / "gallery.html.j2").read_text(encoding="utf-8")))
    assert included == {path.name for path in page.glob("gallery*")} - {"gallery.html.j2"}
    (words,) = (
        line
        for line in shell_commands(fresh.snakemake("gallery", "--dry-run", "--printshellcmds"))
        if "gallery" in line
    )
    assert words[words.index("weakseg") :][:2] == ["weakseg", "gallery"]


def test_a_changed_script_makes_the_gallery_again(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    listed = finished.snakemake("gallery", "--detailed-summary")
    for path in sorted((finished.root / "src/weakseg/report/page").glob("gallery*")):
        assert path.name in listed
    edit("src/weakseg/report/page/gallery_weak.js", lambda text: text + "\n")
    assert finished.planned() == {"gallery_page": 1, "index": 1}


def test_figure_4_and_the_boxes_train_no_more_than_they_show(fresh: Project) -> None:
    planned = fresh.planned("figure4")
    assert planned["estep_maps"] == planned["train"] == 1 and "score" not in planned
    assert "bbox_seg" in fresh.planned("boxes")
    runs = sum(len(TINY_STUDY.seeds_of(row.id)) for row in ROWS if row.line_in("table3"))
    assert runs == 5 and fresh.planned("table3") == {
        **dict.fromkeys(("scenes", "data", "annotate", "pretrain", "bbox_rect", "tune_boxes", "bbox_seg", "table"), 1),
        **dict.fromkeys(("train", "score", "tune_crf", "evaluate"), runs), "features": 2,
    }  # fmt: skip


def test_another_data_set_and_a_second_stage_ask_for_no_more_than_they_need(fresh: Project) -> None:
    once = {"pretrain": 1, "table": 1}
    both = dict.fromkeys(("scenes", "data", "annotate"), 2)
    runs = dict.fromkeys(("train", "score", "tune_crf", "evaluate"), 4)
    # Training images of both, and val's.
    assert fresh.planned("table5") == {**once, **both, **runs, "features": 3}
    # The second stage's start is trained, and its CRF, which the others take, is searched for; it is not evaluated. The
    # run with branches reads photos: the maps are those of its start.
    one = dict.fromkeys(both, 1)
    assert fresh.planned("table6") == {
        **once, **one, "train": 3, "score": 3, "tune_crf": 1, "evaluate": 2, "features": 3,
    }  # fmt: skip


def test_an_archive_for_the_server_is_made_by_its_name(fresh: Project, finished: Project) -> None:
    archive = str(StudyPaths("tiny").run("strong_12031_test", 0).submission)
    assert finished.planned(archive) == {"submission": 1}
    planned = fresh.planned(archive)
    assert planned.items() >= {"submission": 1, "evaluate": 1, "train": 2}.items() and "table" not in planned
    (words,) = (
        words
        for words in shell_commands(fresh.snakemake(archive, "--dry-run", "--printshellcmds"))
        if "submission" in words
    )
    assert words[words.index("--experiment") :][:4] == ["--experiment", "strong_12031_test", "--seed", "0"]


def test_a_study_without_boxes_leaves_their_lines_and_pages_out(fresh: Project) -> None:
    text = (fresh.root / STUDY_FILE).read_text(encoding="utf-8")
    study = yaml.safe_load(text)
    study.update(name="boxless", boxes=None, experiments=None)
    (fresh.root / "boxless.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    planned = fresh.planned(config=("study=boxless.yaml", TINY[1]))
    assert not set(BOX_RULES) & set(planned) and planned["table"] == 5
    rows = [row for row in load_sheet(TINY_CONFIG).experiments if not row.label_maps]
    assert planned["train"] == sum(len(TINY_STUDY.seeds_of(row.id)) for row in rows) > len(RUNS)
    assert planned["estep_maps"] == 2  # those of EM-Fixed and EM-Adapt
    listed = fresh.snakemake("--list-target-rules", "--quiet", "all", config=("study=boxless.yaml", TINY[1])).split()
    assert {"table1", "table2", "table5", "table6", "fields_of_view"} <= set(listed)
    assert not {"table3", "table4", "figure4", "boxes"} & set(listed)


def test_an_experiment_cannot_be_called_like_another_target(fresh: Project) -> None:
    sheet = yaml.safe_load((fresh.root / "config/experiments.yaml").read_text(encoding="utf-8"))
    folder = fresh.root / "own config"
    shutil.copytree(fresh.root / "tests/tiny/config", folder)
    (folder / "experiments.yaml").unlink(missing_ok=True)
    row = next(row for row in sheet["experiments"] if row["id"] == "em_adapt_weak")
    for name, refused in (("own", True), ("train", True), ("boxes", True), ("mine", False)):
        own = {**row, "id": name, "table": "own", "line": 1}
        text = yaml.safe_dump({**sheet, "experiments": [*sheet["experiments"], own]})
        (folder / "experiments.yaml").write_text(text, encoding="utf-8")
        study = yaml.safe_load((fresh.root / STUDY_FILE).read_text(encoding="utf-8"))
        study["experiments"].append(name)
        (folder / "studies/tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        done = fresh.call("own", "--dry-run", config=("study=tiny", f"config_dir={folder}"))
        assert (done.returncode != 0) == refused, done.stdout
        assert (f"an experiment cannot be called {name}" in done.stdout) == refused


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
        (lambda s: s["crf"].update(iterations=3), {"tune_crf": len(TUNED), "evaluate": len(RUNS)}),
        (lambda s: s["solver"].update(lr=0.02), {**EVERY_RUN, "label_quality": 1}),
        (
            lambda s: s.update(solver_for={"em_adapt_weak": {"lr": 0.02}}),
            {"train": 1, "estep_maps": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            # What the second stage goes on from, and the branches from that.
            lambda s: s.update(solver_for={"strong_10582": {"lr": 0.02}}),
            {"train": 3, "score": 3, "tune_crf": 1, "evaluate": 3},
        ),
        (
            lambda s: s.update(solver_for={"multi_scale": {"lr": 0.02}}),
            {"train": 1, "score": 1, "evaluate": 1},
        ),
        (
            # EM-Adapt alone.
            lambda s: s.update(methods={"em_adapt": {"rounds": 3}}),
            {"train": 1, "estep_maps": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            lambda s: s.update(methods={"bbox_em_fixed": {"fg_bias": 7}}),
            {"train": 1, "estep_maps": 1, "score": 1, "tune_crf": 1, "evaluate": 1, "label_quality": 1},
        ),
        (lambda s: s["network"].update(head_channels=9), {**EVERY_RUN, "label_quality": 1}),
        (lambda s: s["report"].update(qualitative_images=3), {}),
        (
            lambda s: s["boxes"].update(alphas=[0.4]),
            {"tune_boxes": 1, "bbox_seg": 1, "label_quality": 1}
            | {"train": 1, "score": 1, "tune_crf": 1, "evaluate": 1},
        ),
        (
            # What is shown of a run never trains it again.
            lambda s: s["boxes"].update(quality_images=2),
            {"label_quality": 1, "estep_maps": 3},
        ),
        (
            lambda s: s["dataset"]["scenes"].update(seed=2),
            # The other data set's stay, but the trunk is pre-trained anew.
            {"scenes": 1, "data": 1, "annotate": 1, "pretrain": 1, "features": 4}
            | dict.fromkeys(BOX_RULES, 1)
            | EVERY_RUN,
        ),
        (
            # Two runs draw from it, and one starts from one of these.
            lambda s: s["other_datasets"]["coco"]["scenes"].update(seed=3),
            dict.fromkeys(("scenes", "data", "annotate", "features"), 1)
            | dict.fromkeys(("train", "score", "tune_crf", "evaluate"), 3),
        ),
        (
            lambda s: s["other_datasets"]["coco"].update(images_for={123287: 3}),
            dict.fromkeys(("train", "score", "tune_crf", "evaluate"), 3),
        ),
    ],
    ids=[
        "crf",
        "solver",
        "solver of a run",
        "solver of a start",
        "solver of branches",
        "estep",
        "estep of boxes",
        "network",
        "report",
        "boxes",
        "label quality",
        "images",
        "images of another data set",
        "count of another data set",
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
    assert {k: v for k, v in planned.items() if k not in PAGES} == rules


def test_more_seeds_run_the_new_ones_only(finished: Project, edit: Callable[[str, Callable[[str], str]], None]) -> None:
    edit(STUDY_FILE, lambda text: text.replace("{strong_1464: [0, 1]}", "{strong_1464: [0, 1, 2]}"))
    assert finished.planned()["train"] == 1


TARGETS = [(), ("table1",), ("per_class",), ("em_adapt_weak",), ("results/tiny/runs/em_adapt_weak/seed0/metrics.json",)]


@pytest.fixture
def copied(finished: Project, tmp_path: Path, project_root: Path) -> Project:
    """A copy of the finished project, in which jobs may run and fail: the files they read are empty."""
    project = copy.copy(finished)
    project.root = tmp_path / "copied"
    shutil.copytree(finished.root, project.root, symlinks=True)
    assert project.planned() == {}
    return project


def test_failed_training_runs_again_for_whatever_target(copied: Project) -> None:
    study = copied.root / STUDY_FILE
    study.write_text(change_study(lambda s: s.update(solver_for={"em_adapt_weak": {"lr": 0.02}}))(study.read_text()))
    run = StudyPaths("tiny", copied.root / "results").run("em_adapt_weak", 0)
    for _ in range(2):
        done = copied.call(str(run.model.relative_to(copied.root)))
        assert done.returncode == 1 and "train" in done.stdout
        assert not run.model.exists() and run.scores.exists() and run.metrics.exists()
    for target in TARGETS:
        assert copied.planned(*target)["train"] == 1, target
    assert copied.planned("results/tiny/runs/strong_1464/seed0/metrics.json") == {}


def test_failed_page_runs_again(copied: Project) -> None:
    notebook = copied.root / "notebooks" / "per_class.ipynb"
    notebook.write_text(notebook.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    done = copied.call("per_class")
    assert done.returncode == 1 and "papermill" in done.stdout
    assert (copied.root / "results/tiny/report/per_class.html").exists()
    for target in ((), ("per_class",), ("results/tiny/report/index.html",)):
        assert copied.planned(*target) == {"notebook": 1, "page": 1} | (
            {} if target == ("per_class",) else {"index": 1}
        )


def test_findings_are_printed_when_the_report_was_made(copied: Project) -> None:
    findings = StudyPaths("tiny", copied.root / "results").findings
    heads = ",".join(field.name for field in dataclasses.fields(Finding))
    claim = "table1,Some claim,,60.0 vs 50.0,40.0 vs 45.0,a b,A against B,-5,> 0,,,1,fails"
    findings.write_text(f"{heads}\n{claim}\n", encoding="utf-8")
    printed = "in study tiny: 0 of 1 findings hold, 1 fails"
    assert printed in copied.snakemake("--touch", "--forcerun", "index")
    assert printed not in copied.snakemake("table1", "--touch", "--force")


def test_killed_training_runs_again_though_its_scores_are_there(copied: Project) -> None:
    run = StudyPaths("tiny", copied.root / "results").run("em_adapt_weak", 0)
    run.model.unlink()
    mark = copied.root / "results/tiny/logs/train/em_adapt_weak_seed0.log.unfinished"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("an attempt\n", encoding="utf-8")
    for target in TARGETS:
        assert copied.planned(*target)["train"] == 1, target


def test_what_a_user_deletes_is_made_again_when_it_is_asked_for(copied: Project) -> None:
    run = StudyPaths("tiny", copied.root / "results").run("em_adapt_weak", 0)
    run.model.unlink()
    run.scores.unlink()
    assert copied.planned() == {}
    assert copied.planned(str(run.scores.relative_to(copied.root)))["train"] == 1


def shell_commands(printed: str) -> list[list[str]]:
    """The words of every command that a dry run prints."""
    return [shlex.split(line) for line in re.findall(r"^Shell command: (.* .*)$", printed, re.MULTILINE)]


def test_every_job_leaves_a_mark_until_it_ends_well(fresh: Project) -> None:
    commands = shell_commands(fresh.snakemake("--dry-run", "--printshellcmds"))
    assert len(commands) == sum(fresh.planned().values())
    assert {(words[0], words[2]) for words in commands} == {("attempt", "none")}
    # Each its own, and that of its log.
    logs = [words[1] for words in commands]
    assert len(set(logs)) == len(commands)
    assert all(words.count(log) == 2 for words, log in zip(commands, logs, strict=True))


def test_a_notebook_is_given_the_files_that_it_reads(fresh: Project) -> None:
    def given(page: str) -> list[str]:
        printed = fresh.snakemake(f"results/tiny/report/{page}.html", "--dry-run", "--printshellcmds")
        (words,) = (words for words in shell_commands(printed) if "papermill" in words)
        return json.loads(words[words.index("-y") + 1])["files"]

    files = StudyPaths("tiny", Path("results"))
    tables = [files.table(name) for name in sorted({row.table for row in ROWS})]
    runs = [files.run(*run) for run in RUNS]
    read = [
        files.manifest,
        *tables,
        files.findings,
        files.boxes,
        *(file for r in runs for file in (r.metrics, r.config)),
    ]
    assert sorted(given("table1")) == sorted(map(str, read))
    # Classes are compared on val, which runs of the second stage are not scored on.
    by_class = [path for path in given("per_class") if path.endswith("/per_class.csv")]
    assert sorted(by_class) == sorted(str(files.run(*run).per_class) for run in TUNED)


ODD = "my runs $x 'ü' #2;"


def test_names_may_hold_signs_of_the_shell(fresh: Project) -> None:
    config_dir = f"{ODD}/config"
    shutil.copytree(fresh.root / "tests/tiny/config", fresh.root / config_dir)
    study = fresh.root / ODD / "studies of 'mine'.yaml"
    study.write_text((fresh.root / STUDY_FILE).read_text(encoding="utf-8").replace("name: tiny", "name: odd", 1))
    config = (f"study={study}", f"config_dir={config_dir}", f"results={ODD}")
    commands = shell_commands(fresh.snakemake("--dry-run", "--printshellcmds", config=config))
    folders = {words[1].partition("/logs/")[0] for words in commands}
    assert folders == {f"{ODD}/odd", f"{ODD}/odd/datasets/coco"}
    for words in commands:
        named = {str(study), config_dir, ODD} if {"weakseg", "papermill"} & set(words) else set()
        assert named <= set(words)
    assert {"weakseg", "papermill", "jupyter"} <= {word for words in commands for word in words}
    labels = StudyPaths("odd", Path(ODD)).image_labels
    fresh.snakemake(str(labels), config=config)
    assert (fresh.root / labels).is_file()


@pytest.mark.parametrize("name", ["007", "1_2", "1e3", "true", "a: b"])
def test_settings_are_taken_as_they_are_typed(fresh: Project, name: str) -> None:
    done = fresh.call("table1", "--dry-run", "--printshellcmds", config=(*TINY, f"results={name}"))
    assert f"results {shlex.quote(name)} " in done.stdout


def test_workflow_is_found_from_another_folder(fresh: Project, tmp_path: Path) -> None:
    snakefile = str(fresh.root / "Snakefile")
    done = fresh.call(
        "--snakefile", snakefile, "--dry-run", "--printshellcmds", config=("study=demo",), folder=tmp_path
    )
    assert done.returncode == 0, done.stdout
    words = next(words for words in shell_commands(done.stdout) if "papermill" in words)
    # The workflow's files are those of its folder, the results those of the folder it is called from.
    assert any(word.startswith(f"{fresh.root}/notebooks/") for word in words) and f"{fresh.root}/config" in words
    assert "results" in words
    away = fresh.call("--directory", str(tmp_path), "--dry-run", "--printshellcmds", config=("study=demo",))
    assert sorted(shell_commands(away.stdout)) == sorted(shell_commands(done.stdout))


def test_the_folder_for_the_workflow_catalogue_plans_the_tiny_study(fresh: Project) -> None:
    words = ("--snakefile", "workflow/Snakefile", "--directory", ".test", "--dry-run", "--quiet", "rules")
    done = snakemake(words, fresh.root, fresh.environment)
    assert done.returncode == 0, done.stdout
    assert planned_jobs(done.stdout) == fresh.planned()


def test_settings_may_stand_in_a_file(fresh: Project, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("results: kept\nallow_cpu: true\n", encoding="utf-8")
    words = ["--snakefile", str(fresh.root / "Snakefile"), "--summary"]
    for more, folder in (([], "kept"), (["--config", "results=elsewhere"], "elsewhere")):
        done = snakemake([*words, *more], tmp_path, fresh.environment)
        assert done.returncode == 0 and f"\n{folder}/demo/report/index.html" in done.stdout, done.stdout


MODULE = """
module weakseg:
    snakefile: "{snakefile}"
    config: config["weakseg"]

use rule * from weakseg as weakseg_*

rule all:
    default_target: True
    input:
        rules.weakseg_report.input
"""


def test_workflow_is_a_module_of_another(fresh: Project, tmp_path: Path) -> None:
    snakefile = fresh.root / "workflow" / "Snakefile"
    (tmp_path / "Snakefile").write_text(MODULE.format(snakefile=snakefile), encoding="utf-8")
    settings = {"study": "tiny", "config_dir": str(fresh.root / TINY[1].partition("=")[2]), "results": "mine"}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"weakseg": settings}), encoding="utf-8")

    def call(*words: str) -> str:
        done = snakemake([*words, "--configfile", "settings.yaml", "--cores", "1"], tmp_path, fresh.environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    planned = dict(re.findall(r"^weakseg_(\w+) +(\d+)$", call("--dry-run", "--quiet", "rules"), flags=re.MULTILINE))
    assert {name: int(count) for name, count in planned.items()} == fresh.planned()
    images = StudyPaths("tiny", Path("mine")).images
    call(str(images))
    assert any((tmp_path / images).iterdir())


MINIATURE = {
    "name": "miniature", "description": "One training.", "experiments": ["strong_1464"], "seeds": [0],
    "boxes": None, "seeds_for": {},
}  # fmt: skip


def test_killed_training_goes_on(fresh: Project) -> None:
    """Everything is killed, Snakemake too, so that nobody can tidy up."""
    study = yaml.safe_load((fresh.root / STUDY_FILE).read_text(encoding="utf-8"))
    study.update(MINIATURE)
    study["network"].update(weights=None, freeze_trunk=False)
    study["solver"].update(iterations=60, checkpoint_iterations=5)
    (fresh.root / "miniature.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    config = ("study=miniature.yaml", TINY[1])
    run = StudyPaths("miniature", fresh.root / "results").run("strong_1464", 0)
    words = [str(run.model.relative_to(fresh.root)), "--cores", "1", "--config", *config]

    def learned() -> bool:
        """Whether a resume state of five iterations is there: those of the next are logged before it is written."""
        return any(log.read_text(encoding="utf-8").count("\n") > 10 for log in run.resume.glob("*-log.csv"))

    with open(os.devnull, "w") as nowhere:
        call = begin(words, fresh.root, fresh.environment, nowhere.fileno())
    until = time.monotonic() + 120
    while not learned() and not select.select([call], [], [], 0.02)[0] and time.monotonic() < until:
        pass
    call.close()
    assert learned() and not run.model.exists()

    fresh.snakemake("--unlock", config=config)
    fresh.snakemake(words[0], config=config)
    log = (fresh.root / "results/miniature/logs/train/strong_1464_seed0.log").read_text(encoding="utf-8")
    first = re.search(r"\| (\d+)/60 ", log)
    assert first is not None and int(first[1]) >= 5
    assert list(pd.read_csv(run.train_log)["iteration"]) == list(range(60))
    assert fresh.planned(words[0], config=config) == {}


def test_snakemake_lines_of_the_documents_can_be_planned(fresh: Project, project_root: Path) -> None:
    text = "".join((project_root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/running.md"))
    lines = [
        line.split("#")[0].split("&&")[0].split()[1:] for line in re.findall(r"^snakemake\b.*$", text, re.MULTILINE)
    ]
    assert len(lines) >= 6
    root = bring("voc-subset", fresh)[1]
    for words in lines:
        words = [word.replace("data_root=FOLDER", root) for word in words]
        done = snakemake([*words, "--dry-run"], fresh.root, fresh.environment)
        assert done.returncode == 0, (words, done.stdout)


def test_a_finished_study_is_planned_without_what_it_was_made_of(
    finished: Project, edit: Callable[[str, Callable[[str], str]], None]
) -> None:
    """A study that was copied to another machine, say, whose pages are looked at there."""
    elsewhere = {"name": "d", "source": "path", "path": "{data_root}/gone"}
    lists = {role: [] for role in get_args(Role)}
    manifest = {"reader": "voc", "root": "/gone", "labels": VOC.to_json(), "counts": {}, "lists": lists}
    edit(STUDY_FILE, change_study(lambda s: s.update(dataset=elsewhere)))
    edit(str(StudyPaths("tiny").manifest), lambda text: json.dumps(manifest))
    done = finished.call("--dry-run")
    assert done.returncode == 0, done.stdout
    (finished.root / StudyPaths("tiny").manifest).unlink()
    done = finished.call(str(StudyPaths("tiny").manifest), "--dry-run")
    assert done.returncode != 0 and "photos: path '{data_root}/gone' needs a data root" in done.stdout


@pytest.mark.parametrize(("value", "runs"), [("1", 1), ("3", 3), ("0", 0), ("many", 0)])
def test_a_number_of_seeds_stands_for_those_of_the_study(fresh: Project, value: str, runs: int) -> None:
    config = (*TINY, f"seeds={value}")
    if runs:
        assert fresh.planned("strong_1464", config=config)["train"] == runs
    else:
        done = fresh.call("strong_1464", "--dry-run", config=config)
        assert done.returncode != 0 and f"seeds={value}" in done.stdout and "from 1 to 99" in done.stdout


@pytest.mark.parametrize("value", ["true", "True", "false", "yes"])
def test_a_study_that_needs_a_gpu_is_told_to_do_without(fresh: Project, value: str) -> None:
    """By an environment variable: the commands, by which jobs run again, stay the same."""
    done = fresh.call("table1", "--dry-run", "--printshellcmds", config=(*TINY, f"allow_cpu={value}"))
    assert (done.returncode == 0) == (value != "yes")
    assert "allow" not in "".join(re.findall(r"^Shell command.*", done.stdout, re.MULTILINE))
    if value == "yes":
        assert "allow_cpu=yes: say true or false" in done.stdout


STUB = """
import os, sys, time
from pathlib import Path
from weakseg.config import load_study
from weakseg.gpus import leased_gpu
from weakseg.paths import StudyPaths
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
paths = StudyPaths(load_study(words["--study"], words["--config-dir"]).name, Path(words["--results"]))
run = paths.run(words["--experiment"], int(words["--seed"]))
with leased_gpu(0.02):
    begun = time.monotonic()
    Path(f"begun{os.getpid()}").touch()
    while len(list(Path().glob("begun*"))) < int(os.environ["TOGETHER"]) and time.monotonic() < begun + 20:
        time.sleep(0.02)
    time.sleep(0.1)
    line = f"{begun} {time.monotonic()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n"
with open("stub.txt", "a") as told:
    told.write(line)
run.snapshots.mkdir(exist_ok=True)
for path in (run.model, run.train_log, run.config):
    path.write_text("stub")
"""


@pytest.mark.parametrize(("gpus", "words", "together"), [(2, [], 2), (2, ["--resources", "gpu=1"], 1), (0, [], 3)])
def test_trainings_share_the_gpus_of_a_machine(
    copied: Project, tmp_path: Path, gpus: int, words: list[str], together: int
) -> None:
    """As many at a time as there are GPUs, each on its own; without any, as many as there are cores."""
    (copied.root / "stub.py").write_text(STUB, encoding="utf-8")
    rules = copied.root / "workflow/rules/train.smk"
    rules.write_text(rules.read_text().replace('" weakseg train {', f'" {sys.executable} stub.py {{'))
    commands = tmp_path / "bin"
    commands.mkdir()
    listed = "".join(f"GPU-{number}, NVIDIA H100, 81559, 80000\n" for number in range(gpus))
    (commands / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n", encoding="utf-8")
    (commands / "nvidia-smi").chmod(0o755)
    unset = {"CUDA_VISIBLE_DEVICES", "LOCAL_RANK"}
    copied.environment = {name: value for name, value in copied.environment.items() if name not in unset}
    own = {"PATH": f"{commands}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(tmp_path), "TOGETHER": str(together)}
    copied.environment |= own
    models = [StudyPaths("tiny").run(*run).model for run in RUNS[:3]]
    for model in models:
        (copied.root / model).unlink()
    done = copied.call(*map(str, models), "--cores", "8", *words)
    assert done.returncode == 0, done.stdout
    told = [line.split() for line in (copied.root / "stub.txt").read_text().splitlines()]
    spans = [(float(begun), float(ended), name) for begun, ended, name in told]
    assert len(spans) == 3
    provided = re.search(r"^Provided resources: gpu=Resource\(\"gpu\", (\d+)\)", done.stdout, re.MULTILINE)
    assert (provided and int(provided[1])) == (together if gpus else None)
    at_once = [[other[2] for other in spans if other[0] <= begun < other[1]] for begun, _, _ in spans]
    assert max(map(len, at_once)) == together
    if gpus:
        assert all(len(set(names)) == len(names) for names in at_once)
    assert {name for *_, name in spans} == ({"GPU-0", "GPU-1"} if together == 2 else {"GPU-0"} if gpus else {"None"})


GPU_RULES = {"projection", "features", "train", "estep_maps", "score"}


@pytest.fixture
def wordy(tmp_path: Path, project_root: Path) -> Project:
    """A project whose dry runs tell of each job all that Snakemake knows, in place of its message."""
    project = Project(tmp_path, project_root)
    for path in (project.root / "workflow/rules").glob("*.smk"):
        path.write_text(re.sub(r"^    message:\n.*\n", "", path.read_text(), flags=re.MULTILINE))
    return project


def asked(printed: str) -> dict[str, dict[str, str]]:
    """Rule -> the resources that its jobs ask for, of a dry run; those of the last job."""
    found = {}
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", printed, re.MULTILINE):
        listed = re.search(r"^    resources: (.*)$", block, re.MULTILINE)
        found[rule] = dict(part.split("=", 1) for part in listed[1].split(", ")) if listed else {}
    return found


def test_rules_ask_for_a_gpu_if_they_use_one_and_for_what_they_need(wordy: Project) -> None:
    jobs = asked(wordy.snakemake("--dry-run", "--cores", "2", config=bring("voc-subset", wordy)))
    for config in (("study=demo",), TINY):
        jobs |= asked(wordy.snakemake("--dry-run", "--cores", "2", config=config))
    jobs |= asked(wordy.snakemake(str(StudyPaths("tiny").run("strong_12031_test", 0).submission), "--dry-run"))
    assert {rule for rule, resources in jobs.items() if "gpu" in resources} == GPU_RULES
    assert set(jobs) >= RULES and all(jobs[rule]["gpu"] == "1" for rule in GPU_RULES)
    assert all({"mem_mb", "runtime"} <= set(resources) for rule, resources in jobs.items() if rule in RULES)
    # VGG-16 whole with the paper's mini-batch, on a GPU and on a CPU.
    whole = asked(wordy.snakemake("em_fixed_weak", "--dry-run", "--cores", "2", config=bring("voc", wordy)))
    assert int(whole["train"]["mem_mb"]) > 8000 and int(whole["train"]["runtime"]) < 1000
    on_device = yaml.safe_load((wordy.root / "config/studies/voc.yaml").read_text()) | {"compute": {"crf": "device"}}
    (wordy.root / "config/studies/voc.yaml").write_text(yaml.safe_dump(on_device))
    jobs = asked(wordy.snakemake("em_fixed_weak", "--dry-run", "--cores", "2", config=bring("voc", wordy)))
    assert jobs["tune_crf"]["gpu"] == jobs["evaluate"]["gpu"] == "1"
    slow = (*bring("voc", wordy), "allow_cpu=true")
    slowly = asked(wordy.snakemake("em_fixed_weak", "--dry-run", "--cores", "2", config=slow))
    assert int(slowly["train"]["runtime"]) > 287 * 60


def test_jobs_that_read_the_principal_axes_name_them(wordy: Project) -> None:
    """The tiny study has none, so that no job of it fails without."""
    printed = wordy.snakemake("--dry-run", config=("study=demo",))
    jobs = re.findall(r"^rule (\w+):\n    input: (.*)$", printed, re.MULTILINE)
    axes = str(StudyPaths("demo").projection)
    readers = {rule for rule, inputs in jobs if axes in inputs.split(", ")}
    others = {rule for rule, inputs in jobs if axes not in inputs.split(", ")}
    assert readers == {"features", "train", "estep_maps"} and not readers & others


def test_what_needs_a_network_runs_where_snakemake_runs(wordy: Project) -> None:
    """On a cluster; in a dry run every rule is a local one."""
    with (wordy.root / "Snakefile").open("a", encoding="utf-8") as snakefile:
        snakefile.write("\nprint('local:', sorted(workflow._localrules))\n")
    for study, local in (("voc", ["data", "weights"]), ("voc-subset", ["weights"]), ("demo", ["weights"])):
        assert f"local: {local}\n" in wordy.snakemake("--list-target-rules", config=(f"study={study}",))


def test_partitions_stand_in_one_place(project_root: Path) -> None:
    text = (project_root / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8")
    profile = yaml.safe_load(text)
    assert set(profile["set-resources"]) == GPU_RULES
    assert {row["slurm_partition"] for row in profile["set-resources"].values()} == {"gpu"}
    assert len(re.findall(r"^ *slurm_partition:", text, re.MULTILINE)) == 2
    assert profile["apptainer-args"] == "--nv"


SBATCH = """#!/bin/sh
printf '%s\\n' "$(echo "$@" | tr '\\n' ' ' | sed 's/--wrap.*//')" >> sbatch.txt
echo $$
"""


@pytest.mark.skipif(find_spec("snakemake_executor_plugin_slurm") is None, reason="envs/slurm.txt is not installed")
def test_slurm_gives_a_gpu_to_each_job_that_asks_and_to_no_other(copied: Project, tmp_path: Path) -> None:
    """An `sbatch` that notes what it is asked for, and runs nothing."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "sacct", "squeue", "sinfo", "scontrol", "sshare", "sacctmgr", "scancel"):
        (commands / name).write_text(SBATCH if name == "sbatch" else "#!/bin/sh\n", encoding="utf-8")
        (commands / name).chmod(0o755)
    files = StudyPaths("tiny")
    wanted = {  # files that are made of what is there, so that their jobs wait for no other
        "train": files.run("em_adapt_weak", 0).model,
        "estep_maps": files.run("bbox_em_fixed_weak", 0).estep_maps,
        "tune_crf": files.run("strong_1464", 0).crf,
        "evaluate": files.run("strong_1464", 1).metrics,
        "score": files.run("bbox_seg_semi", 0).scores,
    }
    for path in wanted.values():
        (copied.root / path).unlink()
    environment = copied.environment | {
        "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    words = ["--workflow-profile", "workflow/profiles/slurm", *map(str, wanted.values()), "--config", *TINY]
    noted = copied.root / "sbatch.txt"
    with subprocess.Popen(
        [sys.executable, "-m", "snakemake", *words], cwd=copied.root, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
            if noted.exists() and noted.read_text().count("\n") >= len(wanted):
                break
        os.killpg(process.pid, signal.SIGKILL)
        printed = process.stdout.read() if process.stdout else ""
    submitted = {}
    for line in noted.read_text().splitlines() if noted.exists() else []:
        rule = re.search(r"--comment \'?rule_(\w+?)(_wildcards|\'| )", line)
        assert rule is not None, line
        submitted[rule[1]] = line
    assert set(submitted) == set(wanted), printed
    for rule, line in submitted.items():
        assert ("--gpus=1" in line) == (rule in GPU_RULES), line
        assert (" -p gpu " in line) == (rule in GPU_RULES) and (" -p cpu " in line) == (rule not in GPU_RULES), line
    assert "--mem 2500" in submitted["train"]
