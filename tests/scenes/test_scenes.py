"""The generated scenes: annotation that fits the image, laws of the generator, files in the VOC layout."""

import hashlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg import parallel
from weakseg.config import Scenes, load_study
from weakseg.config.dataset import SCENES_VERSION
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import SCENES28, VOC, LabelSet
from weakseg.scenes.objects import VOC_OBJECTS
from weakseg.scenes.objects_more import MORE_OBJECTS
from weakseg.scenes.scene import drawn_classes, make_scene, make_single
from weakseg.scenes.sprites import OBJECTS, draw_object
from weakseg.scenes.write import read_pretraining, void_border, write_scenes

SIZES = Scenes(train=60, train_aug=240, val=60, crf_val=10)
FEW = Scenes(seed=3, train=2, train_aug=5, val=3, crf_val=2, classes=6, pretrain_per_class=2)
ALL = SIZES.model_copy(update={"seed": 1, "classes": 28})

SCENE_BYTES = {
    ("train", 0): "3f4accb16e47e09cdea045b51ba8be5de481f460ac9ce0cf15372cfb68c3321a",
    ("train", 7): "33424b18ab3e9075f3ebb5b8921b81783b82c9af4432ccdfafef787be6187e95",
    ("train", 239): "3031138a6c011bb8d513e16e2ad56702cd4c820e1bc8cdc7040e32347e17dc97",
    ("val", 0): "8afd38f91c6cb8ced7d972a63c767faeac77f48786586568a0f4eb0d19c90aab",
    ("val", 35): "292ccf29832c76f85963a4e2aa5d76df81e82102702ea52024061cae7fa6c402",
}
"""SHA-256 of image, labels, instances and parts of the demo's scenes, as they were before there were more classes."""

SINGLE_BYTES = {
    ("aeroplane", 0): "d3ab69c6adfde3cef031bd631df42c8139fbb238d429937b46ddc932f28b7ae2",
    ("person", 1): "1941fe03580a656cb3b5d69b703bd73589f75d72576174dd7a342457e84f7e59",
    ("tvmonitor", 59): "47da6e05ca023757f3ece363f44e204bf1f265d0c6814e65562def5badd997ba",
}
"""SHA-256 of single objects for pre-training with the seed of the demo, from the same code."""


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(SIZES, "train", index) for index in range(60)]


@pytest.fixture(scope="module")
def scenes_of_all():
    return [make_scene(ALL, "train", index, SCENES28) for index in range(84)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("data")
    assert write_scenes(target, FEW) == target / "voc"
    return target


def test_every_class_is_drawn():
    assert tuple(VOC_OBJECTS) == VOC.classes
    assert set(OBJECTS) == set(SCENES28.classes) == {*VOC.classes, *MORE_OBJECTS} and len(OBJECTS) == 28


def digest(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_images_of_the_demo_stay_what_they_were():
    """Whoever changes them on purpose raises SCENES_VERSION and takes these sums anew."""
    sizes = load_study("demo").dataset.scenes
    assert SCENES_VERSION == 3 and sizes.seed == 0 and sizes.classes == 20
    for (split, index), known in SCENE_BYTES.items():
        scene = make_scene(sizes, split, index)
        assert digest(scene.image, scene.labels, scene.instances, scene.parts) == known, (split, index)
    for (name, index), known in SINGLE_BYTES.items():
        assert digest(make_single(sizes, name, index)) == known, (name, index)


def test_a_set_of_vocs_classes_has_no_others(scenes):
    assert drawn_classes(SIZES, VOC) == VOC.classes
    assert not {name for scene in scenes for name, _ in scene.objects} & set(MORE_OBJECTS)
    seen = {name for index in range(60) for name, _ in make_scene(SIZES, "train", index, SCENES28).objects}
    assert drawn_classes(SIZES, SCENES28) == SCENES28.classes[:20] and seen <= set(SCENES28.classes[:20])


def test_the_set_of_all_classes(scenes_of_all):
    """Every class has its turn, new ones beside VOC's; labels are the set's, which are not VOC's."""
    assert drawn_classes(ALL, SCENES28) == SCENES28.classes
    for start in (0, 28, 56):
        deck = scenes_of_all[start : start + 28]
        assert {name for scene in deck for name, _ in scene.objects} == set(OBJECTS)
    for scene in scenes_of_all:
        for number, (name, _) in enumerate(scene.objects, start=1):
            assert set(np.unique(scene.labels[scene.instances == number])) == {SCENES28.index(name)}
    together = [{name in MORE_OBJECTS for name, _ in scene.objects} for scene in scenes_of_all]
    assert sum(kinds == {True, False} for kinds in together) >= 10
    assert sum(SCENES28.index(name) != VOC.index(name) for name in VOC.classes) >= 15


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


@pytest.mark.parametrize("which", ["scenes", "scenes_of_all"])
def test_scenes_look_like_the_task(which, request):
    """One to three classes and several objects an image, enough foreground, tell-tale parts that are a small part."""
    scenes = request.getfixturevalue(which)
    classes = [len(np.unique(scene.labels)) - 1 for scene in scenes]
    assert set(classes) == {1, 2, 3}
    assert 1.4 <= np.mean([len(scene.objects) for scene in scenes]) <= 3
    foreground = np.mean([scene.labels > 0 for scene in scenes])
    assert 0.15 <= foreground <= 0.35
    assert 0.03 <= np.mean([scene.parts > 0 for scene in scenes]) / foreground <= 0.15


@pytest.mark.parametrize("which", ["scenes", "scenes_of_all"])
def test_objects_are_large_enough_for_a_grid_of_eight(which, request):
    scenes = request.getfixturevalue(which)
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
    assert np.mean(nearest == np.repeat(np.arange(28), 8)) < 0.4


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("image", "labels", "instances", "parts"))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 500), st.sampled_from(["train", "val", "test"]))
def test_a_scene_depends_on_seed_list_and_number_alone(seed, index, split):
    short = Scenes(seed=seed, train=1, train_aug=2, val=1, crf_val=1)
    long = Scenes(seed=seed, train=100, train_aug=900, val=300, crf_val=50, pretrain_per_class=3)
    scene = make_scene(short, split, index)
    assert same(scene, make_scene(long, split, index))
    assert not same(scene, make_scene(Scenes(seed=seed + 1), split, index))
    assert not same(scene, make_scene(short, split, index + 1))
    assert not same(scene, make_scene(short, {"train": "val", "val": "test", "test": "train"}[split], index))


