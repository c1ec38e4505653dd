"""What the tiny study left behind, when `make test` has run it: every file is there and says what it should."""

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planning import snakemake
from safetensors import safe_open
from safetensors.numpy import load_file

from weakseg import cli
from weakseg.config import Experiment, Study, load_study, study_experiments
from weakseg.data.dataset import open_data
from weakseg.evaluate.submission import FOLDER, check_submission
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


@pytest.fixture(scope="module")
def lists(paths: StudyPaths) -> dict[str, list[str]]:
    """The study's own images by what they are for."""
    return json.loads(paths.manifest.read_text(encoding="utf-8"))["lists"]


@pytest.mark.parametrize("dataset", [None, "coco"])
def test_manifest_counts_what_the_study_asked_for(study: Study, paths: StudyPaths, dataset: str | None) -> None:
    manifest = json.loads(paths.of_dataset(dataset).manifest.read_text(encoding="utf-8"))
    scenes = study.of_dataset(dataset).dataset.scenes
    assert scenes is not None
    expected = {
        "pixel_labelled": scenes.train,
        "training": scenes.train_aug,
        "evaluation": scenes.val,
        "held_out": scenes.crf_val,
        **({"test": scenes.test} if dataset is None else {}),
    }
    assert manifest["counts"] == expected
    assert {role: len(ids) for role, ids in manifest["lists"].items()} == expected


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
        # Of two test photos none is one of those that the CRF was tuned on.
        of_test = experiment.stage == "test"
        assert metrics["images"] == ({"val": 2, "untuned_val": 2} if of_test else {"val": 4, "untuned_val": 2})
        assert metrics.get("stage", "val") == experiment.stage
        # Of two data sets the other one's images are counted.
        drawn = [s for s in experiment.streams if s.dataset is not None] or experiment.streams
        counted = {stream.is_strong for stream in drawn}
        assert (metrics["strong"] > 0, metrics["weak"] > 0) == (True in counted, False in counted)
        per_class = pd.read_csv(run.per_class)
        assert list(per_class["class"]) == list(VOC.names)
        for name in ("dcnn", "crf"):
            assert 0 <= metrics[name]["val"]["iou"] <= 100
            # The mean of the per-class table, whose figures are rounded to three decimals.
            assert metrics[name]["val"]["iou"] == pytest.approx(per_class[f"iou_{name}"].mean(), abs=1e-3)


def test_seeds_differ(paths: StudyPaths) -> None:
    first, second = (load_file(paths.run("strong_1464", seed).model) for seed in (0, 1))
    assert first.keys() == second.keys() and not all(np.array_equal(first[key], second[key]) for key in first)


def test_branches_are_added_to_a_run_that_stays_as_it_is(paths: StudyPaths) -> None:
    start, whole = (load_file(paths.run(name, 0).model) for name in ("strong_12031_test", "strong_12031_msc_test"))
    added = whole.keys() - start.keys()
    assert start.keys() < whole.keys() and all(name.startswith("branches.") for name in added)
    for name, values in start.items():
        assert values.dtype == whole[name].dtype and values.tobytes() == whole[name].tobytes(), name
    learnt = [name for name in added if name.endswith("classifier.bias")]  # which start at 0
    assert learnt and all(whole[name].any() for name in learnt)


def test_crf_winner_is_the_best_of_the_grid(runs: list[tuple[Experiment, int, RunPaths]]) -> None:
    for experiment, _, run in runs:
        if experiment.stage == "test":
            continue
        grid, winner = pd.read_csv(run.crf_grid), json.loads(run.crf.read_text(encoding="utf-8"))
        assert set(grid["stage"]) == {"coarse", "fine"}
        best = grid.loc[grid["iou"].idxmax()]
        assert winner["iou"] == pytest.approx(best["iou"])
        names = ["w", "sigma_xy", "sigma_rgb", "w_pos", "sigma_pos"]
        assert [winner[name] for name in names] == list(best[names])


