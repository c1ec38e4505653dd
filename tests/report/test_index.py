"""The index page and the collection of reference results."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from weakseg.config import load_study
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths
from weakseg.report import reference
from weakseg.report.index import write_index
from weakseg.report.notes import about, comparison, differences
from weakseg.report.pages import PAGES
from weakseg.report.provenance import gather_provenance
from weakseg.report.reference import collect_reference
from weakseg.report.results import StudyResults
from weakseg.report.tables import read_table


class Links(HTMLParser):
    """Addresses of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def reported(finished, tmp_path):
    """The finished study with pages, free to be changed."""
    shutil.copytree(finished.paths.root, tmp_path / "results" / "fabricated")
    paths = StudyPaths("fabricated", tmp_path / "results")
    for name in (*PAGES, "own_page"):
        (paths.report / f"{name}.html").parent.mkdir(exist_ok=True)
        (paths.report / f"{name}.html").write_text("<p>page</p>")
    results = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    write_index(results.study, paths, results.config_dir)
    return results


def test_links_lead_somewhere(reported):
    page = Links((reported.paths.report / "index.html").read_text())
    pages = [address for address in page.addresses if not address.startswith("data:")]
    assert pages == [*(f"{name}.html" for name in PAGES), "own_page.html"]
    assert all((reported.paths.report / address).is_file() for address in pages)


def test_index_needs_nothing_from_elsewhere(reported):
    text = (reported.paths.report / "index.html").read_text()
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", text)
    assert "<script" not in text
    assert "@import" not in text
    assert len(text) < 1_500_000


def test_index_shows_table_orders_and_provenance(reported):
    text = Links((reported.paths.report / "index.html").read_text()).text
    for shown in ("31.0 ± 1.0", "−7.2", "67.6", "6 of 6 hold", "50 images, 20 of them in train", "weakseg 0.1.0"):
        assert shown in text
    assert "20.0 minutes for 20 runs, on CPU" in text  # 20 runs of 60 s
    assert "9 of 9 hold" in text


def test_failed_orders_stand_out(reported):
    path = reported.paths.table("table1")
    path.write_text(path.read_text().replace(",55.000,", ",45.000,"))
    write_index(reported.study, reported.paths, reported.config_dir)
    text = (reported.paths.report / "index.html").read_text()
    assert "4 of 6 hold" in text
    assert text.count('<td class="text fails">no</td>') == 2


def test_study_texts_are_escaped(reported):
    study = reported.study.model_copy(update={"description": "<b>bold</b> & more"})
    write_index(study, reported.paths, reported.config_dir)
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in (reported.paths.report / "index.html").read_text()


def test_index_without_table(reported):
    reported.paths.table("table1").unlink()
    with pytest.raises(WeaksegError, match="no such table"):
        write_index(reported.study, reported.paths, reported.config_dir)


def test_provenance_says_no_path(reported, finished):
    facts = gather_provenance(reported)
    text = json.dumps(facts)
    for place in (str(finished.config_dir.parent), str(Path.home()), str(Path(__file__).parents[2])):
        assert place not in text
    assert facts["train_seconds_total"] == 20 * 60
    assert [run["config_hash"] for run in facts["runs"][:2]] == ["em_fixed_weak-0", "em_fixed_weak_largefov-0"]
    assert facts["data"]["counts"] == {"train": 20, "train_aug": 50, "val": 12, "crf_val": 1}
    commit = facts["reported"]["commit"]
    assert commit is None or re.fullmatch("[0-9a-f]{40}", commit)
    assert facts["reported"]["packages"]["numpy"]


def test_provenance_of_an_untrained_run(reported):
    reported.paths.run("strong_1464", 0).config.unlink()
    with pytest.raises(WeaksegError, match="run strong_1464, seed 0 is not trained"):
        gather_provenance(reported)


def test_what_is_said_of_a_small_study(finished):
    text = comparison(finished)
    for said in ("50 training images instead of 10,582", "not VGG-16", "tries 12 parameter sets", "without a ±"):
        assert said in text
    assert "50 for training (20 of them in `train`), 12 in `val`" in about(finished)


def test_what_is_said_of_the_paper_s_setting(finished, tmp_path, project_root):
    study = load_study("voc", project_root / "config")
    crf = study.crf.model_copy(update={"refine_rounds": 1})
    paths = StudyPaths("voc", tmp_path)
    paths.manifest.parent.mkdir(parents=True)
    counts = {"train": 1464, "train_aug": 10582, "val": 1449, "crf_val": 100}
    paths.manifest.write_text(json.dumps({"root": "x", "counts": counts, "crf_val": []}))
    entry = {"size": [9, 9], "source": "instances", "boxes": []}
    paths.boxes.parent.mkdir(parents=True)
    paths.boxes.write_text(json.dumps({"facts": {}, "images": {"a": entry, "b": entry}}))
    seeds = {"seeds": (0, 1), "seeds_for": {}}
    results = StudyResults(study.model_copy(update={"crf": crf, **seeds}), finished.experiments, paths, tmp_path)
    assert differences(results) == []
    paths.boxes.write_text(json.dumps({"facts": {}, "images": {"a": entry, "b": {**entry, "source": "xml"}}}))
    assert "The boxes of 1 of 2 images come from XML" in differences(results)[0]
    scenes = load_study("demo", project_root / "config")
    assert "generated scenes" in differences(StudyResults(scenes, finished.experiments, paths, tmp_path))[0]


def test_reference_holds_every_run(reported, tmp_path):
    out = tmp_path / "reference"
    (out / "fabricated").mkdir(parents=True)
    (out / "fabricated" / "notes.txt").write_text("mine")
    collect_reference(reported.study, reported.paths, reported.config_dir, out)
    target = out / "fabricated"
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert names == {
        "table1.csv", "table1.md", "metrics.csv", "per_class.csv", "crf_grid.csv", "training.csv", "provenance.json",
        "table3.csv", "table3.md", "bbox_seg_grid.csv", "label_quality.csv", "figures/alpha.png", "figures/figure4.jpg",
        "notes.txt", "figures/iou_vs_strong.png", "figures/qualitative.jpg", "figures/failures.jpg",
        *(f"report/{name}.html" for name in (*PAGES, "own_page", "index")),
    }  # fmt: skip
    # Copied figures are the study's own.
    pd.testing.assert_frame_equal(pd.read_csv(target / "table1.csv"), read_table(reported.paths, "table1"))
    grid = pd.read_csv(target / "crf_grid.csv")
    assert grid.groupby(["experiment", "seed"]).size().tolist() == [12] * 20
    assert len(pd.read_csv(target / "per_class.csv")) == 20 * 21
    assert (target / "notes.txt").read_text() == "mine"
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) < 3_000_000


def test_reference_of_an_unfinished_study(reported, tmp_path):
    reported.paths.run("strong_1464", 0).per_class.unlink()
    with pytest.raises(WeaksegError, match=r"per_class.csv: no such file"):
        collect_reference(reported.study, reported.paths, reported.config_dir, tmp_path / "reference")
    (reported.paths.report / "index.html").unlink()
    with pytest.raises(WeaksegError, match=r"index.html: no such page"):
        collect_reference(reported.study, reported.paths, reported.config_dir, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_pages_that_are_too_large_are_refused(reported, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "LARGEST_PAGE", 1000)
    with pytest.raises(WeaksegError, match=r"index.html: [\d,]+ bytes, and a page that is kept may have 1,000"):
        collect_reference(reported.study, reported.paths, reported.config_dir, tmp_path / "reference")
