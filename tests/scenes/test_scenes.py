"""The generated scenes: annotation that fits the image, laws of the generator, files in the VOC layout."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg import parallel
from weakseg.config import Scenes
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC, LabelSet
from weakseg.scenes.objects import OBJECTS, draw_object
from weakseg.scenes.scene import make_scene, make_single
from weakseg.scenes.write import read_pretraining, void_border, write_scenes

SIZES = Scenes(train=60, train_aug=240, val=60, crf_val=10)
FEW = Scenes(seed=3, train=2, train_aug=5, val=3, crf_val=2, classes=6, pretrain_per_class=2)


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(SIZES, "train", index) for index in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("data")
    assert write_scenes(target, FEW) == target / "voc"
    return target


def test_every_class_is_drawn():
    assert tuple(OBJECTS) == VOC.classes


def test_annotation_fits_itself(scenes):
    for scene in scenes:
        assert scene.image.shape == (120, 160, 3) and scene.image.dtype == np.uint8
        assert scene.labels.shape == scene.instances.shape == scene.parts.shape == (120, 160)
        assert np.array_equal(scene.labels == 0, scene.instances == 0)
        assert scene.instances.max() == len(scene.objects) > 0
        for number, (name, box) in enumerate(scene.objects, start=1):
            mask = scene.instances == number
            assert set(np.unique(scene.labels[mask])) == {VOC.index(name)}
            rows, columns = np.nonzero(mask)
            assert box == (rows.min(), columns.min(), rows.max(), columns.max())
            assert mask.sum() >= 0.004 * mask.size
        marked = scene.parts > 0
        assert np.array_equal(scene.parts[marked], scene.labels[marked])


def test_classes_take_turns(scenes):
    """Twenty images after another have twenty main classes, and the main class is seen."""
    for deck in (scenes[:20], scenes[20:40], scenes[40:]):
        counts = sum(np.isin(np.arange(1, 21), scene.labels).astype(int) for scene in deck)
        assert counts.min() >= 1


def test_scenes_look_like_the_task(scenes):
    """One to three classes and several objects an image, enough foreground, tell-tale parts that are a small part."""
    classes = [len(np.unique(scene.labels)) - 1 for scene in scenes]
    assert set(classes) == {1, 2, 3}
    assert 1.4 <= np.mean([len(scene.objects) for scene in scenes]) <= 3
    foreground = np.mean([scene.labels > 0 for scene in scenes])
    assert 0.15 <= foreground <= 0.35
    assert 0.03 <= np.mean([scene.parts > 0 for scene in scenes]) / foreground <= 0.15


def test_objects_are_large_enough_for_a_grid_of_eight(scenes):
    extents = [max(b - t, r - left) + 1 for scene in scenes for _, (t, left, b, r) in scene.objects]
    assert np.quantile(extents, 0.05) >= 24 and np.quantile(extents, 0.95) <= 125


@pytest.mark.parametrize("name", OBJECTS)
def test_a_tell_tale_part_is_a_small_mark_within_the_body(name):
    """Drawn with and without its mark: the mark is small, on the body or touching it, and stands out from it."""
    with_part = draw_object(name, 50, np.random.default_rng(1), part=True)
    without = draw_object(name, 50, np.random.default_rng(1), part=False)
    assert without.part.sum() == 0 and with_part.part.sum() >= 12
    body = without.cover > 0.5
    assert with_part.part.sum() <= 0.22 * body.sum()
    assert (with_part.part & ~body).sum() <= 0.6 * with_part.part.sum()
    change = np.abs(with_part.rgb - without.rgb).max(-1)[with_part.part & body]
    assert np.median(change) > 40


def test_colours_do_not_tell_the_class():
    """The nearest class by mean colour of the body is mostly a wrong one."""
    sprites = [[draw_object(name, 40, np.random.default_rng([n, 7])) for n in range(16)] for name in OBJECTS]
    means = np.array([[sprite.rgb[sprite.cover > 0.5].mean(0) for sprite in row] for row in sprites])
    centres, tested = means[:, :8].mean(1), means[:, 8:].reshape(-1, 3)
    nearest = np.argmin(((tested[:, None] - centres[None]) ** 2).sum(-1), axis=1)
    assert np.mean(nearest == np.repeat(np.arange(20), 8)) < 0.4


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("image", "labels", "instances", "parts"))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 500), st.sampled_from(["train", "val"]))
def test_a_scene_depends_on_seed_list_and_number_alone(seed, index, split):
    short = Scenes(seed=seed, train=1, train_aug=2, val=1, crf_val=1)
    long = Scenes(seed=seed, train=100, train_aug=900, val=300, crf_val=50, pretrain_per_class=3)
    scene = make_scene(short, split, index)
    assert same(scene, make_scene(long, split, index))
    assert not same(scene, make_scene(Scenes(seed=seed + 1), split, index))
    assert not same(scene, make_scene(short, split, index + 1))
    assert not same(scene, make_scene(short, "val" if split == "train" else "train", index))


@settings(max_examples=10, deadline=None)
@given(st.integers(32, 260), st.integers(32, 260), st.integers(2, 20), st.integers(0, 99))
def test_any_size_and_number_of_classes(height, width, classes, index):
    scene = make_scene(Scenes(height_px=height, width_px=width, classes=classes), "train", index)
    assert scene.image.shape == (height, width, 3) and scene.labels.shape == (height, width)
    assert scene.labels.max() <= classes


def test_single_objects_differ_and_repeat():
    first = make_single(FEW, "cat", 0)
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, make_single(FEW, "cat", 0))
    assert not np.array_equal(first, make_single(FEW, "cat", 1))
    assert not np.array_equal(first, make_single(FEW, "dog", 0))


def slow_void(instances):
    """A pixel is void where it or a direct neighbour belongs to another instance."""
    height, width = instances.shape
    void = np.zeros(instances.shape, dtype=bool)
    for i in range(height):
        for j in range(width):
            for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= k < height and 0 <= m < width and instances[k, m] != instances[i, j]:
                    void[i, j] = True
    return void


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_void_border_against_a_plain_loop(instances):
    assert np.array_equal(void_border(instances), slow_void(instances))


def test_lists(folder):
    voc = VocFolder(folder / "voc")
    lists = {name: voc.read_list(name) for name in ("train", "train_aug", "val", "crf_val")}
    assert {name: len(ids) for name, ids in lists.items()} == {"train": 2, "train_aug": 5, "val": 3, "crf_val": 2}
    assert set(lists["train"]) < set(lists["train_aug"]) and set(lists["crf_val"]) < set(lists["val"])
    assert not set(lists["train_aug"]) & set(lists["val"])
    assert all(ids == sorted(ids) for ids in lists.values())


def test_void_as_in_voc_and_sbd(folder):
    voc = VocFolder(folder / "voc")
    with_void = {*voc.read_list("train"), *voc.read_list("val")}
    for split in ("train", "val"):
        for index, image_id in enumerate(voc.read_list("train_aug" if split == "train" else "val")):
            scene = make_scene(FEW, split, index)
            labels, instances = voc.pixel_labels(image_id), voc.instances(image_id)
            void = labels == 255
            assert np.array_equal(void, instances == 255)
            assert void.any() == (image_id in with_void)
            assert np.array_equal(labels[~void], scene.labels[~void])
            assert np.array_equal(instances[~void], scene.instances[~void])
            assert np.abs(voc.image(image_id).astype(int) - scene.image).mean() < 8  # a JPEG of it


def test_boxes_in_the_annotation_files(folder):
    voc = VocFolder(folder / "voc")
    for index, image_id in enumerate(voc.read_list("train_aug")):
        scene = make_scene(FEW, "train", index)
        annotation = ElementTree.parse(folder / "voc" / "Annotations" / f"{image_id}.xml")
        found = [
            (o.findtext("name"), *(int(o.findtext(f"bndbox/{k}")) for k in ("ymin", "xmin", "ymax", "xmax")))
            for o in annotation.iter("object")
        ]
        assert found == [(name, *(edge + 1 for edge in box)) for name, box in scene.objects]


def test_pretraining_images(folder):
    images, labels = read_pretraining(folder)
    assert images.shape == (12, 64, 64, 3) and images.dtype == np.uint8
    assert labels.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert np.array_equal(images[5], make_single(FEW, VOC.names[3], 1))


def test_no_pretraining_images(tmp_path):
    with pytest.raises(WeaksegError, match="pretrain: no images"):
        read_pretraining(tmp_path)


def test_files_are_the_same_bytes_again_kept_and_replaced(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "WORTH_PROCESSES_S", -1.0)  # by others, although they save nothing
    write_scenes(tmp_path, FEW, processes=2)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((folder / path).read_bytes() == (tmp_path / path).read_bytes() for path in files)
    photo = tmp_path / "voc" / "JPEGImages" / "val_000000.jpg"
    written = photo.stat().st_mtime_ns
    write_scenes(tmp_path, FEW)
    assert photo.stat().st_mtime_ns == written
    before = photo.read_bytes()
    write_scenes(tmp_path, FEW.model_copy(update={"seed": 4}))
    assert photo.read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pretrain", "voc"]


def test_a_folder_of_the_user_is_left_alone(tmp_path):
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc" / "mine.txt").write_text("precious")
    with pytest.raises(WeaksegError, match="in the way"):
        write_scenes(tmp_path, FEW)
    assert (tmp_path / "voc" / "mine.txt").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]


@pytest.mark.parametrize("changes", [{"train": 6}, {"crf_val": 4}])
def test_lists_that_do_not_fit(tmp_path, changes):
    with pytest.raises(WeaksegError, match="make the lists fit"):
        write_scenes(tmp_path, FEW.model_copy(update=changes))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("train", -1)])
def test_unknown_scenes(split, index):
    with pytest.raises(WeaksegError, match="split is train or val"):
        make_scene(FEW, split, index)


def test_labels_are_those_of_the_label_set(tmp_path):
    """Another order of the classes: the same objects under other labels, and only those that are drawn by name."""
    own = LabelSet.of_classes("own", ["dog", "cat"], {"dog": "#0a0b0c"})
    sizes = FEW.model_copy(update={"classes": 2})
    folder = VocFolder(write_scenes(tmp_path, sizes, own), own)
    for index, image_id in enumerate(folder.read_list("val")):
        scene = make_scene(sizes, "val", index, own)
        assert {own.index(name) for name, _ in scene.objects} == set(np.unique(scene.labels)) - {0}
        assert set(np.unique(folder.pixel_labels(image_id))) <= {0, 1, 2, 255}
        assert {name for name, _ in scene.objects} <= {"dog", "cat"}
        assert [box.label for box in folder.boxes(image_id)] == [own.index(name) for name, _ in scene.objects]
    images, labels = read_pretraining(tmp_path, own)
    assert labels.tolist() == [1, 1, 2, 2] and np.array_equal(images[0], make_single(sizes, "dog", 0, own))


def test_a_class_that_cannot_be_drawn(tmp_path):
    own = LabelSet.of_classes("own", ["dog", "lawn mower"])
    with pytest.raises(WeaksegError, match="scenes of 'lawn mower' cannot be drawn"):
        write_scenes(tmp_path, FEW.model_copy(update={"classes": 2}), own)
    assert not list(tmp_path.iterdir())
