"""Results that were collected for `results/reference`, laid out again as the files of a study."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import load_study, reported_experiments
from weakseg.errors import WeaksegError
from weakseg.files import atomic_path, atomic_write_json
from weakseg.paths import RunPaths, StudyPaths
from weakseg.report.findings import write_findings
from weakseg.report.pages import WITHOUT_NOTEBOOK
from weakseg.report.results import StudyResults
from weakseg.report.tables import write_table

OF_STUDY = {
    "manifest.json": "manifest",
    "boxes.json": "boxes",
    "bbox_seg_grid.csv": "bbox_seg_grid",
    "label_quality.csv": "label_quality",
    "provenance.json": "provenance",
}
"""Kept files that are the study's own, by the names of `StudyPaths`."""

OF_RUNS = {"per_class.csv": "per_class", "crf_grid.csv": "crf_grid", "training.csv": "train_log"}
"""Kept frames over all runs, by the names of `RunPaths` for each run's part."""

KEYS = ["experiment", "label", "kind", "annotation", "seed"]
"""Columns of such a frame that say whose row it is."""


def restore_results(reference: str | Path, out: str | Path) -> StudyResults:
    """Write to `{out}/{study}/` the files of a study that `reference.collect_reference` kept something of.

    Photos, label maps, scores and models are not among them. A training log has a row a block of iterations. Pictures
    with photos lie in `report/pictures/`, cut out of the kept pages.

    Args:
        reference: the folder of the study's kept results.
        out: a folder of results; a study of this name in it is replaced.

    Raises:
        WeaksegError: a file is missing or cannot be used.
    """
    kept = Path(reference)
    for name in ("manifest.json", "metrics.csv", "provenance.json", f"config/studies/{kept.name}.yaml"):
        if not (kept / name).is_file():
            raise WeaksegError(
                f"{kept / name}: no such file; collect the study again with `weakseg reference --study {kept.name}`"
            )
    paths = StudyPaths(kept.name, Path(out))
    if kept.resolve() == paths.root.resolve():
        raise WeaksegError(f"--out {out}: would replace {kept}; name another folder")
    shutil.rmtree(paths.root, ignore_errors=True)
    config_dir = paths.root / "config"
    shutil.copytree(kept / "config", config_dir)
    study = load_study(config_dir / "studies" / f"{kept.name}.yaml", config_dir)
    results = StudyResults(study, reported_experiments(study, config_dir), paths, config_dir)

    for name, attribute in OF_STUDY.items():
        if (kept / name).is_file():
            target: Path = getattr(paths, attribute)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / name, target)
    _restore_runs(results, kept)
    for table in results.tables:
        write_table(study, paths, config_dir, table)
    write_findings(study, paths, config_dir)
    _restore_pictures(paths, kept / "report")
    return results


def _restore_runs(results: StudyResults, kept: Path) -> None:
    paths = results.paths
    for row in _rows(kept / "metrics.csv"):
        atomic_write_json(paths.run(row["experiment"], row["seed"]).metrics, _metrics(results.study.name, row))
    for row in _rows(kept / "crf.csv"):
        atomic_write_json(paths.run(row.pop("experiment"), row.pop("seed")).crf, row)
    for note in json.loads((kept / "provenance.json").read_text(encoding="utf-8"))["runs"]:
        config = {"hash": note["config_hash"], **{key: value for key, value in note.items() if key != "config_hash"}}
        atomic_write_json(paths.run(note["experiment"], note["seed"]).config, config)
    for name, attribute in OF_RUNS.items():
        for run, part in _parts(paths, kept / name, KEYS):
            with atomic_path(getattr(run, attribute)) as temporary:
                part.to_csv(temporary, index=False)
    for run, part in _parts(paths, kept / "confusion.csv", ["experiment", "seed"]):
        for crf, matrix in part.groupby("crf"):
            with atomic_path(run.confusion(crf=bool(crf))) as temporary:
                matrix.drop(columns="crf").to_csv(temporary, index=False)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, cells without a value left out; none where there is no file."""
    if not path.is_file():
        return []
    frame = pd.read_csv(path)
    return [{name: value for name, value in row.items() if pd.notna(value)} for row in frame.to_dict("records")]


def _parts(paths: StudyPaths, path: Path, keys: list[str]) -> Iterator[tuple[RunPaths, pd.DataFrame]]:
    """The rows of each run, without the columns that name it."""
    if path.is_file():
        frame = pd.read_csv(path)
        for (experiment, seed), part in frame.groupby(["experiment", "seed"], sort=False):
            yield paths.run(experiment, int(seed)), part.drop(columns=keys)


def _metrics(study: str, row: dict[str, Any]) -> dict[str, Any]:
    """`metrics.json` of a run by its row of `metrics.csv`."""
    scores: dict[str, Any] = {
        stage: {
            "val": {"iou": row[f"iou_{stage}"]},
            "untuned_val": {"iou": row.get(f"iou_{stage}_untuned_val")},  # runs of the test stage have none
        }
        for stage in ("crf", "dcnn")
    }
    if "iou_crf_occurring" in row:
        scores["crf"]["val"]["iou_occurring"] = row["iou_crf_occurring"]
    names = ("experiment", "seed", "network", "strong", "weak", "train_seconds")
    return {"study": study, **{name: row[name] for name in names}, **scores}


def _restore_pictures(paths: StudyPaths, pages: Path) -> None:
    for page in sorted(path for path in pages.glob("*.html") if path.stem not in WITHOUT_NOTEBOOK):
        found = re.findall(r'"data:image/jpeg;base64,([^"]+)"', page.read_text(encoding="utf-8"))
        for number, content in enumerate(found, start=1):
            with atomic_path(paths.picture(page.stem, number)) as temporary:
                temporary.write_bytes(base64.b64decode(content))