def test_the_second_stage_takes_the_crf_of_the_run_it_goes_back_to(
    paths: StudyPaths, runs: list[tuple[Experiment, int, RunPaths]]
) -> None:
    of_test = [(experiment, run) for experiment, _, run in runs if experiment.stage == "test"]
    assert [experiment.id for experiment, _ in of_test] == ["strong_12031_test", "strong_12031_msc_test"]
    winner = json.loads(paths.run("strong_10582", 0).crf.read_text(encoding="utf-8"))
    for _, run in of_test:
        assert not run.crf.exists() and not run.crf_grid.exists()
        assert json.loads(run.metrics.read_text(encoding="utf-8"))["crf_params"] == winner


def test_confusions_count_the_pixels_of_the_scored_list(
    runs: list[tuple[Experiment, int, RunPaths]], lists: dict[str, list[str]]
) -> None:
    for experiment, _, run in runs:
        totals = {pd.read_csv(run.confusion(crf=crf), index_col=0).to_numpy().sum() for crf in (True, False)}
        # Both see the same pixels, void left out: no more than photos of 48 x 64.
        assert len(totals) == 1 and 0 < totals.pop() <= len(lists[experiment.scored]) * 48 * 64


def test_label_maps_are_palette_images_of_the_photos_size(
    runs: list[tuple[Experiment, int, RunPaths]], lists: dict[str, list[str]]
) -> None:
    for experiment, _, run in runs:
        wanted = lists["test" if experiment.stage == "test" else "evaluation"]
        for crf in (True, False):
            files = sorted(run.labels(crf=crf).glob("*.png"))
            assert [path.stem for path in files] == sorted(wanted)
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
    assert list(table["seeds"]) == [1, 1, 2, 1]
    assert list(table["iou_crf_sd"].isna()) == [True, True, False, True]
    run = {name: list(pd.read_csv(paths.table(name))["experiment"].dropna()) for name in ("table2", "table3", "table6")}
    assert run == {
        "table2": ["strong_12031_test"],
        "table3": ["bbox_em_fixed_weak", "bbox_seg_semi", "strong_1464", "strong_10582"],
        "table6": ["strong_12031_test", "strong_12031_msc_test"],
    }


def test_table_5_counts_images_of_the_other_data_set(study: Study, paths: StudyPaths) -> None:
    """Those of Cross-Pretrain are its start's: its own run draws from the study's data set alone."""
    scenes = study.other_datasets["coco"].scenes
    assert scenes is not None
    table = pd.read_csv(paths.table("table5")).dropna(subset="experiment").set_index("experiment")
    assert {name: (row["strong"], row["weak"]) for name, row in table.iterrows()} == {
        "strong_10582": (0, 0),
        "coco_em_fixed_semi": (0, scenes.train_aug),
        "coco_cross_pretrain": (scenes.train_aug, 0),
        "coco_alone": (scenes.train_aug, 0),
    }
    own = json.loads(paths.run("coco_cross_pretrain", 0).metrics.read_text(encoding="utf-8"))
    assert study.dataset.scenes is not None and own["strong"] == study.dataset.scenes.train_aug != scenes.train_aug


def test_findings_are_those_of_the_lines_that_were_run(study: Study, paths: StudyPaths) -> None:
    found = pd.read_csv(paths.findings)
    assert set(found["table"]) == {"table1", "table3", "table5"} and set(found["verdict"]) <= {
        "holds",
        "fails",
        "not decided",
    }
    assert set(" ".join(found["lines"]).split()) <= set(study.experiments or ())
    log = (paths.root / "logs" / "findings.log").read_text(encoding="utf-8")
    assert log.startswith("What the paper found, in study tiny: ")


def test_boxes_became_maps_and_were_held_against_the_truth(study: Study, paths: StudyPaths) -> None:
    scenes = study.dataset.scenes
    assert scenes is not None and study.boxes is not None
    for method in ("bbox_rect", "bbox_seg"):
        # The second stage draws from val too.
        assert len(list(paths.box_maps(method).glob("*.png"))) == scenes.train_aug + scenes.val
    grid, winner = pd.read_csv(paths.bbox_seg_grid), json.loads(paths.bbox_seg_params.read_text(encoding="utf-8"))
    assert set(grid["alpha"]) == set(study.boxes.alphas)
    assert winner["iou_foreground"] == pytest.approx(grid["iou_foreground"].max())
    quality = pd.read_csv(paths.label_quality)
    means = quality.groupby(["method", "moment", "at"])["iou"].mean()
    assert means["Bbox-Seg", "fixed", "pixels"] > means["Bbox-Rect", "fixed", "pixels"] > 0
    assert set(quality.loc[quality["method"] == "Bbox-EM-Fixed", "moment"]) == {"start", "middle", "end"}


