"""Notebooks: committed empty, driven by parameters, and running on a finished study."""

import ast
import json
import os

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbconvert import HTMLExporter

from weakseg.report.pages import PAGES

NAMES = sorted(PAGES)


@pytest.fixture
def notebook(project_root):
    return lambda name: nbformat.read(project_root / "notebooks" / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_listed_on_the_index(project_root):
    assert sorted(path.stem for path in (project_root / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_outputs(notebook, name):
    for cell in notebook(name).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_named_and_empty(notebook, name):
    cells = [cell for cell in notebook(name).cells if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.source for cell in cells] == ["study = None\nresults = None\nconfig_dir = None"]


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


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_a_finished_study(notebook, name, finished, capsys):
    """The cells in one name space; the workflow runs the same notebooks through papermill."""
    given = {"study": "fabricated", "results": str(finished.paths.results), "config_dir": str(finished.config_dir)}
    space: dict[str, object] = {}
    for cell in notebook(name).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}.ipynb", "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space.update(given)
    drawn = plt.get_fignums()
    plt.close("all")
    assert drawn or name in ("qualitative", "figure4")  # which hand their figures to the page as photos
    assert "Markdown" in capsys.readouterr().out


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
        extra_template_basedirs=[os.fspath(project_root / "src" / "weakseg" / "report")],
        exclude_input=True,
    )
    return exporter.from_notebook_node(document)[0]


def test_pages_need_nothing_from_elsewhere(project_root):
    html = page(project_root, [nbformat.v4.new_output("display_data", data={"text/html": "<p>shown</p>"})])
    assert "<p>shown</p>" in html
    assert "secret" not in html
    assert "<script" not in html
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
