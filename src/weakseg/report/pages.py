"""The pages of the report: each is a notebook that says of itself what it shows, needs and reads.

It says so in its metadata, under the key `weakseg` (see `Page`). To add a page is to add a notebook.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from weakseg.config import Experiment, Study, estep_runs, shown_run, study_tables
from weakseg.errors import WeaksegError
from weakseg.paths import RunPaths, StudyPaths

GALLERY = "gallery"
"""The page that shows every run's label maps in a browser."""

WITHOUT_NOTEBOOK = ("index", "runs", GALLERY)
"""Pages that a command writes, not a notebook."""

BOX_FILES = ("boxes", "bbox_seg_grid", "label_quality")
ESTEP_FILES = ("estep_maps", "estep_confusion", "estep_config")
FileName = Literal[
    "manifest", "tables", "findings",
    "boxes", "bbox_seg_grid", "label_quality", "box_maps",
    "estep_maps", "estep_confusion", "estep_config",
    "metrics", "per_class", "crf_grid", "config", "crf", "train_log", "confusion", "labels",
]  # fmt: skip
"""What a page can read: files of the study, of its boxes, of the run whose E-step is shown, and of every run."""

PICTURES = ("box_maps", "estep_maps", "labels")
"""Those that only pictures with photos are made of."""

SMALL_FILES: tuple[FileName, ...] = (
    "manifest", "tables", "findings", "metrics", "per_class", "crf_grid", "crf", "train_log", "boxes",
    "bbox_seg_grid", "label_quality",
)  # fmt: skip
"""What the index stands for, and what a notebook reads that does not say what it reads: all but pictures."""


class Page(BaseModel):
    """What a notebook says of itself under the key `weakseg` of its metadata.

    Attributes:
        title: as the index names the page.
        about: what it shows, in a sentence.
        place: the lower, the earlier it stands on the index; pages of one place stand by name.
        needs: a study has the page where it fills each table named here; `boxes` stands for an experiment with boxes,
            `estep` for a run whose E-step is shown.
        reads: the files that the notebook reads. Each stands for all runs, tables or box methods of the study; those
            that begin with `estep_` for the run whose E-step is shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    about: str = ""
    place: int = 1000
    needs: tuple[str, ...] = ()
    reads: tuple[FileName, ...] = SMALL_FILES


def read_page(notebook: Path) -> Page:
    """The page that a notebook makes; one without the key goes by its file's name and is in every study.

    Raises:
        WeaksegError: not a notebook, or metadata that cannot be used.
    """
    try:
        said = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("weakseg", {})
        return Page.model_validate({"title": notebook.stem.replace("_", " "), **said})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise WeaksegError(f"{notebook}: metadata.weakseg: {wrong}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeaksegError(f"{notebook}: not a notebook ({error}); write it with Jupyter, or take it away") from error


def read_pages(folder: str | Path) -> dict[str, Page]:
    """The page of each notebook of a folder by the notebook's name, in the order of reading."""
    return _in_order({path.stem: read_page(path) for path in Path(folder).glob("*.ipynb")})


def shown_pages(pages: Mapping[str, Page], study: Study, experiments: list[Experiment]) -> list[str]:
    """The names of the pages that have something to show of these experiments, in the order given."""
    offered = {*study_tables(experiments)}
    if any(row.label_maps for row in experiments):
        offered.add("boxes")
    if shown_run(study, experiments):
        offered.add("estep")
    return [name for name, page in pages.items() if offered.issuperset(page.needs)]


OF_VAL = ("per_class", "confusion", "crf_grid", "crf", "labels")
"""Files that are read of runs that are scored on val alone: those of stage `test` have other images, or have none."""


def files_read(reads: Sequence[str], study: Study, experiments: list[Experiment], paths: StudyPaths) -> list[Path]:
    """The files of a study that `Page.reads` names; those on boxes are left out where nothing trains with any."""
    boxed = any(row.label_maps for row in experiments)
    shown = shown_run(study, experiments)
    found: list[Path] = []
    for name in reads:
        if name in ("manifest", "findings"):
            found.append(getattr(paths, name))
        elif name == "tables":
            found += [paths.table(table) for table in study_tables(experiments)]
        elif name == "box_maps":
            found += [paths.box_maps(method) for method in ("bbox_rect", "bbox_seg") if boxed]
        elif name in BOX_FILES:
            found += [getattr(paths, name)] if boxed else []
        elif name in ESTEP_FILES:
            found += [getattr(paths.run(*shown), "config" if name == "estep_config" else name)] if shown else []
        else:
            rows = [row for row in experiments if row.stage == "val" or name not in OF_VAL]
            runs = [paths.run(row.id, seed) for row in rows for seed in study.seeds_of(row.id)]
            found += [path for run in runs for path in _run_files(run, name)]
    return found


def gallery_files(study: Study, experiments: list[Experiment], paths: StudyPaths) -> list[Path]:
    """The files that the gallery reads: what `files_read` says of all runs, and the pictures of first seeds."""
    experiments = [row for row in experiments if row.stage == "val"]
    first = [paths.run(row.id, study.seeds_of(row.id)[0]) for row in experiments]
    found = files_read(("manifest", "metrics", "boxes", "box_maps"), study, experiments, paths)
    found += [paths.run(row.id, seed).config for row in experiments for seed in study.seeds_of(row.id)]
    found += [run.labels(crf=crf) for run in first for crf in (True, False)]
    return [*found, paths.image_labels, *(paths.run(*drawn).estep_maps for drawn in estep_runs(study, experiments))]


def _run_files(run: RunPaths, name: str) -> list[Path]:
    file: Any = getattr(run, name)
    return [file(crf=True), file(crf=False)] if callable(file) else [file]


def existing_pages(paths: StudyPaths) -> dict[str, Page]:
    """The pages of the report's folder by name, in the order of reading; what they say is in the executed notebooks."""
    found = {}
    for html in paths.report.glob("*.html"):
        if html.stem not in WITHOUT_NOTEBOOK:
            notebook = paths.report / "notebooks" / f"{html.stem}.ipynb"
            found[html.stem] = read_page(notebook) if notebook.is_file() else Page(title=html.stem.replace("_", " "))
    return _in_order(found)


def _in_order(pages: Mapping[str, Page]) -> dict[str, Page]:
    return {name: pages[name] for name in sorted(pages, key=lambda name: (pages[name].place, name))}
