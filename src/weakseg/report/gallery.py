"""The gallery: one HTML file in which every run's label maps can be looked at and compared, without a server."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.annotations.chosen_images import spread
from weakseg.config import Study, reported_experiments
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text
from weakseg.labels import BACKGROUND, LabelSet
from weakseg.metrics import confusion_matrix
from weakseg.parallel import parallel_map
from weakseg.paths import RunPaths, StudyPaths
from weakseg.report.gallery_weak import weak_data
from weakseg.report.html import render
from weakseg.report.pages import GALLERY
from weakseg.report.provenance import command_of, gather_provenance, source_facts
from weakseg.report.results import StudyResults, experiment_label, read_metrics
from weakseg.report.tables import table_title
from weakseg.report.thumbnails import base64_text, map_png, photo_jpeg

MOST_IMAGES = 150
"""Evaluation images that are shown; of more, so many at even distances."""

LARGEST_GALLERY = 10_000_000
"""Bytes that the page may have."""

SIDES_PX = (320, 288, 256, 224, 192, 160, 128)
"""Longer side of the pictures: the first at which the page is small enough."""

TRIED_IMAGES = 8
"""So many images are encoded at a size to tell how large all of them will be."""


def write_gallery(study: Study, paths: StudyPaths, config_dir: str | Path = "config", *, threads: int = 1) -> None:
    """Write `report/gallery.html` from the label maps of each experiment's first seed.

    Raises:
        WeaksegError: a run, a label map or an annotation is missing.
    """
    results = StudyResults(study, reported_experiments(study, config_dir), paths, Path(config_dir)).of_val
    page = gallery_html(results, threads=threads)
    atomic_write_text(paths.report / f"{GALLERY}.html", page)


def gallery_html(results: StudyResults, *, largest: int = LARGEST_GALLERY, threads: int = 1) -> str:
    """The page's HTML of no more than `largest` bytes: pictures become smaller first, then fewer."""
    ids = spread(open_data(results.paths.manifest).ids("evaluation"), MOST_IMAGES)
    facts = _facts(results)
    room = 0.97 * largest  # the size is reckoned from a few images
    while chosen := _fitting(results, facts, ids, room):
        page = _page(results, facts, *chosen, threads)
        if len(page.encode()) <= largest:
            return page
        room *= 0.97 * largest / len(page.encode())
    raise WeaksegError(f"study {results.study.name}: its gallery does not fit into {largest:,} bytes")


def _fitting(
    results: StudyResults, facts: Mapping[str, str], ids: Sequence[str], room: float
) -> tuple[list[str], int] | None:
    """Which images to show, and their longer side in pixels, so that the page has about `room` bytes; None: none."""
    tried = spread(ids, TRIED_IMAGES)
    for longest_px in SIDES_PX:
        photo = _photos(results, longest_px)
        each = sum(len(json.dumps(photo(image_id))) for image_id in tried) / len(tried)
        left = room - len(_page(results, facts, [], longest_px).encode())
        if each * len(ids) <= left:
            return list(ids), longest_px
    count = int(left / each)
    return (spread(ids, count), SIDES_PX[-1]) if count > 0 else None


def _page(
    results: StudyResults, facts: Mapping[str, str], ids: Sequence[str], longest_px: int, threads: int = 1
) -> str:
    data = gallery_data(results, ids, longest_px, threads=threads)
    return render(
        "gallery.html.j2",
        title=f"gallery of study {results.study.name}",
        study=results.study,
        data=data,
        shown=len(ids),
        images=len(open_data(results.paths.manifest).ids("evaluation")),
        facts=facts,
    )


def gallery_data(results: StudyResults, ids: Sequence[str], longest_px: int, *, threads: int = 1) -> dict[str, Any]:
    """What the page's scripts read, as JSON-able values.

    `labels` has name and colour of each label; `runs` a row an experiment, of its first seed: id, label, table, mean
    IOU in percent with (`crf`) and without the CRF (`dcnn`); `first` the two runs that are shown at first; `photos`
    what `_Photo` gives of each of `ids`; `weak` what `gallery_weak.weak_data` gives.

    Args:
        results: a finished study.
        ids: evaluation images.
        longest_px: longer side of the pictures.
        threads: processes.
    """
    runs = _runs(results)
    photo = _photos(results, longest_px)
    return {
        "labels": [
            {"name": name, "colour": [int(value) for value in colour]}
            for name, colour in zip(results.labels.names, results.labels.palette(), strict=False)
        ],
        "runs": runs,
        "first": _first(results, runs),
        "photos": list(parallel_map(photo, ids, processes=threads, description="gallery")) if ids else [],
        "weak": weak_data(results, longest_px),
    }


