"""MS-COCO: label maps against a plain slow painter, names and lists, what is refused, and when it is converted anew."""

import hashlib
import json
import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from fabricate import make_study
from PIL import Image
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO as CocoApi
from pydantic import ValidationError

from weakseg import decides
from weakseg.config import load_sheet
from weakseg.config.dataset import ARCHIVES
from weakseg.data import coco as module
from weakseg.data.coco import Photos, annotation_files, convert_coco, label_map, read_instances, read_recipe
from weakseg.data.contents import read_contents
from weakseg.data.dataset import open_data, read_manifest
from weakseg.data.download import download_coco, load_datasets
from weakseg.data.prepare import prepare_data
from weakseg.data.voc import VocFolder
from weakseg.doctor import examine
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.joint_labels import shared_classes
from weakseg.labels import COCO, VOC
from weakseg.needs import outside_needs
from weakseg.paths import StudyPaths

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

SIZE = (24, 32)
USED = [number for number in range(1, 91) if number not in COCO.unused]
CATEGORIES = [{"id": number, "name": COCO.names[number]} for number in USED]
WHOLE = [0, 0, 32, 0, 32, 24, 0, 24]


def runs_of(mask):
    """Uncompressed runs of a mask, down its columns, that of zeros first."""
    flat = mask.reshape(-1, order="F").tolist()
    runs, value = [0], 0
    for pixel in flat:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def random_segmentation(rng, size):
    kind = rng.integers(0, 4)
    if kind < 2:
        corners = rng.uniform(0, 1, (1 + rng.integers(0, 2), 3 + rng.integers(0, 4), 2)) * (size[1], size[0])
        return [polygon.reshape(-1).round(2).tolist() for polygon in corners]
    mask = np.zeros(size, dtype=np.uint8)
    top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
    mask[top : top + 1 + rng.integers(0, size[0]), left : left + 1 + rng.integers(0, size[1])] = 1
    mask[rng.random(size) < 0.1] = 1
    if kind == 2:
        return {"size": list(size), "counts": runs_of(mask)}
    return {"size": list(size), "counts": rle_masks.encode(np.asfortranarray(mask))["counts"].decode()}


def random_annotations(rng, size=SIZE, image=7):
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": int(rng.choice(USED)),
            "segmentation": random_segmentation(rng, size),
            "iscrowd": int(rng.random() < 0.25),
        }
        for number in range(rng.integers(0, 7))
    ]


def slow_label_map(content, number):
    """Pixel by pixel: the smallest object that is there, of equal ones the last; else void where a crowd is."""
    api = CocoApi()
    api.dataset = content
    api.createIndex()
    things = [(api.annToMask(one), one) for one in api.imgToAnns[number]]
    image = api.imgs[number]
    labels = np.zeros((image["height"], image["width"]), dtype=np.uint8)
    for row in range(image["height"]):
        for column in range(image["width"]):
            best, void = None, False
            for mask, one in things:
                if not mask[row, column]:
                    continue
                if one["iscrowd"]:
                    void = True
                elif best is None or mask.sum() <= best[0]:
                    best = mask.sum(), one["category_id"]
            labels[row, column] = best[1] if best else 255 if void else 0
    return labels


@pytest.mark.parametrize("seed", range(40))
def test_label_maps_are_those_of_a_plain_painter(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(8, 30)), int(rng.integers(8, 30))
    image = {"id": 7, "height": size[0], "width": size[1], "file_name": "000000000007.jpg"}
    annotations = random_annotations(rng, size)
    content = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
    expected = slow_label_map(content, 7)
    assert np.array_equal(label_map(image, annotations, "x.json"), expected)


def one(category, segmentation, crowd=0, number=1):
    return {"id": number, "image_id": 7, "category_id": category, "segmentation": segmentation, "iscrowd": crowd}


