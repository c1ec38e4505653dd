"""Fetching and joining VOC 2012 and SBD, with archives of a few files."""

import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from weakseg.config import Study
from weakseg.data.download import Archive, download_voc, fetch, load_datasets
from weakseg.data.prepare import prepare_data, read_manifest
from weakseg.data.voc import VocFolder, write_index_png
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths

SIZE = (20, 30)
TRAIN, VAL = ["2007_000001", "2007_000004"], ["2007_000002", "2008_000009"]
SBD = ["2007_000001", "2007_000002", "2008_000003", "2008_000005"]  # one of train, one of val, two more
OTHER = "2009_000007"  # a photo of another task


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def mask_png(tmp_path, label):
    write_index_png(tmp_path / "one.png", np.full(SIZE, label))
    return (tmp_path / "one.png").read_bytes()


def mat(variable, label):
    stream = io.BytesIO()
    segmentation = np.full(SIZE, label, dtype=np.uint8)
    savemat(stream, {variable: {"Segmentation": segmentation, "Boundaries": np.zeros(3)}})
    return stream.getvalue()


@pytest.fixture
def archives(tmp_path):
    """The two archives and a datasets.yaml that points at them. VOC's masks are label 7, SBD's label 12."""
    source = tmp_path / "source"
    source.mkdir()
    with tarfile.open(source / "voc.tar", "w") as voc:
        for image_id in sorted({*TRAIN, *VAL, *SBD, OTHER}):
            stream = io.BytesIO()
            Image.new("RGB", SIZE[::-1], (int(image_id[-1]) * 20, 80, 90)).save(stream, "JPEG")
            add(voc, f"VOCdevkit/VOC2012/JPEGImages/{image_id}.jpg", stream.getvalue())
        for image_id in (*TRAIN, *VAL):
            add(voc, f"VOCdevkit/VOC2012/SegmentationClass/{image_id}.png", mask_png(tmp_path, 7))
            add(voc, f"VOCdevkit/VOC2012/SegmentationObject/{image_id}.png", mask_png(tmp_path, 1))
        for name, ids in (("train", TRAIN), ("val", VAL)):
            add(voc, f"VOCdevkit/VOC2012/ImageSets/Segmentation/{name}.txt", "".join(f"{i}\n" for i in ids).encode())
        add(voc, "VOCdevkit/VOC2012/ImageSets/Main/train.txt", b"not this one\n")
        add(voc, "../../escaped/VOC2012/JPEGImages/../../outside.jpg", b"not a plain name")
    with tarfile.open(source / "benchmark.tgz", "w:gz") as sbd:
        for image_id in SBD:
            add(sbd, f"benchmark_RELEASE/dataset/cls/{image_id}.mat", mat("GTcls", 12))
            add(sbd, f"benchmark_RELEASE/dataset/inst/{image_id}.mat", mat("GTinst", 2))
        add(sbd, "benchmark_RELEASE/dataset/train.txt", b"whatever\n")
    return write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")


