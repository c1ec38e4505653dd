"""Notebooks: committed empty, driven by parameters, and running on a finished study."""

import ast
import json
import os
from pathlib import Path

import IPython.display
import nbformat
import pytest
from nbconvert import HTMLExporter

from report.tree import make_config
from weakseg.report.findings import write_findings
from weakseg.report.pages import files_read, read_page
from weakseg.report.results import open_results
from weakseg.report.tables import write_table

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook(project_root):
    return lambda name: nbformat.read(project_root / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_outputs(notebook, name):
    for cell in notebook(name).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_named_and_empty(notebook, name):
    cells = [cell for cell in notebook(name).cells if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in cells] == ["study = None\nresults = None\nconfig_dir = None\nfiles = None"]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_report_room_is_imported(notebook, name):
    for cell in notebook(name).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                modules = [node.module] if isinstance(node, ast.ImportFrom) else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for module in modules:
                    assert not module.startswith("weakseg") or module.startswith(("weakseg.report", "weakseg.labels"))


@pytest.mark.parametrize("name", NAMES)
def test_back_to_the_index(notebook, name):
    first = notebook(name).cells[0].source
    assert first.startswith("# ")
    assert "](index.html)" in first


# What each page shows: tables, pictures (figures as SVG, photos as JPEG), and a text that only a right figure gives.
SHOWN = {
    "table1": (2, 1, 0, "31.0 ± 1.0"),
    "table2": (2, 1, 0, "by others (Pathak 2014); weak 10k"),
    "table4": (2, 1, 0, "by others; strong 1.4k (+MCG); boxes 9k"),
    "table5": (3, 1, 0, ">+3.0<"),
    "fields_of_view": (1, 0, 0, "receptive field (px)"),
    "table6": (1, 1, 0, "7 images of this study&#39;s list test stand in for it"),
    "iou_vs_strong": (0, 1, 0, "tries 12 parameter sets"),
    "table3": (4, 1, 1, ">52.0</a> vs "),
    "annotation_cost": (1, 0, 0, "40.8"),
    "figure4": (0, 0, 1, "tries 12 parameter sets"),
    "boxes": (2, 1 + 1, 1, "72.6"),
    "per_class": (0, 1 + 2 + 1, 0, "Strong 10,582, seed 0"),
    "qualitative": (0, 0, 2, "Strong 10,582, seed 0"),
    "crf_grid": (1, 1, 0, "12 parameter sets on 1 held-out images"),
    "training_curves": (1, 2, 0, "EM-Fixed (Semi) 1,464+9,118"),
}


FEW = [
    "em_fixed_weak", "em_adapt_weak", "em_fixed_semi_1464_9118", "strong_10582", "bbox_rect_weak", "bbox_em_fixed_weak",
    "bbox_seg_semi",
]  # fmt: skip


@pytest.fixture(scope="module")
def few(finished, project_root, tmp_path_factory):
    """The finished study with a few of its experiments, since drawing is most of a page's time."""
    root = tmp_path_factory.mktemp("few")
    report = {"qualitative_images": 2, "box_images": 1}
    dataset = finished.study.dataset.model_dump(mode="json")
    make_config(root / "config", project_root, dataset=dataset, experiments=FEW, report=report)
    (root / "results" / "fabricated").mkdir(parents=True)
    for name in ("data", "annotations", "runs"):
        (root / "results" / "fabricated" / name).symlink_to(finished.paths.root / name)
    results = open_results("fabricated", root / "results", root / "config")
    for table in results.tables:
        write_table(results.study, results.paths, results.config_dir, table)
    write_findings(results.study, results.paths, results.config_dir)
    return results


@pytest.fixture
def seen(few, second, notebook, tmp_path, monkeypatch, project_root):
    """Show what a notebook shows when it finds no other files than those that it says it reads.

    All cells share one name space; the workflow runs the same notebooks through papermill.
    """

    def run(name):
        page = read_page(project_root / "notebooks" / f"{name}.ipynb")
        of = second if name in ("table2", "table4", "table5", "table6") else few
        links = []
        for read in files_read(page.reads, of.study, of.experiments, of.paths):
            link = tmp_path / "fabricated" / read.relative_to(of.paths.root)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(read)
            links.append(str(link))
        given = {
            "study": "fabricated", "results": str(tmp_path), "config_dir": str(of.config_dir), "files": links,
        }  # fmt: skip
        shown: list[str] = []
        monkeypatch.setattr(IPython.display, "display", lambda thing: shown.append(thing.data))
        space: dict[str, object] = {}
        for cell in notebook(name).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, f"{name}.ipynb", "exec"), space)
                if "parameters" in cell.metadata.get("tags", []):
                    space.update(given)
        return "\n".join(shown)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_shows_a_finished_study_from_the_files_that_it_names(name, seen):
    html = seen(name)
    tables, figures, photos, text = SHOWN[name]
    assert html.count("<table ") == tables
    assert html.count('<img src="data:image/svg+xml;') == figures
    assert html.count('<img src="data:image/jpeg;') == photos
    assert text in html
    assert html.startswith("**Study fabricated.**") and "## Compared with the paper" in html


def test_unset_parameters_are_refused(notebook):
    cells = [cell.source for cell in notebook("table1").cells if cell.cell_type == "code"]
    space: dict[str, object] = {}
    with pytest.raises(ValueError, match="parameter study is not set"):
        for source in cells[:2]:
            exec(source, space)


def page(project_root, outputs):
    """A page made of one code cell with these outputs, by the report's template."""
    cell = nbformat.v4.new_code_cell("secret = 1", outputs=outputs, execution_count=1)
    title = nbformat.v4.new_markdown_cell("# Title\n\n[Back](index.html), and $x$")
    document = nbformat.v4.new_notebook(cells=[title, cell], metadata={"title": "A & B"})
    exporter = HTMLExporter(
        template_name="page",
        template_file="notebook.html.j2",
        extra_template_basedirs=[os.fspath(project_root / "src" / "weakseg" / "report")],
        exclude_input=True,
    )
    return exporter.from_notebook_node(document)[0]


def test_pages_need_nothing_from_elsewhere(project_root):
    html = page(project_root, [nbformat.v4.new_output("display_data", data={"text/html": "<p>shown</p>"})])
    assert "<p>shown</p>" in html
    assert "secret" not in html
    assert "<script src" not in html
    assert "http" not in html
    assert "<title>weakseg: A &amp; B</title>" in html
    assert (project_root / "src/weakseg/report/page/report.css").read_text().splitlines()[0] in html


def test_what_a_notebook_prints_is_not_on_its_page(project_root):
    html = page(project_root, [nbformat.v4.new_output("stream", name="stderr", text="FutureWarning: old")])
    assert "FutureWarning" not in html


def test_notebooks_are_small_and_valid(project_root):
    for name in NAMES:
        path = project_root / "notebooks" / f"{name}.ipynb"
        assert path.stat().st_size < 20_000
        nbformat.validate(json.loads(path.read_text()))