def test_the_archive_for_the_server_holds_the_label_maps_of_the_test_list(
    paths: StudyPaths, config_dir: Path, lists: dict[str, list[str]], tmp_path: Path
) -> None:
    """Made beside the study's results, which stay as they are."""
    own, made = paths.run("strong_12031_test", 0), StudyPaths("tiny", tmp_path)
    run = made.run("strong_12031_test", 0)
    made.manifest.parent.mkdir(parents=True)
    shutil.copy(paths.manifest, made.manifest)
    shutil.copytree(own.labels(crf=True), run.labels(crf=True))
    words = [
        "submission",
        "--study",
        "tiny",
        "--config-dir",
        str(config_dir),
        "--results",
        str(tmp_path),
        "--experiment",
    ]
    assert cli.main([*words, "strong_12031_test"]) == 0
    check_submission(run.submission, open_data(paths.manifest), lists["test"])
    with tarfile.open(run.submission) as archive:
        packed = {entry.name: archive.extractfile(entry) for entry in archive}
        for image_id in lists["test"]:
            stream = packed.pop(str(FOLDER / f"{image_id}.png"))
            assert stream is not None and stream.read() == (own.labels(crf=True) / f"{image_id}.png").read_bytes()
    assert not packed
    # Of a run that is scored on val there is none, and none where a label map is missing.
    assert cli.main([*words, "strong_10582"]) == 2
    run.submission.unlink()
    (run.labels(crf=True) / f"{lists['test'][0]}.png").unlink()
    assert cli.main([*words, "strong_12031_test"]) == 2 and not run.submission.exists()


def test_each_method_with_an_e_step_has_maps_and_the_run_of_figure_4_is_measured(paths: StudyPaths) -> None:
    for run, images in (("em_adapt_weak", 2), ("em_fixed_semi_1464_9118", 2), ("bbox_em_fixed_weak", 6)):
        assert len(load_file(paths.run(run, 0).estep_maps)) == 3 * 2  # three moments, two images
        assert set(pd.read_csv(paths.run(run, 0).estep_confusion)["images"]) == {images}, run


def test_report_is_whole_and_its_links_lead_somewhere(
    study: Study, paths: StudyPaths, config_dir: Path, project_root: Path
) -> None:
    notebooks = read_pages(project_root / "notebooks")
    shown = shown_pages(notebooks, study, study_experiments(study, config_dir))
    # It runs lines of all tables but one; all other pages are in every study with boxes and an E-step.
    assert notebooks.keys() - set(shown) == {"table4"}
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
        figure = 'src="data:image/' in html or "<svg" in html
        assert figure or page == "fields_of_view", f"{page}: no figure"
        assert "commit " in html and "snakemake " in html, f"{page}: nothing says what made it"


def test_every_job_kept_its_log_and_its_cost(paths: StudyPaths) -> None:
    logs = {path.relative_to(paths.root / "logs").with_suffix("") for path in (paths.root / "logs").rglob("*.log")}
    costs = paths.root / "benchmarks"
    assert logs == {path.relative_to(costs).with_suffix("") for path in costs.rglob("*.tsv")}
    assert Path("train/strong_1464_seed1") in logs
    other = paths.of_dataset("coco").root
    assert {path.stem for path in (other / "logs").glob("*.log")} == {"scenes", "data", "annotate", "features_training"}
    assert {path.stem for path in (other / "benchmarks").glob("*.tsv")} == {
        path.stem for path in (other / "logs").glob("*.log")
    }


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
    assert tables == [
        "fields_of_view: pixel labels",
        "table1: image-level labels",
        "table2: pixel labels, test list",
        "table3: bounding boxes",
        "table5: image-level labels, coco",
        "table6: pixel labels, test list",
    ]