def _runs(results: StudyResults) -> list[dict[str, Any]]:
    metrics = read_metrics(results).groupby("experiment").first()
    return [
        {
            "id": row.id,
            "label": experiment_label(row),
            "table": table_title(row.table),
            "seed": results.study.seeds_of(row.id)[0],
            "iou": {stage: round(float(metrics.at[row.id, f"iou_{stage}"]), 2) for stage in ("crf", "dcnn")},
        }
        for row in results.experiments
    ]


def _first(results: StudyResults, runs: list[dict[str, Any]]) -> list[str]:
    """The best run without pixel labels, and the best of all others: what cheap labels give, and what all could."""
    weak = {row.id for row in results.experiments if row.kind == "weak"}
    ranked = [run["id"] for run in sorted(runs, key=lambda run: run["iou"]["crf"], reverse=True)]
    first = next((run for run in ranked if run in weak), ranked[0])
    return [first, next((run for run in ranked if run != first), first)]


def _photos(results: StudyResults, longest_px: int) -> "_Photo":
    runs = [results.paths.run(row.id, results.study.seeds_of(row.id)[0]) for row in results.experiments]
    return _Photo(results.paths.manifest, runs, results.labels, longest_px)


@dataclass(frozen=True)
class _Photo:
    """One evaluation image with its truth and every run's label maps (picklable, for other processes).

    It gives id, number (its place among all evaluation images, from 1), size, whether the CRF was tuned on it, photo,
    truth, the foreground classes of the truth, and for each run a pair, without and with the CRF, of `maps` and
    `confusions`. Pictures are base64 texts. A confusion is that of `metrics.confusion_matrix` at the photo's own size,
    as one list of its cells that are not 0: true label, predicted label, pixels, true label, and so on.
    """

    manifest: Path
    runs: Sequence[RunPaths]
    labels: LabelSet
    longest_px: int

    def __call__(self, image_id: str) -> dict[str, Any]:
        data = open_data(self.manifest)
        truth = data.pixel_labels(image_id)
        made = [[self._read(run.labels(crf=crf) / f"{image_id}.png") for crf in (False, True)] for run in self.runs]
        return {
            "id": image_id,
            "number": data.ids("evaluation").index(image_id) + 1,
            "size": list(truth.shape),
            "tuned": image_id in data.ids("held_out"),
            "photo": base64_text(photo_jpeg(data.image(image_id), self.longest_px)),
            "truth": self._small(truth),
            "classes": [int(label) for label in np.flatnonzero(self.labels.present(truth)) if label != BACKGROUND],
            "maps": [[self._small(labels) for labels in pair] for pair in made],
            "confusions": [[self._confusion(truth, labels) for labels in pair] for pair in made],
        }

    def _read(self, path: Path) -> np.ndarray:
        if not path.is_file():
            raise WeaksegError(f"{path}: no such file; evaluate the run again")
        return read_index_png(path, self.labels)

    def _small(self, labels: np.ndarray) -> str:
        return base64_text(map_png(labels, self.longest_px))

    def _confusion(self, truth: np.ndarray, labels: np.ndarray) -> list[int]:
        counts = confusion_matrix(truth, labels, len(self.labels))
        return [int(value) for true, found in np.argwhere(counts) for value in (true, found, counts[true, found])]


def _facts(results: StudyResults) -> dict[str, str]:
    """What stands at the foot: where the pictures come from, and how to make them again."""
    provenance = gather_provenance(results)
    first = {row.id: results.study.seeds_of(row.id)[0] for row in results.experiments}
    hashes = {
        run["experiment"]: run["config_hash"] for run in provenance["runs"] if run["seed"] == first[run["experiment"]]
    }
    return {
        **source_facts(provenance),
        "Runs": "; ".join(f"{run}, seed {first[run]}: {str(found)[:16]}" for run, found in hashes.items()),
        "Made again by": command_of(results, GALLERY),
    }