@settings(max_examples=10, deadline=None)
@given(st.integers(32, 260), st.integers(32, 260), st.integers(2, 28), st.integers(0, 99))
def test_any_size_and_number_of_classes(height, width, classes, index):
    sizes = Scenes(height_px=height, width_px=width, classes=classes)
    scene = make_scene(sizes, "train", index, SCENES28)
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


def test_images_of_test_are_added_and_change_no_other(folder, tmp_path):
    root = write_scenes(tmp_path, FEW.model_copy(update={"test": 4}))
    voc = VocFolder(root)
    assert voc.read_list("test") == [f"test_{index:06d}" for index in range(4)]
    for index, image_id in enumerate(voc.read_list("test")):
        scene = make_scene(FEW, "test", index)
        border = void_border(scene.instances)
        assert border.any() and np.array_equal(voc.pixel_labels(image_id), np.where(border, 255, scene.labels))
        assert np.array_equal(voc.instances(image_id) == 255, border)
        assert len(voc.boxes(image_id)) == len(scene.objects)
        assert np.abs(voc.image(image_id).astype(int) - scene.image).mean() < 8
        for split in ("train", "val"):
            assert not np.array_equal(scene.labels, make_scene(FEW, split, index).labels)
    before = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert before < after and all("test" in path.name for path in after - before)
    recipes = {path for path in before if path.name == "scenes.json"}
    assert all((folder / path).read_bytes() == (tmp_path / path).read_bytes() for path in before - recipes)


def test_a_set_that_is_only_trained_on(tmp_path):
    """No images of val, and no list of them: an empty one would be refused when it is read."""
    sizes = ALL.model_copy(update={"train": 2, "train_aug": 6, "val": 0, "crf_val": 0, "pretrain_per_class": 1})
    voc = VocFolder(write_scenes(tmp_path, sizes, SCENES28), SCENES28)
    assert sorted(path.name for path in (voc.root / "ImageSets/Segmentation").iterdir()) == [
        "train.txt",
        "train_aug.txt",
    ]
    assert sorted(path.stem for path in (voc.root / "JPEGImages").iterdir()) == voc.read_list("train_aug")
    for index, image_id in enumerate(voc.read_list("train_aug")):
        scene = make_scene(sizes, "train", index, SCENES28)
        assert [box.label for box in voc.boxes(image_id)] == [SCENES28.index(name) for name, _ in scene.objects]
    _, labels = read_pretraining(tmp_path, SCENES28)
    assert labels.tolist() == list(range(1, 29))


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


@pytest.mark.parametrize(("split", "index"), [("pretrain", 0), ("train", -1)])
def test_unknown_scenes(split, index):
    with pytest.raises(WeaksegError, match="split is train, val or test"):
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
