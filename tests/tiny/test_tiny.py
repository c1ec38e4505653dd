"""What the tiny study left behind, when `make test` has run it: every file is there and says what it should."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planning import snakemake
from safetensors import safe_open
from safetensors.numpy import load_file

from weakseg.config import Experiment, Study, load_study, study_experiments
from weakseg.labels import VOC
from weakseg.paths import RunPaths, StudyPaths
from weakseg.report.pages import read_pages, shown_pages


@pytest.fixture(scope="module")
def config_dir() -> Path:
    return Path(__file__).parent / "config"


@pytest.fixture(scope="module")
def study(config_dir: Path) -> Study:
    return load_study("tiny", config_dir)


@pytest.fixture(scope="module")
def paths() -> StudyPaths:
    """The result files of the tiny study."""
    results = os.environ.get("WEAKSEG_TINY_RESULTS")
    if not results:
        pytest.skip("`make test` runs the tiny study and sets WEAKSEG_TINY_RESULTS to its results")
    return StudyPaths("tiny", Path(results))


@pytest.fixture(scope="module")
def runs(study: Study, paths: StudyPaths, config_dir: Path) -> list[tuple[Experiment, int, RunPaths]]:
    """Every run: experiment, seed, files."""
    rows = study_experiments(study, config_dir)
    return [(row, seed, paths.run(row.id, seed)) for row in rows for seed in study.seeds_of(row.id)]


def test_manifest_counts_what_the_study_asked_for(study: Study, paths: StudyPaths) -> None:
    manifest = json.loads(paths.manifest.read_text(encoding="utf-8"))
    scenes = study.dataset.scenes
    assert scenes is not None
    expected = {
        "pixel_labelled": scenes.train,
        "training": scenes.train_aug,
        "evaluation": scenes.val,
        "held_out": scenes.crf_val,
    }
    assert manifest["counts"] == expected


def test_every_run_went_to_its_end(study: Study, runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for experiment, _, run in runs:
        log = pd.read_csv(run.train_log)
        assert list(log["iteration"]) == list(range(study.solver_of(experiment).iterations))
        assert log["loss"].notna().all()
        with safe_open(run.model, framework="np") as stream:
            assert list(stream.keys())
        assert not run.resume.exists() or not any(run.resume.iterdir())


def test_metrics_belong_to_their_run_and_lie_in_range(runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for experiment, seed, run in runs:
        metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
        assert (metrics["study"], metrics["experiment"], metrics["seed"]) == ("tiny", experiment.id, seed)
        assert metrics["images"] == {"val": 4, "untuned_val": 2}
        assert (metrics["strong"] > 0, metrics["weak"] > 0) == (experiment.strong > 0, experiment.weak > 0)
        per_class = pd.read_csv(run.per_class)
        assert list(per_class["class"]) == list(VOC.names)
        for name in ("dcnn", "crf"):
            assert 0 <= metrics[name]["val"]["iou"] <= 100
            # The mean of the per-class table, whose figures are rounded to three decimals.
            assert metrics[name]["val"]["iou"] == pytest.approx(per_class[f"iou_{name}"].mean(), abs=1e-3)


def test_seeds_differ(paths: StudyPaths) -> None:
    first, second = (load_file(paths.run("strong_1464", seed).model) for seed in (0, 1))
    assert first.keys() == second.keys() and not all(np.array_equal(first[key], second[key]) for key in first)


def test_crf_winner_is_the_best_of_the_grid(runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for _, _, run in runs:
        grid, winner = pd.read_csv(run.crf_grid), json.loads(run.crf.read_text(encoding="utf-8"))
        assert set(grid["stage"]) == {"coarse", "fine"}
        best = grid.loc[grid["iou"].idxmax()]
        assert winner["iou"] == pytest.approx(best["iou"])
        names = ["w", "sigma_xy", "sigma_rgb", "w_pos", "sigma_pos"]
        assert [winner[name] for name in names] == list(best[names])


def test_confusions_count_the_pixels_of_val(runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for _, _, run in runs:
        totals = {pd.read_csv(run.confusion(crf=crf), index_col=0).to_numpy().sum() for crf in (True, False)}
        # Both see the same pixels, void left out: no more than four photos of 48 x 64.
        assert len(totals) == 1 and 0 < totals.pop() <= 4 * 48 * 64


def test_label_maps_are_palette_images_of_the_photos_size(runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for _, _, run in runs:
        for crf in (True, False):
            files = sorted(run.labels(crf=crf).glob("*.png"))
            assert len(files) == 4
            with Image.open(files[0]) as image:
                assert (image.mode, image.size) == ("P", (64, 48))
                assert image.getpalette()[: 3 * len(VOC)] == VOC.palette()[: len(VOC)].reshape(-1).tolist()


def test_table_has_a_line_for_each_experiment(study: Study, paths: StudyPaths, config_dir: Path) -> None:
    rows = study_experiments(study, config_dir)
    # The other lines of the paper stand there too, without a run.
    everything = pd.read_csv(paths.table("table1"))
    assert len(everything) == 10 and everything["published_iou"].notna().all()
    table = everything.dropna(subset="experiment")
    assert list(table["experiment"]) == [row.id for row in rows if row.table == "table1"]
    assert list(table["seeds"]) == [1, 1, 2]
    assert list(table["iou_crf_sd"].isna()) == [True, True, False]
    assert list(pd.read_csv(paths.table("table3"))["experiment"].dropna()) == [
        "bbox_em_fixed_weak", "bbox_seg_semi", "strong_1464",
    ]  # fmt: skip


def test_findings_are_those_of_the_lines_that_were_run(study: Study, paths: StudyPaths) -> None:
    found = pd.read_csv(paths.findings)
    assert set(found["table"]) == {"table1", "table3"} and set(found["verdict"]) <= {"holds", "fails", "not decided"}
    assert set(" ".join(found["lines"]).split()) <= set(study.experiments or ())
    log = (paths.root / "logs" / "findings.log").read_text(encoding="utf-8")
    assert log.startswith("What the paper found, in study tiny: ")


def test_boxes_became_maps_and_were_held_against_the_truth(study: Study, paths: StudyPaths) -> None:
    scenes = study.dataset.scenes
    assert scenes is not None and study.boxes is not None
    for method in ("bbox_rect", "bbox_seg"):
        assert len(list(paths.box_maps(method).glob("*.png"))) == scenes.train_aug
    grid, winner = pd.read_csv(paths.bbox_seg_grid), json.loads(paths.bbox_seg_params.read_text(encoding="utf-8"))
    assert set(grid["alpha"]) == set(study.boxes.alphas)
    assert winner["iou_foreground"] == pytest.approx(grid["iou_foreground"].max())
    quality = pd.read_csv(paths.label_quality)
    means = quality.groupby(["method", "moment", "at"])["iou"].mean()
    assert means["Bbox-Seg", "fixed", "pixels"] > means["Bbox-Rect", "fixed", "pixels"] > 0
    assert set(quality.loc[quality["method"] == "Bbox-EM-Fixed", "moment"]) == {"start", "middle", "end"}


def test_each_method_with_an_e_step_has_maps_and_the_run_of_figure_4_is_measured(paths: StudyPaths) -> None:
    for run, images in (("em_adapt_weak", 2), ("em_fixed_semi_1464_9118", 2), ("bbox_em_fixed_weak", 6)):
        assert len(load_file(paths.run(run, 0).estep_maps)) == 3 * 2  # three moments, two images
        assert set(pd.read_csv(paths.run(run, 0).estep_confusion)["images"]) == {images}, run


def test_report_is_whole_and_its_links_lead_somewhere(
    study: Study, paths: StudyPaths, config_dir: Path, project_root: Path
) -> None:
    notebooks = read_pages(project_root / "notebooks")
    shown = shown_pages(notebooks, study, study_experiments(study, config_dir))
    # It runs lines of two tables; all other pages are in every study with boxes and an E-step.
    assert notebooks.keys() - set(shown) == {"table2", "table4", "table5", "table6"}
    written = {"index", "runs", "gallery"}
    pages = {*shown, *written}
    anchors = set(re.findall(r'id="([^"]+)"', (paths.report / "runs.html").read_text(encoding="utf-8")))
    assert {path.stem for path in paths.report.glob("*.html")} == pages
    for page in pages:
        text = (paths.report / f"{page}.html").read_text(encoding="utf-8")
        assert "Traceback (most recent call last)" not in text
        for link in re.findall(r'href="([^"#:]+)"', text):
            assert (paths.report / link).exists(), f"{page}.html links to {link}"
        assert set(re.findall(r'href="runs.html#([^"]+)"', text)) <= anchors
    for page in pages - written:
        executed = json.loads((paths.report / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))
        assert any(cell.get("outputs") for cell in executed["cells"])
        html = (paths.report / f"{page}.html").read_text(encoding="utf-8")
        assert 'src="data:image/' in html or "<svg" in html, f"{page}: no figure"
        assert "commit " in html and "snakemake " in html, f"{page}: nothing says what made it"


def test_every_job_kept_its_log_and_its_cost(paths: StudyPaths) -> None:
    logs = {path.relative_to(paths.root / "logs").with_suffix("") for path in (paths.root / "logs").rglob("*.log")}
    costs = paths.root / "benchmarks"
    assert logs == {path.relative_to(costs).with_suffix("") for path in costs.rglob("*.tsv")}
    assert Path("train/strong_1464_seed1") in logs


def test_snakemake_s_own_report_lists_tables_and_pages_by_their_titles(
    study: Study, paths: StudyPaths, config_dir: Path, project_root: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    settings = ("study=tiny", f"config_dir={os.path.relpath(config_dir, project_root)}", f"results={paths.results}")
    done = snakemake(["--report", str(report), "--config", *settings], project_root, dict(os.environ))
    assert done.returncode == 0, done.stdout
    said = report.read_text(encoding="utf-8")
    categories, results = (
        json.JSONDecoder().raw_decode(said, said.index(f"var {name} = {{") + len(f"var {name} = "))[0]
        for name in ("categories", "results")
    )
    listed = {kind: [results[name]["labels"] for name in categories[kind]["tiny"]] for kind in categories}
    pages = read_pages(project_root / "notebooks")
    titles = {pages[name].title for name in shown_pages(pages, study, study_experiments(study, config_dir))}
    assert {labels["page"] for labels in listed["Pages"]} == {"Index", "Gallery", *titles}
    tables = sorted(labels["table"] for labels in listed["Tables"])
    assert tables == ["table1: image-level labels", "table3: bounding boxes"]