def write_datasets(tmp_path, voc_tar, sbd_tar, **changes):
    rows = {
        "voc2012": {
            "version": "tiny VOC",
            "file": "voc.tar",
            "md5": hashlib.md5(voc_tar.read_bytes()).hexdigest(),
            "addresses": [voc_tar.as_uri()],
            "licence": "none",
            "expected": {"train": 2, "val": 2},
        },
        "sbd": {
            "version": "tiny SBD",
            "file": "benchmark.tgz",
            "md5": hashlib.md5(sbd_tar.read_bytes()).hexdigest(),
            "addresses": [sbd_tar.as_uri()],
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
    lists = {name: voc.ids(name) for name in ("train", "val", "train_aug", "trainval", "trainval_aug", "crf_val")}
    assert lists["train"] == TRAIN and lists["val"] == VAL
    # (SBD and train) without val, sorted
    assert lists["train_aug"] == ["2007_000001", "2007_000004", "2008_000003", "2008_000005"]
    assert lists["trainval_aug"] == sorted({*lists["train_aug"], *VAL}) and len(lists["trainval"]) == 4
    assert set(lists["crf_val"]) <= set(VAL) and len(lists["crf_val"]) == 1
    voc.check(["train_aug", "val"])
    for image_id in lists["trainval_aug"]:
        official = image_id in {*TRAIN, *VAL}  # VOC's own masks win over SBD's
        assert set(np.unique(voc.labels(image_id))) == {7 if official else 12}
        assert set(np.unique(voc.instances(image_id))) == {1 if official else 2}
    assert not voc.image_path(OTHER).exists()
    assert not list(tmp_path.rglob("outside.jpg"))


def test_a_study_is_prepared_from_it(archives, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    archives.rename(tmp_path / "config" / "datasets.yaml")
    monkeypatch.chdir(tmp_path)
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
    prepare_data(study, paths)
    manifest = read_manifest(paths.manifest)
    assert manifest["source"] == "downloaded" and manifest["counts"]["train_aug"] == 4


def test_a_second_call_fetches_nothing(archives, tmp_path):
    root = download_voc(tmp_path / "data", archives)
    marker = (root / "downloaded.json").stat().st_mtime_ns
    for path in (tmp_path / "source").iterdir():
        path.unlink()
    assert download_voc(tmp_path / "data", archives) == root
    assert (root / "downloaded.json").stat().st_mtime_ns == marker


def test_archives_brought_by_hand_are_used(archives, tmp_path):
    (tmp_path / "data" / "downloads").mkdir(parents=True)
    for path in (tmp_path / "source").iterdir():
        path.rename(tmp_path / "data" / "downloads" / path.name)
    assert VocFolder(download_voc(tmp_path / "data", archives)).ids("train") == TRAIN


def test_offline_says_what_to_do(archives, tmp_path):
    (tmp_path / "source" / "voc.tar").unlink()
    with pytest.raises(WeaksegError, match=r"cannot be fetched(.|\n)*put it at .*downloads/voc\.tar"):
        download_voc(tmp_path / "data", archives)
    assert not (tmp_path / "data" / "voc").exists()


def test_a_mirror_that_gives_another_file_is_passed_over(archives, tmp_path):
    wrong = tmp_path / "wrong.tar"
    wrong.write_bytes(b"<html>moved</html>")
    voc = tmp_path / "source" / "voc.tar"
    addresses = {"addresses": [wrong.as_uri(), "file:///no/such/file.tar", voc.as_uri()]}
    path = write_datasets(tmp_path, voc, tmp_path / "source" / "benchmark.tgz", voc2012=addresses)
    assert VocFolder(download_voc(tmp_path / "data", path)).ids("val") == VAL


def test_a_wrong_file_in_the_way_is_not_overwritten(archives, tmp_path):
    target = tmp_path / "data" / "downloads" / "voc.tar"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something else")
    with pytest.raises(WeaksegError, match=r"voc\.tar: its MD5 is"):
        download_voc(tmp_path / "data", archives)
    assert target.read_bytes() == b"something else"


def test_a_folder_in_the_way_is_left_alone(archives, tmp_path):
    (tmp_path / "data" / "voc").mkdir(parents=True)
    with pytest.raises(WeaksegError, match="in the way"):
        download_voc(tmp_path / "data", archives)


def test_lists_of_another_length(archives, tmp_path):
    source = tmp_path / "source"
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz", sbd={"expected": {"train_aug": 5}})
    with pytest.raises(WeaksegError, match="train_aug has 4 images in place of 5"):
        download_voc(tmp_path / "data", path)
    assert not (tmp_path / "data" / "voc").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("voc.tar", b"no archive at all", "not a readable archive"),
        ("benchmark.tgz", b"no archive at all", "not a readable archive"),
    ],
)
def test_archives_that_are_none(archives, tmp_path, name, content, message):
    source = tmp_path / "source"
    (source / name).write_bytes(content)
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match=rf"{name}.*{message}"):
        download_voc(tmp_path / "data", path)


