"""The index page, the page of runs, and the collection of reference results."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from report.tree import write_manifest
from weakseg.config import load_study
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths
from weakseg.report import reference
from weakseg.report.findings import write_findings
from weakseg.report.html import made_of
from weakseg.report.index import index_html, write_index
from weakseg.report.notes import about, comparison, differences, differences_of_runs
from weakseg.report.pages import Page, read_pages
from weakseg.report.pictures import drawn_runs
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


@pytest.fixture(scope="module")
def pages(project_root):
    return read_pages(project_root / "notebooks")


def report_on(finished, root, project_root):
    """The finished study with pages and its index, below `root`."""
    shutil.copytree(finished.paths.root, root / "fabricated")
    paths = StudyPaths("fabricated", root)
    shutil.copytree(project_root / "notebooks", paths.report / "notebooks")
    for name in (*read_pages(project_root / "notebooks"), "own_page", "gallery"):
        (paths.report / f"{name}.html").write_text("<p>page</p>")
    results = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    write_index(results.study, paths, results.config_dir)
    return results


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory, project_root):
    """The finished study with its report; tests do not change it."""
    return report_on(finished, tmp_path_factory.mktemp("reported"), project_root)


@pytest.fixture
def changed(finished, tmp_path, project_root):
    """The same, free to be changed."""
    return report_on(finished, tmp_path / "results", project_root)


def test_links_lead_somewhere(reported, pages):
    page = Links((reported.paths.report / "index.html").read_text())
    addresses = [address for address in page.addresses if not address.startswith("data:")]
    to_pages = [address for address in addresses if not address.startswith("runs.html#")]
    assert to_pages == ["gallery.html", *(f"{name}.html" for name in pages), "own_page.html", "runs.html"]
    assert all((reported.paths.report / address).is_file() for address in to_pages)
    # Every number of a table leads to the anchor of its runs.
    anchors = set(re.findall(r' id="(\w[^"]*)"', (reported.paths.report / "runs.html").read_text()))
    linked = {address.partition("#")[2] for address in addresses if "#" in address}
    assert linked <= anchors and {row.id for row in reported.experiments} <= linked
    for said in ("IOU against pixel labels", "The boxes on images, the search for alpha", "own page"):
        assert said in page.text


@pytest.mark.parametrize("name", ["index.html", "runs.html"])
def test_index_needs_nothing_from_elsewhere(reported, name):
    text = (reported.paths.report / name).read_text()
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", text)
    assert "<script src" not in text
    assert "@import" not in text
    assert len(text) < 1_500_000


def test_index_shows_table_findings_and_provenance(reported):
    text = Links((reported.paths.report / "index.html").read_text()).text
    for shown in (
        "31.0 ± 1.0",
        "−7.2",
        "67.6",
        "17 of 17 findings hold",
        "50 images, 20 of them in train",
        "weakseg 0.1.0",
    ):
        assert shown in text
    assert "20.0 minutes for 20 runs, on CPU" in text  # 20 runs of 60 s
    assert "How well does a network learn to segment" in text and "in 20 runs, on 50 images (rectangles)" in text


def test_failed_findings_stand_out(changed):
    path = changed.paths.run("strong_10582", 0).metrics
    path.write_text(path.read_text().replace('"iou": 55.0', '"iou": 45.0'))
    write_findings(changed.study, changed.paths, changed.config_dir)
    write_index(changed.study, changed.paths, changed.config_dir)
    text = (changed.paths.report / "index.html").read_text()
    assert "13 of 17 findings hold, 4 fail" in text
    assert text.count('<span class="verdict fails">fails</span>') == 4


def test_the_csv_files_are_in_the_page(reported):
    page = Links((reported.paths.report / "index.html").read_text())
    files = [base64.b64decode(address.partition("base64,")[2]) for address in page.addresses if ":text/csv" in address]
    frames = [pd.read_csv(io.BytesIO(content)) for content in files]
    assert [len(frame) for frame in frames] == [17, 12, 8, 20, 20 * 21]
    pd.testing.assert_frame_equal(frames[1], read_table(reported.paths, "table1"))


def test_the_gallery_stands_before_the_other_pages(reported):
    html = index_html(reported, {"a": Page(title="A")})
    assert html.index('href="gallery.html"') < html.index('href="a.html"')


def test_a_figure_says_what_made_it(reported):
    html = (reported.paths.report / "index.html").read_text()
    made = html[html.index('<details class="made">') : html.index("</details>")]
    said = Links(made).text
    assert "snakemake iou_vs_strong --config study=fabricated config_dir=FOLDER results=FOLDER" in said
    assert "commit " in said and "em_adapt_weak, seed 2 em_adapt_wea" in said
    assert "bbox" not in said and said.count("seed") == 14  # 12 lines of Table 1, one of them with three seeds
    one = Links(str(made_of(reported, "figure4", [("strong_1464", 0)]))).text
    assert "strong_1464, seed 0 strong_1464-" in one and "em_adapt" not in one
    shown = drawn_runs(reported, "table3")
    assert ("bbox_seg_semi", 0) in shown and ("bbox_seg_weak", 0) in shown and ("strong_10582", 0) in shown
    assert "before any training" in made_of(reported, "boxes", [])


def test_the_page_of_runs_shows_each(reported):
    html = (reported.paths.report / "runs.html").read_text()
    text = Links(html).text
    assert html.count("<polyline") == 20 and html.count("<section id=") == 18
    row = re.search(r'<tr id="em_adapt_weak-seed2">.*', html)[0]
    cells = re.findall("<td>(.*?)</td>", row)
    assert cells == ["2", "29.0", "32.0", "31.5", "0", "50", "1.0", "CPU", "10, 70, 5", "em_adapt_wea"]
    assert re.search(r"Code: weakseg 0.1.0, commit \w", text)
    for said in ("Table 1 line 9, Table 3 line 7", "as a variant: large FOV", "Loss over 6,000 iterations: "):
        assert said in text
    # The loss of 3 lies near the top, that of 0.5 near the bottom.
    points = [tuple(map(float, point.split(","))) for point in re.search('points="(.*?)"', html)[1].split()]
    assert points[0][1] < 20 < 70 < points[-1][1] and points[-1][0] == 320


def test_the_page_of_runs_without_the_winners_of_the_crf_s_search(changed):
    changed.paths.run("strong_1464", 0).crf.unlink()
    write_index(changed.study, changed.paths, changed.config_dir)
    assert re.search(r'id="strong_1464-seed0">.*<td>–</td>', (changed.paths.report / "runs.html").read_text())


def test_texts_of_a_user_are_escaped(reported):
    dataset = reported.study.dataset.model_copy(update={"name": "<i>mine</i>"})
    changes = {"description": "<b>bold</b> & more", "dataset": dataset}
    results = dataclasses.replace(reported, study=reported.study.model_copy(update=changes))
    html = index_html(results, {"a": Page(title="<u>page</u>", about="<s>about</s>")})
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in html and "&amp;amp;" not in html
    assert not re.search("<[bius]>", html)
    assert not re.search("<[bi]>", about(results))


def test_tables_of_one_s_own_are_shown(with_own):
    rows = {row.id: row for row in with_own.experiments}
    frames = Links(index_html(with_own, {})).text
    assert "Table own" in frames and "Mine" in frames and "17 of 17 findings hold" in frames and len(rows) == 19


def test_index_without_table(changed):
    changed.paths.table("table1").unlink()
    with pytest.raises(WeaksegError, match="no such table"):
        write_index(changed.study, changed.paths, changed.config_dir)


def test_provenance_says_no_path(reported, finished):
    facts = gather_provenance(reported)
    text = json.dumps(facts)
    for place in (str(finished.config_dir.parent), str(Path.home()), str(Path(__file__).parents[2])):
        assert place not in text
    assert facts["train_seconds_total"] == 20 * 60
    assert [run["config_hash"] for run in facts["runs"][:2]] == ["em_fixed_weak-0", "em_fixed_weak_largefov-0"]
    assert facts["data"]["counts"] == {"pixel_labelled": 20, "training": 50, "evaluation": 12, "held_out": 1}
    commit = facts["reported"]["commit"]
    assert commit is None or re.fullmatch("[0-9a-f]{40}", commit)
    assert facts["reported"]["packages"]["numpy"]


def test_provenance_of_an_untrained_run(changed):
    changed.paths.run("strong_1464", 0).config.unlink()
    with pytest.raises(WeaksegError, match="run strong_1464, seed 0 is not trained"):
        gather_provenance(changed)


def test_what_is_said_of_a_small_study(finished):
    text = comparison(finished)
    for said in ("50 training images instead of 10,582", "not VGG-16", "tries 12 parameter sets", "without a ±"):
        assert said in text
    assert "50 for training (20 of them in `train`), 12 in `val`" in about(finished)


def test_what_is_said_of_the_paper_s_setting(finished, tmp_path, project_root):
    study = load_study("voc", project_root / "config")
    crf = study.crf.model_copy(update={"refine_rounds": 1})
    paths = StudyPaths("voc", tmp_path)
    write_manifest(paths, pixel_labelled=1464, training=10582, evaluation=1449, held_out=100)
    entry = {"size": [9, 9], "source": "instances", "boxes": []}
    paths.boxes.parent.mkdir(parents=True)
    paths.boxes.write_text(json.dumps({"facts": {}, "images": {"a": entry, "b": entry}}))
    seeds = {"seeds": (0, 1), "seeds_for": {}}
    results = StudyResults(
        study.model_copy(update={"crf": crf, **seeds}), finished.experiments, paths, finished.config_dir
    )
    assert differences(results) == []
    paths.boxes.write_text(json.dumps({"facts": {}, "images": {"a": entry, "b": {**entry, "source": "xml"}}}))
    assert "The boxes of 1 of 2 images come from XML" in differences(results)[0]
    scenes = load_study("demo", project_root / "config")
    assert "generated scenes" in differences(StudyResults(scenes, finished.experiments, paths, finished.config_dir))[0]


def test_reference_holds_every_run(reported, pages, tmp_path):
    out = tmp_path / "reference"
    (out / "fabricated").mkdir(parents=True)
    (out / "fabricated" / "notes.txt").write_text("mine")
    collect_reference(reported.study, reported.paths, reported.config_dir, out)
    target = out / "fabricated"
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert names == {
        "table1.csv", "table1.md", "metrics.csv", "per_class.csv", "crf_grid.csv", "training.csv", "provenance.json",
        "table3.csv", "table3.md", "bbox_seg_grid.csv", "label_quality.csv", "figures/alpha.png", "figures/figure4.jpg",
        "crf.csv", "confusion.csv", "manifest.json", "boxes.json", "config/studies/fabricated.yaml",
        "config/experiments.yaml", "config/paper.yaml",
        "notes.txt", "figures/iou_vs_strong.png", "figures/qualitative.jpg", "figures/failures.jpg",
        *(f"report/{name}.html" for name in (*pages, "own_page", "gallery", "index", "runs")), "findings.csv",
    }  # fmt: skip
    # Copied figures are the study's own.
    pd.testing.assert_frame_equal(pd.read_csv(target / "table1.csv"), read_table(reported.paths, "table1"))
    grid = pd.read_csv(target / "crf_grid.csv")
    assert grid.groupby(["experiment", "seed"]).size().tolist() == [12] * 20
    assert len(pd.read_csv(target / "per_class.csv")) == 20 * 21
    assert (target / "notes.txt").read_text() == "mine"
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) < 3_000_000


def test_reference_of_an_unfinished_study(changed, tmp_path):
    changed.paths.run("strong_1464", 0).per_class.unlink()
    with pytest.raises(WeaksegError, match=r"per_class.csv: no such file"):
        collect_reference(changed.study, changed.paths, changed.config_dir, tmp_path / "reference")
    (changed.paths.report / "index.html").unlink()
    with pytest.raises(WeaksegError, match=r"index.html: no such page"):
        collect_reference(changed.study, changed.paths, changed.config_dir, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def test_pages_that_are_too_large_are_refused(reported, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "LARGEST_PAGE", 1000)
    with pytest.raises(WeaksegError, match=r"index.html: [\d,]+ bytes, and a page that is kept may have 1,000"):
        collect_reference(reported.study, reported.paths, reported.config_dir, tmp_path / "reference")


def test_a_gallery_that_is_too_large_is_drawn_smaller(changed, tmp_path):
    (changed.paths.report / "gallery.html").write_text("a" * (reference.LARGEST_PAGE + 1))
    collect_reference(changed.study, changed.paths, changed.config_dir, tmp_path / "reference")
    kept = (tmp_path / "reference/fabricated/report/gallery.html").read_text()
    assert len(kept) <= reference.LARGEST_PAGE and 'id="data"' in kept


def test_runs_that_break_the_paper_s_protocol_say_so(changed):
    assert differences_of_runs(changed) == []
    config = changed.paths.run("strong_1464", 0).config
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({**facts, "start": {"layers": ["fc6"], "factors": {}, "breaks_protocol": True}}))
    (said,) = differences_of_runs(changed)
    assert said.startswith(f"fc6 and fc7 started fresh in 1 of {len(changed.runs())} runs and learnt at 1 times")
    assert said in unescape(index_html(changed, {}))
