"""The report of results that were collected for `results/reference`, drawn anew: no training, no photos."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_text
from weakseg.report.index import write_index
from weakseg.report.pages import GALLERY, PICTURES, files_read, read_pages, shown_pages
from weakseg.report.restore import restore_results
from weakseg.report.results import StudyResults

TEMPLATES = Path(__file__).parent


def redraw_report(reference: str | Path, out: str | Path, notebooks: str | Path = "notebooks") -> dict[str, str]:
    """Draw the pages of a study from what `collect_reference` kept of it, to `{out}/{study}/report/`.

    Photos and label maps are not kept: their pictures are taken from the pages that are. A page that reads something
    else that is not kept is taken over as it is.

    Args:
        reference: the folder of the study's kept results.
        out: a folder of results; a study of this name in it is replaced.
        notebooks: the pages.

    Returns:
        The pages that could not be drawn, and why.

    Raises:
        WeaksegError: `reference` holds no such results, or a notebook fails.
    """
    results = restore_results(reference, out)
    pages = read_pages(notebooks)
    folder = results.paths.report
    lacking = {}
    with _kernel() as kernel:
        for name in shown_pages(pages, results.study, results.experiments):
            notebook, executed = Path(notebooks, f"{name}.ipynb"), folder / "notebooks" / f"{name}.ipynb"
            html = folder / f"{name}.html"
            if reason := _lacks(results, name, pages[name].reads):
                lacking[name] = reason
                kept = Path(reference, "report", html.name)
                if kept.is_file():
                    shutil.copyfile(kept, html)
                    executed.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(notebook, executed)  # its metadata tell the index the page's title
            else:
                _draw(notebook, executed, html, results, kernel)
    gallery = Path(reference, "report", f"{GALLERY}.html")
    if gallery.is_file():
        lacking[GALLERY] = "it shows photos and label maps, not kept"
        shutil.copyfile(gallery, folder / gallery.name)
    write_index(results.study, results.paths, results.config_dir)
    return lacking


def _lacks(results: StudyResults, page: str, reads: tuple[str, ...]) -> str:
    """What a page reads that is not kept; empty where it can be drawn."""
    shown = results.paths.picture(page, 1).is_file()
    names = [name for name in reads if not (name in PICTURES and shown)]
    missing = [
        name
        for name in names
        if not all(path.exists() for path in files_read([name], results.study, results.experiments, results.paths))
    ]
    return f"it reads {', '.join(missing)}, not kept" if missing else ""


@contextmanager
def _kernel() -> Iterator[Any]:
    """One kernel for all notebooks, without the user's own settings: most of a page's time are its imports."""
    from jupyter_client.manager import KernelManager

    kernel = KernelManager(kernel_name="python3", transport="ipc")
    with TemporaryDirectory() as settings:
        own = {"IPYTHONDIR": settings, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        kernel.start_kernel(env={**os.environ, **own})
        try:
            yield kernel
        finally:
            kernel.shutdown_kernel(now=True)


def _draw(notebook: Path, executed: Path, html: Path, results: StudyResults, kernel: Any) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    parameters = {
        "study": str(results.config_dir / "studies" / f"{results.study.name}.yaml"),
        "results": str(results.paths.results),
        "config_dir": str(results.config_dir),
        "files": [],
    }
    page = parameterize_notebook(load_notebook_node(str(notebook)), parameters)
    # Nothing that a page before defined is left.
    page.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    try:
        NotebookClient(page, km=kernel, timeout=600).execute()
    except CellExecutionError as error:
        raise WeaksegError(f"{notebook}: a cell fails; mend it and draw again\n{error}") from None
    exporter = HTMLExporter(
        template_name="page",
        template_file="notebook.html.j2",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input=True,
    )
    with atomic_path(executed) as temporary:
        nbformat.write(page, temporary)
    atomic_write_text(html, exporter.from_notebook_node(page, {"metadata": {"name": notebook.stem}})[0])
