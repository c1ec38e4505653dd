"""The report of collected results, drawn anew from what was kept of them."""

import base64
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import warm
import yaml

from weakseg.data.box_files import count_boxes
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths
from weakseg.report import box_pages, crf, notes, results
from weakseg.report.provenance import gather_provenance
from weakseg.report.redraw import redraw_report
from weakseg.report.reference import collect_reference
from weakseg.report.restore import restore_results
from weakseg.report.tables import read_table, write_table

PROJECT = Path(__file__).parents[2]
KEPT = sorted(path.name for path in (PROJECT / "results" / "reference").iterdir())


@pytest.fixture(scope="module")
def collected(finished, tmp_path_factory):
    """A finished study, and the folder of what is kept of it."""
    root = tmp_path_factory.mktemp("kept")
    paths = StudyPaths("fabricated", root / "results")
    shutil.copytree(finished.paths.root, paths.root)
    paths.report.mkdir(exist_ok=True)
    (paths.report / "index.html").write_text("<p>index</p>")
    shown = base64.b64encode(b"a photo").decode()
    (paths.report / "figure4.html").write_text(f'<img src="data:image/jpeg;base64,{shown}" alt="">')
    first = paths.run("em_fixed_weak", 0).metrics
    metrics = json.loads(first.read_text())
    metrics["crf"]["val"]["iou_occurring"] = 12.5
    first.write_text(json.dumps(metrics))
    study = results.StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    for table in study.tables:
        write_table(study.study, paths, study.config_dir, table)
    collect_reference(study.study, paths, study.config_dir, root / "reference")
    provenance = root / "reference" / "fabricated" / "provenance.json"
    noted = json.loads(provenance.read_text())
    noted["reported"]["hardware"]["cpu"] = "the machine of the runs"
    provenance.write_text(json.dumps(noted))
    return study, provenance.parent


def test_what_is_kept_says_what_the_results_said(collected, tmp_path):
    finished, kept = collected
    again = restore_results(kept, tmp_path)
    assert (again.study, again.experiments, again.labels) == (finished.study, finished.experiments, finished.labels)
    for read in (
        results.read_metrics, results.read_per_class, results.read_grids, crf.winners, box_pages.read_grid,
        box_pages.read_quality,
    ):  # fmt: skip
        pd.testing.assert_frame_equal(read(again), read(finished), check_dtype=False)
    for table in finished.tables:
        pd.testing.assert_frame_equal(read_table(again.paths, table), read_table(finished.paths, table))
    for with_crf in (True, False):
        matrices = [results.read_confusion(each, "em_adapt_weak", 1, crf=with_crf) for each in (again, finished)]
        pd.testing.assert_frame_equal(*matrices)
    means = [results.read_logs(each, points=5).groupby("experiment")["loss"].mean() for each in (again, finished)]
    pd.testing.assert_series_equal(*means, rtol=0.05)
    assert count_boxes(again.paths.boxes) == count_boxes(finished.paths.boxes)
    assert box_pages.box_facts(again) == box_pages.box_facts(finished)
    assert (notes.about(again), notes.comparison(again)) == (notes.about(finished), notes.comparison(finished))
    assert gather_provenance(again) == json.loads((kept / "provenance.json").read_text())
    assert box_pages.draw_figure4(again) == b"a photo"


@pytest.mark.parametrize("study", KEPT)
def test_committed_results_can_be_restored(study, project_root, tmp_path):
    again = restore_results(project_root / "results" / "reference" / study, tmp_path)
    kept = pd.read_csv(project_root / "results" / "reference" / study / "metrics.csv")
    assert results.read_metrics(again)["iou_crf"].tolist() == kept["iou_crf"].tolist()
    assert results.data_counts(again)["training"] > 0


def test_a_changed_notebook_shows_in_its_page_and_what_is_committed_stays(project_root, tmp_path, monkeypatch):
    """Two notebooks of the committed study: one is changed, one reads what is not kept."""
    reference = tmp_path / "voc-subset"
    shutil.copytree(project_root / "results" / "reference" / "voc-subset", reference)
    (reference / "crf_grid.csv").unlink()
    (reference / "crf.csv").unlink(missing_ok=True)
    trunk = yaml.safe_load((reference / "config" / "studies" / "voc-subset.yaml").read_text())["network"]["trunk"]
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*")}
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    shutil.copy(project_root / "notebooks" / "crf_grid.ipynb", notebooks)
    text = (project_root / "notebooks" / "figure4.ipynb").read_text(encoding="utf-8")
    (notebooks / "figure4.ipynb").write_text(text.replace("Nobody picked", "No one picked"), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(warm.commands()))  # its kernel is forked
    lacking = redraw_report(reference, tmp_path / "out", notebooks)
    assert lacking == {"crf_grid": "it reads crf_grid, crf, not kept"}
    report = tmp_path / "out" / "voc-subset" / "report"
    page = (report / "figure4.html").read_text(encoding="utf-8")
    assert "No one picked" in page and f"Network: {trunk}, output stride" in page and "<code>" in page
    photos = [
        re.findall(r'"data:image/jpeg;base64,([^"]+)"', (folder / "figure4.html").read_text(encoding="utf-8"))
        for folder in (report, reference / "report")
    ]
    assert len(photos[0]) == 1 and photos[0] == photos[1]
    assert (report / "crf_grid.html").read_bytes() == (reference / "report" / "crf_grid.html").read_bytes()
    index = (report / "index.html").read_text(encoding="utf-8")
    assert 'href="figure4.html"' in index and "CRF search" in index
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*")} == before


def test_results_that_are_not_whole_are_named(collected, tmp_path):
    _, kept = collected
    with pytest.raises(WeaksegError, match=r"would replace .*fabricated; name another folder"):
        restore_results(kept, kept.parent)
    assert (kept / "metrics.csv").is_file()
    with pytest.raises(WeaksegError, match=r"nothing/manifest.json: no such file; collect the study again"):
        restore_results(tmp_path / "nothing", tmp_path)
