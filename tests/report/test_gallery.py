"""The gallery: what its page is given to show, and that it fits."""

import base64
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from weakseg.data.box_files import read_boxes
from weakseg.data.dataset import open_data
from weakseg.data.images import read_index_png
from weakseg.data.tag_files import read_tags
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.metrics import confusion_matrix, image_iou
from weakseg.report import gallery
from weakseg.report.estep_maps import at_pixels, read_estep_maps
from weakseg.report.gallery import gallery_data, gallery_html, write_gallery
from weakseg.report.results import read_metrics
from weakseg.report.thumbnails import map_png, photo_jpeg, small_size


def decoded(text):
    """The labels that a browser finds: the red channel of a PNG in base64."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        assert picture.format == "PNG" and picture.mode == "P"
        return np.asarray(picture.convert("RGB"))[..., 0]


def dense(cells):
    """The matrix of a confusion that is a list of cells."""
    counts = np.zeros((len(VOC), len(VOC)), dtype=np.int64)
    for true, found, pixels in np.array(cells, dtype=int).reshape(-1, 3):
        counts[true, found] += pixels
    return counts


@pytest.fixture(scope="module")
def ids(finished):
    return open_data(finished.paths.manifest).ids("evaluation")


@pytest.fixture(scope="module")
def data(finished, ids):
    """The data of the page, as a browser reads them."""
    return json.loads(json.dumps(gallery_data(finished, ids, 320)))


def test_label_maps_survive_as_palette_pngs():
    rng = np.random.default_rng(0)
    for number, shape in ((1, (5, 7)), (2, (40, 30)), (3, (1, 1)), (16, (30, 41)), (40, (64, 64))):
        chosen = rng.choice(256, number, replace=False).astype(np.uint8)
        labels = rng.choice(chosen, shape)
        assert (decoded(base64.b64encode(map_png(labels, 64))) == labels).all()
        small = decoded(base64.b64encode(map_png(labels, 10)))
        assert small.shape == small_size(shape, 10) and np.isin(small, labels).all()
    two_bits = len(map_png(rng.integers(0, 3, (100, 100)).astype(np.uint8), 100))
    assert two_bits < 100 * 100 / 4 * 1.2


def test_pictures_keep_their_proportions_and_never_grow():
    assert small_size((375, 500), 250) == (188, 250) and small_size((500, 20), 100) == (100, 4)
    assert small_size((48, 64), 320) == (48, 64) and small_size((1000, 2), 100) == (100, 1)
    with Image.open(io.BytesIO(photo_jpeg(np.full((30, 60, 3), 200, np.uint8), 20))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (20, 10))


def test_photos_have_the_truth_and_the_maps_of_every_run(finished, data, ids):
    folder = open_data(finished.paths.manifest)
    assert [photo["id"] for photo in data["photos"]] == ids
    assert [photo["number"] for photo in data["photos"]] == list(range(1, len(ids) + 1))
    assert [photo["id"] for photo in data["photos"] if photo["tuned"]] == folder.ids("held_out")
    assert [run["id"] for run in data["runs"]] == [row.id for row in finished.experiments]
    for photo in data["photos"]:
        truth = folder.pixel_labels(photo["id"])
        assert (decoded(photo["truth"]) == truth).all() and photo["size"] == list(truth.shape)
        assert photo["classes"] == sorted(set(np.unique(truth)) - {0, 255})
        for row, pngs, confusions in zip(finished.experiments, photo["maps"], photo["confusions"], strict=True):
            for crf in (False, True):
                run = finished.paths.run(row.id, finished.study.seeds_of(row.id)[0])
                labels = read_index_png(run.labels(crf=crf) / f"{photo['id']}.png", VOC)
                assert (decoded(pngs[crf]) == labels).all()
                assert (dense(confusions[crf]) == confusion_matrix(truth, labels, len(VOC))).all()


def test_runs_have_their_figures_and_the_best_come_first(finished, data):
    metrics = read_metrics(finished)
    for run in data["runs"]:
        row = metrics[(metrics["experiment"] == run["id"]) & (metrics["seed"] == run["seed"])].iloc[0]
        assert run["iou"] == {"crf": row["iou_crf"], "dcnn": row["iou_dcnn"]}
    assert data["first"] == ["bbox_seg_weak", "strong_10582"]
    assert [label["name"] for label in data["labels"]] == list(VOC.names)
    assert data["labels"][15]["colour"] == [192, 128, 128]  # a person in VOC's colours


def test_weak_images_show_what_was_given_and_what_was_made_of_it(finished, data):
    folder, paths = open_data(finished.paths.manifest), finished.paths
    tags, boxes = read_tags(paths.image_labels, VOC), read_boxes(paths.boxes, VOC)
    methods = {method["run"]: method for method in data["weak"]["methods"]}
    assert {run: method["given"] for run, method in methods.items()} == {
        "em_fixed_weak": "image-level labels", "em_adapt_weak": "image-level labels", "bbox_em_fixed_weak": "boxes",
    }  # fmt: skip
    iterations = finished.study.solver.iterations
    for method in methods.values():
        assert method["iterations"] == [0, iterations // 2, iterations]
    assert [image["id"] for image in data["weak"]["images"]] == folder.ids("training")[:2]
    for image in data["weak"]["images"]:
        truth, entry = folder.pixel_labels(image["id"]), boxes[image["id"]]
        assert image["tags"] == [label for label in np.flatnonzero(tags[image["id"]]) if label]
        assert (decoded(image["truth"]) == truth).all()
        height, width = truth.shape
        for box, (label, top, left, bottom, right) in zip(entry.boxes, image["boxes"], strict=True):
            edges = [top * height, left * width, bottom * height, right * width]
            assert label == box.label and np.round(edges).tolist() == [box.top, box.left, box.bottom + 1, box.right + 1]
        for method, made in zip(("bbox_rect", "bbox_seg"), image["made"], strict=True):
            labels = read_index_png(paths.box_maps(method) / f"{image['id']}.png", VOC)
            assert (decoded(made["map"]) == labels).all()
            assert made["iou"] == pytest.approx(image_iou(truth, labels), abs=0.06)
        for run, shown in image["estep"].items():
            cells = read_estep_maps(paths.run(run, 0).estep_maps)
            for moment, one in zip(("start", "middle", "end"), shown, strict=True):
                labels = at_pixels(cells[f"{moment}/{image['id']}"], truth.shape, 8.0)
                assert (decoded(one["map"]) == labels).all()
                assert one["iou"] == pytest.approx(image_iou(truth, labels), abs=0.06)


def only(finished, *names):
    """The finished study as if it ran no more than these experiments."""
    return dataclasses.replace(finished, experiments=[row for row in finished.experiments if row.id in names])


def test_a_study_without_boxes_or_without_e_step_has_a_gallery(finished, ids):
    tagged = gallery_data(only(finished, "em_adapt_weak", "strong_1464"), ids[:1], 64)
    assert tagged["first"] == ["em_adapt_weak", "strong_1464"]
    assert all(not image["boxes"] and not image["made"] and image["tags"] for image in tagged["weak"]["images"])
    boxed = gallery_data(only(finished, "bbox_seg_weak"), ids[:1], 64)
    assert boxed["first"] == ["bbox_seg_weak", "bbox_seg_weak"]
    assert len(boxed["weak"]["images"]) == 2 and all(image["estep"] == {} for image in boxed["weak"]["images"])
    strong = only(finished, "strong_1464")
    assert gallery_data(strong, ids[:1], 64)["weak"] == {"methods": [], "images": []}
    assert 'id="weak"' not in gallery_html(strong)


def test_pictures_become_smaller_and_then_fewer(finished, ids, monkeypatch):
    few = only(finished, "em_fixed_weak", "strong_10582")
    monkeypatch.setattr(gallery, "SIDES_PX", (16,))
    smallest = len(gallery_html(few).encode())
    monkeypatch.setattr(gallery, "SIDES_PX", (52, 30, 16))

    def drawn(largest):
        page = gallery_html(few, largest=largest)
        assert len(page.encode()) <= largest
        found = json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', page)[1])
        return len(found["photos"]), max(decoded(found["photos"][0]["truth"]).shape)

    assert drawn(10_000_000) == (len(ids), 52)
    count, side = drawn(round(1.1 * smallest))
    assert count == len(ids) and side < 52
    count, side = drawn(round(0.9 * smallest))
    assert 1 <= count < len(ids) and side == 16
    # A page that becomes larger than was reckoned is made again.
    reckoned, rooms = gallery._fitting, []

    def wrongly(results, facts, ids, room):
        rooms.append(room)
        return reckoned(results, facts, ids, 1.06 * room if len(rooms) == 1 else room)

    monkeypatch.setattr(gallery, "_fitting", wrongly)
    assert drawn(round(0.97 * smallest))[1] == 16 and rooms[1] < rooms[0]
    with pytest.raises(WeaksegError, match="study fabricated: its gallery does not fit into 5,000 bytes"):
        gallery_html(few, largest=5000)


def test_of_many_images_some_at_even_distances_are_shown(finished, ids, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_IMAGES", 3)
    page = gallery_html(only(finished, "strong_1464"))
    assert f"3 of {len(ids)} evaluation photos" in page
    shown = re.findall(r'"id": "(\w+)", "maps"', page)
    assert shown == [ids[0], ids[6], ids[-1]]


def test_the_page_needs_nothing_from_elsewhere_and_says_how_it_was_made(finished):
    page = gallery_html(only(finished, "em_adapt_weak", "strong_1464"))
    assert not re.search(r"(src|href|url|import|fetch)\s*[=(]\s*[\"'`]?(https?:)?//", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "snakemake gallery --config study=fabricated" in page
    assert "em_adapt_weak, seed 0: em_adapt_weak-0; strong_1464, seed 0: strong_1464-0" in page
    assert re.search("commit ([0-9a-f]{40}|not a checkout)", page)


def test_names_of_a_user_cannot_end_the_script(finished, monkeypatch):
    few = only(finished, "strong_1464")
    names = ("background", "</script><b>&'\"", *VOC.names[2:])
    few.__dict__["labels"] = dataclasses.replace(few.labels, names=names)  # a cached property
    page = gallery_html(few)
    assert "</script><b>" not in page
    found = json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', page)[1])
    assert found["labels"][1]["name"] == names[1]


def test_what_is_missing_is_named(finished, tmp_path):
    shutil.copytree(finished.paths.root, tmp_path / "fabricated")
    results = dataclasses.replace(finished, paths=dataclasses.replace(finished.paths, results=tmp_path))
    maps = results.paths.run("em_adapt_weak", 0).estep_maps
    maps.unlink()
    with pytest.raises(WeaksegError, match=r"em_adapt_weak/seed0/estep_maps.safetensors: no such file; make the run"):
        write_gallery(results.study, results.paths, results.config_dir)
    shutil.copy(finished.paths.run("em_adapt_weak", 0).estep_maps, maps)
    lost = results.paths.run("strong_1464", 0).labels(crf=True)
    next(lost.iterdir()).unlink()
    with pytest.raises(WeaksegError, match=r"strong_1464/seed0/labels/\w+.png: no such file; evaluate the run again"):
        write_gallery(results.study, results.paths, results.config_dir)
    assert not (results.paths.report / "gallery.html").exists()