def test_small_objects_win_and_crowds_are_void_elsewhere():
    image = {"id": 7, "height": 24, "width": 32}
    small = [[4, 4, 12, 4, 12, 12, 4, 12]]
    crowd = np.zeros(SIZE, dtype=np.uint8)
    crowd[:, :16] = 1
    things = [
        one(18, small),
        one(62, [[0, 0, 20, 0, 20, 10, 0, 10]]),
        one(1, {"size": [24, 32], "counts": runs_of(crowd)}, 1),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        labels = label_map(image, [things[n] for n in order], "x.json")
        assert (labels[5, 6], labels[2, 2], labels[2, 18], labels[20, 3], labels[20, 20]) == (18, 62, 62, 255, 0)
    equal = [one(3, small), one(4, small)]
    assert label_map(image, equal, "x.json")[5, 6] == 4 and label_map(image, equal[::-1], "x.json")[5, 6] == 3


def test_an_outline_of_two_points_is_nothing():
    image = {"id": 7, "height": 24, "width": 32}
    assert not label_map(image, [one(1, [[1, 1, 20, 20]])], "x.json").any()
    with_other = label_map(image, [one(1, [[1, 1, 20, 20], WHOLE])], "x.json")
    assert np.array_equal(with_other, np.ones(SIZE))


def test_ids_of_voc_classes():
    """As in the released code, in VOC's order."""
    released = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    shared = shared_classes(VOC, COCO)
    assert [COCO.index(shared[name]) for name in VOC.classes] == released


def content_of(numbers, name="{:012d}.jpg", seed=0):
    rng = np.random.default_rng(seed)
    annotations = [{**a, "image_id": n, "id": 100 * n + a["id"]} for n in numbers[1:] for a in random_annotations(rng)]
    annotations.append({**one(18, [WHOLE]), "image_id": numbers[0], "id": 100 * numbers[0]})
    images = [{"id": n, "file_name": name.format(n), "height": 24, "width": 32} for n in numbers]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def write_photo(path, number=0, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (number % 250, 80, 90)).save(path, "JPEG", **options)


def write_coco(root, layout="2014"):
    """A folder of MS-COCO as people have it, of five photos."""
    if layout == "one":
        parts = {"instances.json": ("images", "{:012d}.jpg", [9, 25, 30, 42, 61])}
    else:
        names = {
            part: f"COCO_{part}2014_{{:012d}}.jpg" if layout == "2014" else "{:012d}.jpg" for part in ("train", "val")
        }
        parts = {
            f"instances_{part}{layout}.json": (f"{part}{layout}", names[part], numbers)
            for part, numbers in (("train", [61, 9, 25]), ("val", [42, 30]))
        }
    for seed, (file, (folder, name, numbers)) in enumerate(parts.items()):
        for number in numbers:
            write_photo(root / folder / name.format(number), number)
        rewrite(root / "annotations" / file, content_of(numbers, name, seed))
    return root


def rewrite(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


IDS = [f"{number:012d}" for number in (9, 25, 30, 42, 61)]


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco")


@pytest.mark.parametrize("layout", ["2014", "2017", "one"])
def test_each_layout_is_converted(tmp_path, layout):
    root = write_coco(tmp_path / "coco", layout)
    out = tmp_path / "out" / "coco"
    convert_coco(root, out)
    folder = VocFolder(out, COCO)
    assert folder.read_list("train_aug") == IDS
    if layout == "one":
        assert folder.read_list("instances") == IDS
    else:
        assert folder.read_list(f"train{layout}") == [IDS[0], IDS[1], IDS[4]]
        assert folder.read_list(f"val{layout}") == IDS[2:4]
    for path in annotation_files(root).values():
        content = json.loads(path.read_text())
        for image in content["images"]:
            image_id = f"{image['id']:012d}"
            assert np.array_equal(folder.pixel_labels(image_id), slow_label_map(content, image["id"]))
            link = folder.image_path(image_id)
            assert link.is_symlink() and link.resolve().name == image["file_name"]
            assert folder.image(image_id).shape == (24, 32, 3)
    assert not list(out.parent.glob(".*.partial"))


def test_processes_paint_the_same(root, tmp_path, monkeypatch):
    convert_coco(root, tmp_path / "a")
    monkeypatch.setattr("weakseg.parallel.WORTH_PROCESSES_S", -1.0)
    monkeypatch.setattr("weakseg.parallel.TRIED", 1)
    convert_coco(root, tmp_path / "b", processes=2)
    for image_id in IDS:
        maps = [(tmp_path / name / "SegmentationClassAug" / f"{image_id}.png").read_bytes() for name in "ab"]
        assert maps[0] == maps[1]


@pytest.mark.parametrize(
    ("in_json", "on_disk"),
    [
        ("COCO_train2014_{:012d}.jpg", "train2017/{:012d}.jpg"),
        ("{:012d}.jpg", "val2014/COCO_val2014_{:012d}.jpg"),
        ("train2017/{:012d}.jpg", "images/{:012d}.jpg"),
        ("photo {}.jpg", "images/photo {}.jpg"),
    ],
)
def test_a_photo_is_found_under_either_name(tmp_path, in_json, on_disk):
    root = tmp_path / "coco"
    rewrite(root / "annotations/instances.json", content_of([9, 30], in_json))
    for number in (9, 30):
        write_photo(root / on_disk.format(number), number)
    convert_coco(root, tmp_path / "out")
    folder = VocFolder(tmp_path / "out", COCO)
    assert folder.read_list("train_aug") == [IDS[0], IDS[2]]
    assert folder.image_path(IDS[2]).resolve() == (root / on_disk.format(30)).resolve()


def test_the_exact_name_comes_first_and_no_other_number(tmp_path):
    for place in ("train2014/COCO_train2014_000000000009.jpg", "train2017/000000000009.jpg"):
        write_photo(tmp_path / place)
    photos = Photos(tmp_path)
    for name in ("COCO_train2014_000000000009.jpg", "000000000009.jpg"):
        assert photos.find(name).name == name
    assert photos.find("COCO_val2014_000000000009.jpg").name == "COCO_train2014_000000000009.jpg"
    assert photos.find("000000000010.jpg") is None and photos.find("9.jpg") is None


def test_images_without_annotations_are_background(tmp_path, capsys):
    root = write_coco(tmp_path / "coco", "one")
    path = root / "annotations/instances.json"
    content = json.loads(path.read_text())
    rewrite(path, {**content, "annotations": [a for a in content["annotations"] if a["image_id"] == 9]})
    convert_coco(root, tmp_path / "out")
    folder = VocFolder(tmp_path / "out", COCO)
    assert folder.read_list("train_aug") == IDS
    assert [bool(folder.pixel_labels(i).any()) for i in IDS] == [True, False, False, False, False]
    assert "5 images, 4 of them without annotations, which are background" in capsys.readouterr().out


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def test_photos_that_are_stored_turned(tmp_path):
    """The annotation must fit the photo as it is read: turned."""
    root = write_coco(tmp_path / "coco", "one")
    write_photo(root / "images/000000000025.jpg", 25, SIZE[::-1], exif=exif(6))
    convert_coco(root, tmp_path / "a")
    folder = VocFolder(tmp_path / "a", COCO)
    assert folder.image(IDS[1]).shape[:2] == folder.pixel_labels(IDS[1]).shape == SIZE
    write_photo(root / "images/000000000025.jpg", 25, SIZE, exif=exif(6))
    with pytest.raises(
        WeaksegError, match=r"000000000025\.jpg: the photo is 24x32, but .*instances\.json says 32x24; its EXIF"
    ):
        convert_coco(root, tmp_path / "b")


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    rewrite(path, content)


def set_in(rows, **fields):
    return lambda content: content[rows][0].update(fields)


def rle(counts, size=SIZE):
    return set_in("annotations", segmentation={"size": list(size), "counts": counts})


FAULTS = {
    "no images": (lambda c: c.pop("images"), "not annotation in MS-COCO's format"),
    "no annotations": (lambda c: c.pop("annotations"), "instances_"),
    "images empty": (lambda c: c.update(images=[]), "not annotation in MS-COCO's format"),
    "a list of numbers": (lambda c: c.update(images=[1]), "not annotation in MS-COCO's format"),
    "category 91": (set_in("annotations", category_id=91), r"annotation \d+: category id 91 is not one of MS-COCO's"),
    "category 0": (set_in("annotations", category_id=0), "category id 0 is not"),
    "category in a gap": (set_in("annotations", category_id=12), "category id 12 is not"),
    "category text": (set_in("annotations", category_id="1"), "category id 1 is not"),
    "other classes": (set_in("categories", name="cat"), "category 1 is 'cat', in MS-COCO it is 'person'"),
    "more classes": (set_in("categories", id=92), "category 'person': category id 92 is not"),
    "captions": (lambda c: c["annotations"][0].pop("category_id"), "instances_"),
    "boxes alone": (lambda c: c["annotations"][0].pop("segmentation"), "has no id, category_id or segmentation"),
    "image unknown": (set_in("annotations", image_id=8), r"is of image 8, which is not there"),
    "image id text": (set_in("images", id="9"), "image id '9' is not a number"),
    "image id too long": (set_in("images", id=10**12), "twelve digits"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "two images have the id 9"),
    "no file name": (lambda c: c["images"][0].pop("file_name"), "image 9 has no file_name"),
    "no height": (lambda c: c["images"][0].pop("height"), "image 9: height None"),
    "width 0": (set_in("images", width=0), "image 9: width 0"),
    "other size": (set_in("images", width=33), r"000000000009\.jpg: the photo is 32x24, but .*says 33x24"),
    "photo missing": (set_in("images", file_name="000000000008.jpg"), r"000000000008\.jpg: no such photo.*1 of the 5"),
    "no polygon": (set_in("annotations", segmentation=[]), "cannot be decoded .it has no polygon"),
    "odd polygon": (set_in("annotations", segmentation=[[1, 1, 5, 5, 9, 1, 2]]), "x, y, x, y"),
    "polygon of text": (set_in("annotations", segmentation=[["a", 1, 5, 5, 9, 1]]), "cannot be decoded"),
    "flat polygon": (set_in("annotations", segmentation=[1, 1, 5, 5, 9, 1]), "cannot be decoded"),
    "polygon without end": (set_in("annotations", segmentation=[[1, 1, 5, 5, 9, float("nan")]]), "no number"),
    "segmentation is text": (set_in("annotations", segmentation="x"), "cannot be decoded"),
    "runs too short": (rle([5, 5]), r"its runs do not make up 24 x 32"),
    "runs negative": (rle([800, -32]), "its runs do not make up"),
    "runs of another size": (rle([32 * 24], (32, 24)), r"its size is \[32, 24\]"),
    "runs compressed, too short": (rle("0"), "its runs do not make up"),
    "runs compressed, broken": (rle("\x20~"), "no character of compressed runs"),
    "runs compressed, cut": (rle("P"), "break off"),
    "runs missing": (set_in("annotations", segmentation={"size": [24, 32]}), "cannot be decoded"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_named_with_its_file_and_nothing_is_left(tmp_path, fault):
    root = write_coco(tmp_path / "coco", "one")
    edit, message = FAULTS[fault]
    path = root / "annotations" / "instances.json"
    change(path, lambda c: c["annotations"].sort(key=lambda a: a["id"]))
    change(path, edit)
    with pytest.raises(WeaksegError, match=message) as raised:
        convert_coco(root, tmp_path / "out")
    assert str(path) in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\x00\x01", "Not Found"])
def test_a_file_that_is_not_json(root, tmp_path, text):
    path = root / "annotations/instances_val2014.json"
    path.write_text(text)
    with pytest.raises(WeaksegError, match=r"instances_val2014\.json: not JSON.*fetch it again"):
        convert_coco(root, tmp_path / "out")
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(WeaksegError, match="not JSON"):
        read_instances(path)


def test_files_and_folders_that_are_missing(root, tmp_path):
    with pytest.raises(WeaksegError, match="nowhere: no such folder"):
        convert_coco(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(WeaksegError, match=r"mine\.json: no such file.*dataset\.annotations"):
        convert_coco(root, tmp_path / "out", ["annotations/mine.json"])
    (root / "annotations/instances_train2014.json").unlink()
    with pytest.raises(WeaksegError, match=r"instances_train2014\.json: no such file; add it, or name the files"):
        convert_coco(root, tmp_path / "out")
    convert_coco(root, tmp_path / "out", ["annotations/instances_val2014.json"])
    assert VocFolder(tmp_path / "out", COCO).read_list("train_aug") == IDS[2:4]
    (root / "annotations/instances_val2014.json").unlink()
    with pytest.raises(WeaksegError, match=r"instances_train2014\.json: no such file, nor .*instances\.json; put"):
        convert_coco(root, tmp_path / "out")
    empty = tmp_path / "empty"
    rewrite(empty / "annotations/instances.json", content_of([9]))
    with pytest.raises(WeaksegError, match=r"empty: no photos .*train2014.*images"):
        convert_coco(empty, tmp_path / "out2")


def test_an_image_in_two_files(root, tmp_path):
    rewrite(root / "annotations/instances_val2014.json", content_of([9, 42], "COCO_val2014_{:012d}.jpg"))
    with pytest.raises(WeaksegError, match=r"instances_val2014\.json: image 9 is in .*instances_train2014\.json too"):
        convert_coco(root, tmp_path / "out")


@pytest.fixture
def converted(monkeypatch):
    """The files that were converted, by name, and the label maps that were painted."""
    done = []
    whole, painted = module._convert_file, module._write_label_map
    monkeypatch.setattr(module, "_convert_file", lambda path, *rest: (done.append(path.name), whole(path, *rest))[1])
    monkeypatch.setattr(module, "_write_label_map", lambda item: (done.append(item[0]), painted(item))[1])
    return done


def touch(path):
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_it_is_converted_anew_when_the_annotation_changes_and_only_then(root, tmp_path, converted):
    out = tmp_path / "out"
    convert_coco(root, out)
    assert len(converted) == 7
    path = root / "annotations/instances_val2014.json"
    touch(path)
    convert_coco(root, out)
    assert len(converted) == 7
    change(path, lambda c: c.update(annotations=[]))
    convert_coco(root, out)
    assert len(converted) == 14 and not VocFolder(out, COCO).pixel_labels(IDS[3]).any()
    convert_coco(root, out, ["annotations/instances_val2014.json"])
    assert len(converted) == 17 and VocFolder(out, COCO).read_list("train_aug") == IDS[2:4]
    moved = root.rename(tmp_path / "moved")
    convert_coco(moved, out, ["annotations/instances_val2014.json"])
    assert len(converted) == 20 and VocFolder(out, COCO).image(IDS[3]).shape == (24, 32, 3)


def test_a_photo_that_went_elsewhere_is_found_again(root, tmp_path, converted):
    out = tmp_path / "out"
    convert_coco(root, out)
    (root / "val2014").rename(root / "val2017")
    convert_coco(root, out)
    assert len(converted) == 14 and VocFolder(out, COCO).image(IDS[3]).shape == (24, 32, 3)
    next((root / "val2017").glob("*42.jpg")).unlink()
    with pytest.raises(WeaksegError, match=r"COCO_val2014_000000000042\.jpg: no such photo"):
        convert_coco(root, out)


def test_a_conversion_of_another_version_is_made_anew(root, tmp_path, converted, monkeypatch):
    convert_coco(root, tmp_path / "out")
    monkeypatch.setattr(module, "LAYOUT", 99)
    convert_coco(root, tmp_path / "out")
    assert len(converted) == 14


def test_an_interrupted_conversion_goes_on_and_is_not_taken_for_whole(root, tmp_path, monkeypatch, converted):
    out, write = tmp_path / "out", module.write_index_png

    def interrupted(path, *rest):
        if path.stem == IDS[4]:
            raise KeyboardInterrupt
        write(path, *rest)

    monkeypatch.setattr(module, "write_index_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_coco(root, out)
    assert not out.exists() and read_recipe(out) is None
    monkeypatch.setattr(module, "write_index_png", write)
    converted.clear()
    convert_coco(root, out)
    assert [name for name in converted if name in IDS] == [IDS[4], *IDS[2:4]]
    assert VocFolder(out, COCO).read_list("train_aug") == IDS
    # what was left of other annotation is not kept
    monkeypatch.setattr(module, "write_index_png", interrupted)
    change(root / "annotations/instances_val2014.json", lambda c: c["annotations"].pop())
    with pytest.raises(KeyboardInterrupt):
        convert_coco(root, out)
    assert VocFolder(out, COCO).read_list("train_aug") == IDS
    change(root / "annotations/instances_train2014.json", lambda c: c.update(annotations=[]))
    monkeypatch.setattr(module, "write_index_png", write)
    convert_coco(root, out)
    assert not VocFolder(out, COCO).pixel_labels(IDS[0]).any()


def study_with(folder, **fields):
    other = {"name": "MS-COCO", "source": "coco", "path": str(folder), **fields}
    return make_study(folder, other_datasets={"coco": other})


def test_a_data_set_that_is_only_trained_on(root, tmp_path):
    study, paths = study_with(root).of_dataset("coco"), StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study, paths)
    manifest = read_manifest(paths.manifest)
    assert manifest["counts"] == {"pixel_labelled": 5, "training": 5, "evaluation": 0, "held_out": 0}
    data = open_data(paths.manifest)
    assert data.labels == COCO and data.ids("training") == data.ids("pixel_labelled") == IDS
    present = np.sum([COCO.present(data.pixel_labels(i)) for i in IDS], axis=0)
    assert manifest["class_images"] == COCO.by_name(present.tolist())
    assert {f"{kind}/{i}" for kind in ("photo", "mask") for i in IDS} < set(read_contents(paths.contents).facts)
    assert manifest["pixel_labelled_training"] == 5


def test_a_folder_in_the_voc_layout_that_is_only_trained_on(root, tmp_path):
    convert_coco(root, tmp_path / "voc")
    study = study_with(tmp_path / "voc", source="path", labels="coco").of_dataset("coco")
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study, paths)
    assert open_data(paths.manifest).ids("training") == IDS and open_data(paths.manifest).ids("evaluation") == []
    VocFolder(tmp_path / "voc", COCO).list_path("train_aug").unlink()
    with pytest.raises(WeaksegError, match=r"train_aug\.txt: no such list"):
        prepare_data(study, paths)


def test_a_study_of_coco_alone(root, tmp_path):
    lists = {"training": "train2014", "pixel_labelled": "train2014", "evaluation": "val2014"}
    dataset = {"name": "MS-COCO", "source": "coco", "path": "{data_root}/coco", "lists": lists}
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(make_study(root, dataset=dataset), paths, tmp_path)
    data = open_data(paths.manifest)
    assert data.ids("training") == [IDS[0], IDS[1], IDS[4]] and data.ids("evaluation") == IDS[2:4]


def test_what_a_study_may_say(tmp_path):
    dataset = study_with(tmp_path).of_dataset("coco").dataset
    assert dataset.labels == "coco" and dataset.of_coco and dataset.fetched is None
    assert (
        study_with(tmp_path, source="download", path=None, labels="coco").of_dataset("coco").dataset.fetched == "coco"
    )
    assert make_study(tmp_path, dataset={"name": "v", "source": "download"}).dataset.fetched == "voc"
    for fields, message in (
        ({"labels": "voc"}, "must be `coco`"),
        ({"path": None}, "dataset.path is needed where dataset.source is 'coco'"),
        ({"source": "path", "annotations": ["a.json"]}, "is for dataset.source 'coco'"),
        ({"annotations": []}, "at least 1 item"),
    ):
        with pytest.raises(ValidationError, match=message):
            study_with(tmp_path, **fields)


def test_needs_name_what_is_missing(root, tmp_path):
    study, paths = study_with(root), StudyPaths("fabricated", tmp_path / "results")

    def need():
        return next(need for need in outside_needs(study, paths) if need.what == "photos of coco")

    assert (need().state, need().place) == ("there", str(root))
    for name in ("train2014", "val2014"):
        (root / name).rename(root / f"no {name}")
    assert need().state == "missing" and "no folder of photos" in need().advice
    (root / "annotations/instances_val2014.json").unlink()
    assert "instances_val2014.json: no such file" in need().advice and "docs/data.md" in need().advice


def test_the_doctor_tells_what_is_fetched(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WEAKSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e12))
    (tmp_path / "cache/downloads/train2014").mkdir(parents=True)
    paths = StudyPaths("fabricated", tmp_path / "results")
    own = {"name": "v", "source": "download"}
    other = {"coco": {"name": "c", "source": "download", "labels": "coco"}}
    examine(make_study(root, dataset=own, other_datasets=other), [], paths, allow_cpu=True)
    told = capsys.readouterr().out
    assert f"there    coco2014_train: {tmp_path}/cache/downloads/train2014" in told
    assert "fetched  coco2014_val: val2014.zip, 6.7 GB" in told and "fetched  sbd: benchmark.tgz" in told
    assert "cache: about 33.1 GB to come" in told
    examine(make_study(root, dataset={"name": "c", "source": "coco", "path": str(root)}), [], paths, allow_cpu=True)
    assert f"there    photos: {root}" in capsys.readouterr().out


PAPER = load_sheet().lists


def state(study, paths, root=None):
    return sha256_json(decides.data(study, PAPER, paths, root))


def test_the_state_of_the_folder(root, tmp_path, monkeypatch):
    """The same before and after it is read; another date of the same content changes nothing, another content does."""
    monkeypatch.delenv("WEAKSEG_DATA_ROOT", raising=False)
    study, paths = study_with("{data_root}/coco").of_dataset("coco"), StudyPaths("fabricated", tmp_path / "results")
    assert decides.data(study, PAPER, paths)[-1] is None
    planned = state(study, paths, tmp_path)
    prepare_data(study, paths, tmp_path)
    assert state(study, paths, tmp_path) == planned == state(study, paths)
    files = [root / "annotations/instances_val2014.json", next((root / "train2014").iterdir())]
    for path in files:
        touch(path)
    assert state(study, paths, tmp_path) == planned
    kept = files[1].read_bytes()
    status = files[1].stat()
    files[1].write_bytes(kept[:-3] + b"abc")  # of the same length
    assert state(study, paths, tmp_path) != planned
    files[1].unlink()
    assert state(study, paths, tmp_path) != planned
    files[1].write_bytes(kept)
    os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert state(study, paths, tmp_path) == planned
    change(files[0], lambda c: c["annotations"].pop())
    assert state(study, paths, tmp_path) != planned
    prepare_data(study, paths, tmp_path)
    changed = state(study, paths, tmp_path)
    shutil.rmtree(paths.images)
    assert changed != planned and state(study, paths, tmp_path) == changed
    one_file = study_with("{data_root}/coco", annotations=["annotations/instances_val2014.json"]).of_dataset("coco")
    assert state(one_file, paths, tmp_path) != changed


@pytest.fixture
def archives(tmp_path, root, monkeypatch):
    """Archives of `root` in the cache, and a datasets.yaml for them."""
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    monkeypatch.setenv("WEAKSEG_CACHE", str(tmp_path / "cache"))
    rewrite(root / "annotations/captions_val2014.json", {})
    rows = {}
    for name, folder in zip(ARCHIVES["coco"], ("annotations", "train2014", "val2014"), strict=True):
        path = downloads / f"{folder}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((root / folder).iterdir()):
                archive.write(file, f"{folder}/{file.name}")
            archive.writestr(f"../{folder}/../outside.jpg", b"not a plain name")
        rows[name] = {
            "version": "tiny",
            "file": path.name,
            "unpacked": folder,
            "checksum": "md5:" + hashlib.md5(path.read_bytes()).hexdigest(),
            "addresses": ["http://127.0.0.1:9/" + path.name],
            "licence": "none",
            "expected": {"train2014": {"train2014": 3}, "val2014": {"val2014": 2}}.get(folder, {}),
        }
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(rows))
    return path


def test_archives_are_unpacked_once_and_converted(archives, root, tmp_path, project_root):
    study = study_with(root, source="download", path=None, labels="coco").of_dataset("coco")
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study, paths, config_dir=tmp_path)
    assert open_data(paths.manifest).ids("training") == IDS
    given = download_coco(tmp_path / "other", archives)
    assert given.parent == tmp_path / "cache" and given.name.startswith("coco-")
    files = sorted(path.relative_to(given).as_posix() for path in given.rglob("*.j*"))
    captions = "annotations/captions_val2014.json"
    assert files == sorted(
        [
            *(p.relative_to(root).as_posix() for p in root.rglob("*.j*") if p.name != captions.split("/")[1]),
            "downloaded.json",
        ]
    )
    assert not list(tmp_path.rglob("outside.jpg"))
    rows = yaml.safe_load(archives.read_text())
    decided = [decides.data(study, PAPER, paths, archives=change) for change in (rows, rows | {"voc2012": {}}, {})]
    assert decided[0] == decided[1] != decided[2]


def test_folders_unpacked_by_hand_are_linked(archives, root, tmp_path):
    downloads = tmp_path / "cache" / "downloads"
    for name in ("annotations", "train2014", "val2014"):
        shutil.copytree(root / name, downloads / name)
        (downloads / f"{name}.zip").unlink()
    given = download_coco(tmp_path / "other", archives)
    assert all((given / name).is_symlink() for name in ("annotations", "train2014", "val2014"))
    convert_coco(given, tmp_path / "out")
    assert VocFolder(tmp_path / "out", COCO).read_list("train_aug") == IDS


def test_archives_that_are_not_whole(archives, tmp_path):
    downloads = tmp_path / "cache" / "downloads"
    with zipfile.ZipFile(downloads / "val2014.zip", "w") as archive:
        archive.writestr("val2014/COCO_val2014_000000000042.jpg", b"x")
    rows = yaml.safe_load(archives.read_text())

    def checked():
        content = (downloads / "val2014.zip").read_bytes()
        rows["coco2014_val"]["checksum"] = "md5:" + hashlib.md5(content).hexdigest()
        archives.write_text(yaml.safe_dump(rows))

    checked()
    with pytest.raises(WeaksegError, match="val2014 has 1 photos in place of 2"):
        download_coco(tmp_path / "other", archives)
    (downloads / "val2014.zip").write_bytes(b"not an archive")
    checked()
    with pytest.raises(WeaksegError, match=r"val2014\.zip: not a readable archive"):
        download_coco(tmp_path / "other", archives)


def test_the_rows_of_datasets_yaml(project_root):
    archives = load_datasets(project_root / "config" / "datasets.yaml")
    assert (
        sum(archives[name].expected.get(part, 0) for name in ARCHIVES["coco"] for part in ("train2014", "val2014"))
        == 123287
    )


def test_the_real_subset(shared_root, tmp_path):
    """Counts of the sample's own description."""
    folder = shared_root / "data" / "coco-subset"
    if not folder.is_dir():
        pytest.skip(
            f"no real photos of MS-COCO at {folder}: set WEAKSEG_DATA_ROOT to a folder that holds data/coco-subset"
        )
    paths = StudyPaths("fabricated", tmp_path / "results")
    prepare_data(study_with(folder).of_dataset("coco"), paths)
    manifest, data = read_manifest(paths.manifest), open_data(paths.manifest)
    assert manifest["counts"]["training"] == 544 and manifest["pixel_labelled_training"] == 544
    assert {name for name, number in manifest["class_images"].items() if not number} == {
        COCO.names[number] for number in COCO.unused
    }
    content = json.loads((folder / "annotations/instances.json").read_text())
    sizes = {f"{image['id']:012d}": (image["height"], image["width"]) for image in content["images"]}
    with_class = {
        n: {a["image_id"] for a in content["annotations"] if a["category_id"] == n and not a["iscrowd"]} for n in USED
    }
    for number in USED:  # an object may be hidden behind smaller ones, and none is added
        assert 0.8 * len(with_class[number]) <= manifest["class_images"][COCO.names[number]] <= len(with_class[number])
    for image_id in data.ids("training")[::40]:
        assert data.image(image_id).shape[:2] == data.pixel_labels(image_id).shape == sizes[image_id]