def test_a_truncated_archive(archives, tmp_path):
    source = tmp_path / "source"
    whole = (source / "benchmark.tgz").read_bytes()
    (source / "benchmark.tgz").write_bytes(whole[: len(whole) // 2])
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match="not a readable archive"):
        download_voc(tmp_path / "data", path)


def test_an_archive_without_the_expected_files(archives, tmp_path):
    source = tmp_path / "source"
    with tarfile.open(source / "benchmark.tgz", "w:gz") as empty:
        add(empty, "readme.txt", b"nothing here")
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match="this is not the SBD archive"):
        download_voc(tmp_path / "data", path)


def test_a_mat_file_without_a_segmentation(archives, tmp_path):
    source = tmp_path / "source"
    stream = io.BytesIO()
    savemat(stream, {"other": np.zeros(3)})
    with tarfile.open(source / "benchmark.tgz", "w:gz") as sbd:
        add(sbd, "benchmark_RELEASE/dataset/cls/2008_000003.mat", stream.getvalue())
    path = write_datasets(tmp_path, source / "voc.tar", source / "benchmark.tgz")
    with pytest.raises(WeaksegError, match=r"2008_000003\.mat holds no GTcls"):
        download_voc(tmp_path / "data", path)


class RangeServer(http.server.BaseHTTPRequestHandler):
    """Serves `content`, ranges too; the first answer breaks off after `first` bytes."""

    content = bytes(np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8))
    first: int | None = 20_000
    knows_ranges = True
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        begin = int(wanted[6:-1]) if wanted and self.knows_ranges else 0
        if begin >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        end = type(self).first or len(self.content)
        type(self).first = None
        self.wfile.write(self.content[begin:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    RangeServer.first, RangeServer.knows_ranges, RangeServer.asked = 20_000, True, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RangeServer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/file.tar"
        running.shutdown()


def archive_at(address):
    md5 = hashlib.md5(RangeServer.content).hexdigest()
    return Archive(version="v", file="file.tar", md5=md5, addresses=(address,), licence="none")


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_broken_transfer_goes_on(server, tmp_path, knows_ranges):
    RangeServer.knows_ranges = knows_ranges
    with pytest.raises(WeaksegError, match="cannot be fetched"):
        fetch(archive_at(server), tmp_path, timeout_s=5)
    assert (tmp_path / "file.tar.partial").stat().st_size == 20_000
    target = fetch(archive_at(server), tmp_path, timeout_s=5)
    assert target.read_bytes() == RangeServer.content
    assert RangeServer.asked == [None, "bytes=20000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["file.tar"]


def test_a_whole_partial_file_needs_only_its_checksum(server, tmp_path):
    (tmp_path / "file.tar.partial").write_bytes(RangeServer.content)
    assert fetch(archive_at(server), tmp_path, timeout_s=5).read_bytes() == RangeServer.content


def test_a_spoilt_partial_file_is_dropped(server, tmp_path):
    RangeServer.first = None
    (tmp_path / "file.tar.partial").write_bytes(b"x" * 1000)
    with pytest.raises(WeaksegError, match="MD5"):
        fetch(archive_at(server), tmp_path, timeout_s=5)
    assert fetch(archive_at(server), tmp_path, timeout_s=5).read_bytes() == RangeServer.content


def test_the_configured_archives(project_root):
    archives = load_datasets(project_root / "config" / "datasets.yaml")
    assert archives["voc2012"].expected | archives["sbd"].expected == {"train": 1464, "val": 1449, "train_aug": 10582}
    voc = pytest.importorskip("torchvision.datasets.voc").DATASET_YEAR_DICT["2012"]
    sbd = pytest.importorskip("torchvision.datasets").SBDataset
    assert archives["voc2012"].md5 == voc["md5"] and archives["voc2012"].addresses[0] == voc["url"]
    assert archives["sbd"].md5 == sbd.md5 and archives["sbd"].addresses[0] == sbd.url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voc2012: {file: a.tar}", "md5"),
        ("voc2012: [1, 2", "cannot be used"),
        ("voc2012: {version: v, file: ../a.tar, md5: 0, addresses: [], licence: n}", "file"),
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
