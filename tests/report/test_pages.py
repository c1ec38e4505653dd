"""Pages: what notebooks say of themselves, and what the workflow makes of it."""

import json

import pytest

from weakseg.errors import WeaksegError
from weakseg.report.pages import Page, existing_pages, files_read, read_page, read_pages, shown_pages

ORDER = [
    "table1", "iou_vs_strong", "table2", "table3", "table4", "table5", "table6", "annotation_cost", "figure4",
    "boxes", "per_class", "qualitative", "crf_grid", "fields_of_view", "training_curves",
]  # fmt: skip


def write(folder, name, metadata):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.ipynb").write_text(json.dumps({"metadata": metadata, "cells": []}))


@pytest.fixture(scope="module")
def pages(project_root):
    return read_pages(project_root / "notebooks")


def test_pages_stand_in_the_order_of_reading(pages):
    assert list(pages) == ORDER
    assert all({"title", "about", "place", "needs", "reads"} == page.model_fields_set for page in pages.values())
    assert len({page.place for page in pages.values()}) == len(pages)


def test_a_notebook_is_a_page_by_being_there(tmp_path, finished):
    write(tmp_path, "zebra_crossings", {})
    write(tmp_path, "first", {"weakseg": {"title": "First", "place": 1, "reads": ["tables"], "needs": ["table2"]}})
    found = read_pages(tmp_path)
    assert list(found) == ["first", "zebra_crossings"]
    assert found["zebra_crossings"].title == "zebra crossings"
    assert shown_pages(found, finished.study, finished.experiments) == ["zebra_crossings"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"weakseg": {"reads": ["metrics", "metric"]}}, "metadata.weakseg: reads.1: "),
        ({"weakseg": {"need": []}}, "metadata.weakseg: need: "),
        ({"weakseg": 3}, "not a notebook"),
    ],
)
def test_what_a_notebook_cannot_say(tmp_path, metadata, said):
    write(tmp_path, "mine", metadata)
    with pytest.raises(WeaksegError, match=f"mine.ipynb: {said}"):
        read_pages(tmp_path)


def test_what_is_no_notebook(tmp_path):
    (tmp_path / "mine.ipynb").write_text("[]")
    with pytest.raises(WeaksegError, match=r"mine.ipynb: not a notebook"):
        read_page(tmp_path / "mine.ipynb")


def test_studies_have_the_pages_that_they_can_fill(pages, finished):
    def shown(*ids):
        rows = [row for row in finished.experiments if not ids or row.id in ids]
        return shown_pages(pages, finished.study, rows)

    everywhere = ["per_class", "qualitative", "crf_grid", "training_curves"]
    assert shown() == [name for name in ORDER if name not in ("table2", "table4", "table5", "table6", "fields_of_view")]
    assert shown("em_adapt_weak", "strong_1464") == ["table1", "iou_vs_strong", "annotation_cost", *everywhere]
    assert shown("bbox_seg_weak") == ["table3", "annotation_cost", "boxes", *everywhere]
    assert shown("bbox_em_fixed_weak") == ["table3", "annotation_cost", "figure4", "boxes", *everywhere]


def test_tables_have_a_page_where_the_study_runs_a_line_of_them(pages, second):
    def shown(*ids):
        rows = [row for row in second.experiments if not ids or row.id in ids]
        return [name for name in shown_pages(pages, second.study, rows) if name.startswith("table")]

    assert shown() == [name for name in ORDER if name.startswith("table")]
    # What a table prints of another is not enough for it.
    assert shown("strong_10582") == ["table1"]
    assert shown("strong_10582", "strong_12031_test") == ["table1", "table2"]
    assert shown("coco_cross_joint") == ["table5"]
    assert [pages[name].title.partition(":")[0] for name in shown()] == [f"Table {n}" for n in range(1, 7)]
    assert all(pages[name].title.partition(": ")[2] for name in shown())


def test_files_are_those_of_all_runs(finished):
    rows = [row for row in finished.experiments if row.id in ("em_adapt_weak", "strong_1464")]

    def names(*reads):
        found = files_read(reads, finished.study, rows, finished.paths)
        return [str(path.relative_to(finished.paths.root)) for path in found]

    runs = ["em_adapt_weak/seed0", "em_adapt_weak/seed1", "em_adapt_weak/seed2", "strong_1464/seed0"]
    assert names("manifest", "tables", "crf") == [
        "data/manifest.json", "tables/table1.csv", *(f"runs/{run}/crf.json" for run in runs),
    ]  # fmt: skip
    labels = [f"runs/{run}/{folder}" for run in runs for folder in ("labels", "labels_dcnn")]
    assert names("labels") == labels
    assert names("boxes", "box_maps", "bbox_seg_grid", "label_quality", "estep_maps") == []
    rows += [row for row in finished.experiments if row.id == "bbox_em_fixed_weak"]
    assert names("boxes", "box_maps", "estep_maps") == [
        "annotations/boxes.json", "annotations/bbox_rect", "annotations/bbox_seg",
        "runs/bbox_em_fixed_weak/seed0/estep_maps.safetensors",
    ]  # fmt: skip


def test_finished_pages_say_what_their_notebooks_say(tmp_path, finished):
    paths = type(finished.paths)("fabricated", tmp_path)
    write(paths.report / "notebooks", "mine", {"weakseg": {"title": "Mine", "place": 3}, "papermill": {}})
    for name in ("aaa_old", "mine", "index", "gallery"):
        (paths.report / f"{name}.html").write_text("")
    assert existing_pages(paths) == {"mine": Page(title="Mine", place=3), "aaa_old": Page(title="aaa old")}
    assert list(existing_pages(paths)) == ["mine", "aaa_old"]
