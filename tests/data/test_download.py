"""Finding and joining VOC 2012 and SBD, with archives of a few files that lie in the cache."""

import hashlib
import io
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricate import add_member, sbd_mat
from PIL import Image
from scipy.io import savemat

from weakseg.config import Study
from weakseg.data.dataset import read_manifest
from weakseg.data.download import download_voc, load_datasets
from weakseg.data.images import write_index_png
from weakseg.data.prepare import prepare_data
from weakseg.data.voc import VocFolder
from weakseg.errors import WeaksegError
from weakseg.labels import VOC
from weakseg.paths import StudyPaths

SIZE = (20, 30)
TRAIN, VAL = ["2007_000001", "2007_000004"], ["2007_000002", "2008_000009"]
SBD = ["2007_000001", "2007_000002", "2008_000003", "2008_000005"]  # one of train, one of val, two more
OTHER = "2009_000007"  # a photo of another task


def mask_png(tmp_path, label):
    write_index_png(tmp_path / "one.png", np.full(SIZE, label), VOC)
    return (tmp_path / "one.png").read_bytes()


NOWHERE = "http://127.0.0.1:9/"  # the port at which nothing is to be had


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The downloads of the cache that a study takes when nothing else is said."""
    monkeypatch.setenv("WEAKSEG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    return tmp_path / "cache" / "downloads"


@pytest.fixture
def archives(source, tmp_path):
    """The two archives in the cache and a datasets.yaml for them. VOC's masks are label 7, SBD's label 12."""
    with tarfile.open(source / "voc.tar", "w") as voc:
        for image_id in sorted({*TRAIN, *VAL, *SBD, OTHER}):
            stream = io.BytesIO()
            Image.new("RGB", SIZE[::-1], (int(image_id[-1]) * 20, 80, 90)).save(stream, "JPEG")
            add_member(voc, f"VOCdevkit/VOC2012/JPEGImages/{image_id}.jpg", stream.getvalue())
        for image_id in (*TRAIN, *VAL):
            add_member(voc, f"VOCdevkit/VOC2012/SegmentationClass/{image_id}.png", mask_png(tmp_path, 7))
            add_member(voc, f"VOCdevkit/VOC2012/SegmentationObject/{image_id}.png", mask_png(tmp_path, 1))
        for name, ids in (("train", TRAIN), ("val", VAL)):
            add_member(
                voc, f"VOCdevkit/VOC2012/ImageSets/Segmentation/{name}.txt", "".join(f"{i}\n" for i in ids).encode()
            )
        add_member(voc, "VOCdevkit/VOC2012/ImageSets/Main/train.txt", b"not this one\n")
        add_member(voc, "../../escaped/VOC2012/JPEGImages/../../outside.jpg", b"not a plain name")
    with tarfile.open(source / "benchmark.tgz", "w:gz") as sbd:
        for image_id in SBD:
            add_member(
                sbd,
                f"benchmark_RELEASE/dataset/cls/{image_id}.mat",
                sbd_mat("GTcls", np.full(SIZE, 12, dtype=np.uint8)),
            )
            add_member(
                sbd,
                f"benchmark_RELEASE/dataset/inst/{image_id}.mat",
                sbd_mat("GTinst", np.full(SIZE, 2, dtype=np.uint8)),
            )
        add_member(sbd, "benchmark_RELEASE/dataset/train.txt", b"whatever\n")
    return write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")


def write_datasets(tmp_path, voc_tar, sbd_tar, **changes):
    rows = {
        "voc2012": {
            "version": "tiny VOC",
            "file": "voc.tar",
            "unpacked": "VOCdevkit",
            "checksum": "md5:" + hashlib.md5(voc_tar.read_bytes()).hexdigest(),
            "addresses": [NOWHERE + "voc.tar"],
            "licence": "none",
            "expected": {"train": 2, "val": 2},
        },
        "sbd": {
            "version": "tiny SBD",
            "file": "benchmark.tgz",
            "unpacked": "benchmark_RELEASE",
            "checksum": "md5:" + hashlib.md5(sbd_tar.read_bytes()).hexdigest(),
            "addresses": [NOWHERE + "benchmark.tgz"],
            "licence": "none",
            "expected": {"train_aug": 4},
        },
    }
    for name, fields in changes.items():
        rows[name] |= fields
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump(rows))
    return path


def test_the_two_are_joined_as_the_paper_does(archives, tmp_path):
    root = download_voc(tmp_path / "data", archives)
    voc = VocFolder(root)
    lists = {name: voc.read_list(name) for name in ("train", "val", "train_aug", "trainval", "trainval_aug")}
    assert lists["train"] == TRAIN and lists["val"] == VAL
    # (SBD and train) without val, sorted
    assert lists["train_aug"] == ["2007_000001", "2007_000004", "2008_000003", "2008_000005"]
    assert lists["trainval_aug"] == sorted({*lists["train_aug"], *VAL}) and len(lists["trainval"]) == 4
    for image_id in lists["trainval_aug"]:
        official = image_id in {*TRAIN, *VAL}  # VOC's own masks win over SBD's
        assert set(np.unique(voc.pixel_labels(image_id))) == {7 if official else 12}
        assert set(np.unique(voc.instances(image_id))) == {1 if official else 2}
    assert not voc.image_path(OTHER).exists()
    assert not list(tmp_path.rglob("outside.jpg"))


def test_a_study_is_prepared_from_it(archives, tmp_path, project_root):
    shutil.copy(project_root / "config" / "experiments.yaml", tmp_path)
    study = Study.model_validate(
        {
            "name": "voc",
            "description": "d",
            "dataset": {"name": "tiny", "source": "download"},
            "network": {"trunk": "tiny", "crop_px": 33},
            "solver": {"iterations": 1},
        }
    )
    paths = StudyPaths("voc", tmp_path / "results")
    prepare_data(study, paths, config_dir=tmp_path)
    manifest = read_manifest(paths.manifest)
    assert manifest["source"] == "downloaded" and manifest["counts"] == {
        "pixel_labelled": 2,
        "training": 4,
        "evaluation": 2,
        "held_out": 1,
    }


def test_two_studies_at_the_same_time_make_one_layout(archives, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda name: download_voc(tmp_path / name, archives), ("one", "other"))
    assert one == other and VocFolder(one).read_list("train") == TRAIN
    assert [path.name for path in (tmp_path / "cache").iterdir() if "partial" in path.name] == []


def test_a_second_study_fetches_and_unpacks_nothing(archives, source, tmp_path, monkeypatch):
    root = download_voc(tmp_path / "data", archives)
    marker = (root / "downloaded.json").stat().st_mtime_ns
    for path in source.iterdir():
        path.unlink()
    monkeypatch.setattr("weakseg.data.download.locked", None)  # the cache may be one that is only read
    assert download_voc(tmp_path / "another" / "data", archives) == root == next((tmp_path / "cache").glob("voc-*"))
    assert (root / "downloaded.json").stat().st_mtime_ns == marker
    assert not (tmp_path / "data").exists() and not (tmp_path / "another").exists()


def test_archives_of_another_release_get_another_folder(archives, source, tmp_path):
    root = download_voc(tmp_path / "data", archives)
    with tarfile.open(source / "voc.tar", "a") as voc:
        add_member(voc, "VOCdevkit/VOC2012/readme.txt", b"second edition")
    other = download_voc(tmp_path / "data", write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz"))
    assert other != root and VocFolder(other).read_list("train") == VocFolder(root).read_list("train") == TRAIN


def test_a_cache_named_by_argument(archives, source, tmp_path):
    source.parent.rename(tmp_path / "here")
    root = download_voc(tmp_path / "data", archives, cache=tmp_path / "here")
    assert root.parent == tmp_path / "here" and not source.exists()


def test_archives_in_the_studys_own_downloads_are_used(archives, source, tmp_path):
    (tmp_path / "data").mkdir()
    source.rename(tmp_path / "data" / "downloads")
    assert VocFolder(download_voc(tmp_path / "data", archives)).read_list("train") == TRAIN


@pytest.mark.parametrize("place", ["cache", "data"])
def test_folders_that_are_unpacked_already_are_used(archives, source, tmp_path, place):
    whole = download_voc(tmp_path / "data", archives)
    target = tmp_path / place / "downloads"
    for name in ("voc.tar", "benchmark.tgz"):
        with tarfile.open(source / name) as archive:
            members = [member for member in archive if not member.name.startswith("..")]
            archive.extractall(target, members, filter="data")
        (source / name).unlink()
    reference = whole.rename(tmp_path / "reference")
    root = download_voc(tmp_path / "data", archives)

    def content(folder):
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != "downloaded.json")
        return {path.relative_to(folder): path.read_bytes() for path in files}

    assert content(root) == content(reference)
    assert "unchecked" in (root / "downloaded.json").read_text()
    assert "unchecked" not in (reference / "downloaded.json").read_text()


def test_nothing_at_hand_says_what_to_do(archives, source, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (source / "voc.tar").unlink()
    with pytest.raises(WeaksegError, match=r"cannot be fetched(.|\n)*put it at .*downloads/voc\.tar"):
        download_voc(tmp_path / "data", archives)
    assert not list((tmp_path / "cache").glob("*voc-*/"))


def test_a_wrong_file_in_the_way_is_not_overwritten(archives, source, tmp_path):
    (source / "voc.tar").write_bytes(b"something else")
    with pytest.raises(WeaksegError, match=r"voc\.tar: its checksum is not md5:"):
        download_voc(tmp_path / "data", archives)
    assert (source / "voc.tar").read_bytes() == b"something else"


def test_a_folder_in_the_way_is_left_alone(archives, tmp_path):
    root = download_voc(tmp_path / "data", archives)
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(WeaksegError, match="in the way"):
        download_voc(tmp_path / "data", archives)
    assert not list(root.iterdir())


def test_a_cache_that_is_no_folder(archives, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeaksegError, match=r"file: cannot be used as the cache(.|\n)*WEAKSEG_CACHE"):
        download_voc(tmp_path / "data", archives, cache=tmp_path / "file")


def test_lists_of_another_length(archives, source, tmp_path):
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz", sbd={"expected": {"train_aug": 5}})
    with pytest.raises(WeaksegError, match="train_aug has 4 images in place of 5"):
        download_voc(tmp_path / "data", path)
    assert not list((tmp_path / "cache").glob("*voc-*/"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("voc.tar", b"no archive at all", "not a readable archive"),
        ("benchmark.tgz", b"no archive at all", "not a readable archive"),
    ],
)
def test_archives_that_are_none(archives, source, tmp_path, name, content, message):
    (source / name).write_bytes(content)
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match=rf"{name}.*{message}"):
        download_voc(tmp_path / "data", path)


def test_a_truncated_archive(archives, source, tmp_path):
    whole = (source / "benchmark.tgz").read_bytes()
    (source / "benchmark.tgz").write_bytes(whole[: len(whole) // 2])
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match="not a readable archive"):
        download_voc(tmp_path / "data", path)


def test_an_archive_without_the_expected_files(archives, source, tmp_path):
    with tarfile.open(source / "benchmark.tgz", "w:gz") as empty:
        add_member(empty, "readme.txt", b"nothing here")
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match="this is not the SBD archive"):
        download_voc(tmp_path / "data", path)


def test_a_mat_file_without_a_segmentation(archives, source, tmp_path):
    stream = io.BytesIO()
    savemat(stream, {"other": np.zeros(3)})
    with tarfile.open(source / "benchmark.tgz", "w:gz") as sbd:
        add_member(sbd, "benchmark_RELEASE/dataset/cls/2008_000003.mat", stream.getvalue())
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match=r"2008_000003\.mat holds no GTcls"):
        download_voc(tmp_path / "data", path)


def test_the_configured_archives(project_root):
    archives = load_datasets(project_root / "config" / "datasets.yaml")
    assert archives["voc2012"].expected | archives["sbd"].expected == {"train": 1464, "val": 1449, "train_aug": 10582}
    voc = pytest.importorskip("torchvision.datasets.voc").DATASET_YEAR_DICT["2012"]
    sbd = pytest.importorskip("torchvision.datasets").SBDataset
    assert archives["voc2012"].checksum == "md5:" + voc["md5"] and archives["voc2012"].addresses[0] == voc["url"]
    assert archives["sbd"].checksum == "md5:" + sbd.md5 and archives["sbd"].addresses[0] == sbd.url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voc2012: {file: a.tar}", "checksum"),
        ("voc2012: {version: v, file: a.tar, checksum: 'md5:0', addresses: ['http://a'], licence: n}", "checksum"),
        ("voc2012: {version: v, file: a.tar, addresses: ['file:///a'], licence: n}", "addresses.0"),
        ("voc2012: [1, 2", "cannot be used"),
        ("voc2012: {version: v, file: ../a.tar, addresses: [], licence: n}", "file"),
    ],
)
def test_datasets_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "datasets.yaml"
    path.write_text(text)
    with pytest.raises(WeaksegError, match=message):
        load_datasets(path)


def test_no_datasets_file():
    with pytest.raises(WeaksegError, match="no such file"):
        load_datasets(Path("nowhere") / "datasets.yaml")
