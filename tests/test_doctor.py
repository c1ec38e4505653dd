"""What a study needs from elsewhere, and the doctor who says whether it can run."""

import hashlib
import http.server
import shutil
import threading
from types import SimpleNamespace

import pytest
import torch
import yaml
from fabricate import make_study, write_voc

from weakseg import cli, doctor
from weakseg.config import DATA_ROOT_VARIABLE, load_sheet, load_study
from weakseg.costs import Images
from weakseg.data.transfer import answers
from weakseg.errors import WeaksegError
from weakseg.needs import WEIGHTS, image_counts, outside_needs, require_needs
from weakseg.paths import StudyPaths

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def nothing_there(tmp_path, monkeypatch):
    """No data root, an empty cache, no GPU."""
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    monkeypatch.delenv("WEAKSEG_ALLOW_CPU", raising=False)
    monkeypatch.setenv("WEAKSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def paths(tmp_path):
    return StudyPaths("fabricated", tmp_path / "results")


def study_of(path, weights=None, **dataset):
    network = {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "weights": weights}
    return make_study(path, network=network, dataset={"name": "d", "source": "path", "path": str(path), **dataset})


def states(study, paths, **options):
    return {need.what: need.state for need in outside_needs(study, paths, **options)}


def test_everything_that_is_missing_is_named_at_once(paths):
    weights = {"path": "{data_root}/trunk.safetensors", "sha256": SHA256}
    study = study_of("{data_root}/voc", weights, image_labels="{data_root}/tags.csv")
    with pytest.raises(WeaksegError, match=r"3 things are missing(.|\n)*photos(.|\n)*labels(.|\n)*weights") as raised:
        require_needs(study, paths)
    assert str(raised.value).count("data_root=FOLDER") == 3
    with pytest.raises(WeaksegError, match=r"/nowhere/voc: no such folder(.|\n)*/nowhere/trunk.safetensors: no such"):
        require_needs(study, paths, "/nowhere")


def test_nothing_is_missing(paths, tmp_path):
    write_voc(tmp_path / "voc")
    (tmp_path / "trunk.safetensors").write_bytes(CONTENT)
    study = study_of("{data_root}/voc", {"path": "{data_root}/trunk.safetensors", "sha256": SHA256})
    assert states(study, paths, data_root=tmp_path) == {"photos": "there", WEIGHTS: "there"}
    require_needs(study, paths, tmp_path)
    (tmp_path / "voc/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(WeaksegError, match=r"1 thing is missing(.|\n)*val\.txt: no such list"):
        require_needs(study, paths, tmp_path)


def test_what_rules_make_or_fetch_is_not_missing(paths, tmp_path, project_root):
    config = project_root / "config"
    assert outside_needs(load_study("tiny", project_root / "tests/tiny/config"), paths) == []
    assert states(load_study("demo", config), paths) == {WEIGHTS: "fetched"}
    assert states(load_study("voc", config), paths)["photos"] == "fetched"
    cached = study_of(write_voc(tmp_path / "voc"), {"path": "{cache}/weights/vgg.safetensors"})
    assert states(cached, paths)[WEIGHTS] == "fetched"
    # A file without a checksum is an input of the rules: Snakemake asks for it, and another workflow may make it.
    ruled = study_of(tmp_path / "voc", {"path": str(tmp_path / "made.safetensors")})
    assert states(ruled, paths)[WEIGHTS] == "missing"
    require_needs(ruled, paths)


def test_numbers_of_images(paths, tmp_path, project_root):
    paper = load_sheet(project_root / "config").lists
    config = project_root / "config"
    assert image_counts(load_study("demo", config), paper) == Images(400, 80, 20)
    assert image_counts(load_study("voc", config), paper) == Images(10582, 1449, 100)
    study = study_of("{data_root}/voc")
    assert image_counts(study, paper) == Images(10582, 1449, 100)
    write_voc(tmp_path / "voc", train=3, train_aug=6, val=5)
    assert image_counts(study, paper, tmp_path) == Images(6, 5, 1)
    (tmp_path / "voc/ImageSets/Segmentation/train_aug.txt").unlink()
    assert image_counts(study, paper, tmp_path).training == 3


def called(*words, capsys):
    code = cli.main(["doctor", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_doctor_of_a_study_that_can_run(project_root, tmp_path, capsys):
    words = ("--study", "demo", "--config-dir", project_root / "config", "--results", tmp_path)
    code, out, err = called(*words, capsys=capsys)
    assert code == 0 and err == "" and "study demo can run here" in out and "missing" not in out
    for part in ("GPU: none", "torch: " + torch.__version__, "cores: ", "room for results", "memory: ", "(estimate)"):
        assert part in out


def test_the_doctor_names_each_missing_thing_of_voc(project_root, tmp_path, capsys):
    words = ("--study", "voc", "--config-dir", project_root / "config", "--results", tmp_path)
    code, out, err = called(*words, capsys=capsys)
    assert code == 2 and "cannot run here, missing: GPU" in err and "--allow-cpu" in out
    assert (
        "fetched  voc2012: VOCtrainval_11-May-2012.tar, 2.0 GB" in out and "fetched  sbd: benchmark.tgz, 1.4 GB" in out
    )
    assert f"put it into {tmp_path}/cache/downloads" in out and "runs to do: 18" in out
    # With each of them it goes on.
    assert "missing: GPU" not in called(*words, "--allow-cpu", capsys=capsys)[2]


def test_what_is_in_the_cache_is_not_fetched(project_root, tmp_path, capsys):
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "benchmark.tgz").touch()
    (downloads / "VOCdevkit").mkdir()
    words = ("--study", "voc", "--config-dir", project_root / "config", "--results", tmp_path)
    out = called(*words, capsys=capsys)[1]
    assert f"there    voc2012: {downloads}/VOCdevkit" in out and f"there    sbd: {downloads}/benchmark.tgz" in out
    assert "cache: about 1.8 GB to come" in out


def test_a_disk_that_is_too_small(project_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e9))
    words = ("--study", "voc", "--config-dir", project_root / "config", "--results", tmp_path)
    err = called(*words, capsys=capsys)[2]
    assert "room for results" in err and "room for cache" in err


def test_weights_of_another_content(tmp_path, project_root, capsys):
    write_voc(tmp_path / "voc")
    (tmp_path / "trunk.safetensors").write_bytes(b"others")
    study = study_of("{data_root}/voc", {"path": "{data_root}/trunk.safetensors", "sha256": SHA256})
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    words = ("--study", path, "--config-dir", project_root / "config", "--data-root", tmp_path, "--results", tmp_path)
    code, out, err = called(*words, capsys=capsys)
    assert code == 2 and "missing: initial weights" in err and "its SHA-256 is not the study's" in out
    (tmp_path / "trunk.safetensors").write_bytes(CONTENT)
    assert called(*words, capsys=capsys)[0] == 0


def test_weights_of_the_cache(tmp_path, project_root, capsys):
    study = study_of(write_voc(tmp_path / "voc"), {"path": "{cache}/weights/trunk.safetensors"})
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    words = ("--study", path, "--config-dir", project_root / "config", "--results", tmp_path)
    place = tmp_path / "cache/weights/trunk.safetensors"
    assert f"fetched  initial weights: {place}" in called(*words, capsys=capsys)[1]
    place.parent.mkdir(parents=True)
    place.touch()
    assert f"there    initial weights: {place}" in called(*words, capsys=capsys)[1]


def test_named_weights_of_the_cache_and_what_to_do_without_a_network(tmp_path, capsys):
    told = called("--study", "voc", "--results", tmp_path, capsys=capsys)[1]
    assert "fetched  initial weights: vgg16-caffe, converted to" in told
    assert "without a network: `weakseg weights vgg16-caffe --from FILE`" in told


class Server(http.server.BaseHTTPRequestHandler):
    """Answers HEAD requests by the first part of the path."""

    def do_HEAD(self):
        self.server.asked.append(self.path)
        way = self.path.split("/")[1]
        self.send_response({"missing": 404, "busy": 503, "moved": 301}.get(way, 200))
        self.send_header("Content-Type", "text/html" if way == "page" else "application/x-tar")
        if way == "moved":
            self.send_header("Location", "/good/file.tar")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield SimpleNamespace(at=f"http://127.0.0.1:{running.server_port}/".__add__, asked=running.asked)
        running.shutdown()


@pytest.mark.parametrize(
    ("way", "wrong"), [("good", None), ("moved", None), ("missing", "404"), ("busy", "503"), ("page", "web page")]
)
def test_addresses_are_asked(server, way, wrong):
    said = answers(server.at(f"{way}/file.tar"))
    assert said is None if wrong is None else wrong in str(said)


def test_an_address_without_a_server():
    assert "no answer" in str(answers("http://127.0.0.1:9/file.tar"))


def test_addresses_are_asked_only_online(server, tmp_path, project_root, capsys):
    config = tmp_path / "config"
    shutil.copytree(project_root / "config", config)
    rows = yaml.safe_load((config / "datasets.yaml").read_text())
    rows["voc2012"]["addresses"] = [server.at("missing/voc.tar"), server.at("good/voc.tar")]
    rows["sbd"]["addresses"] = [server.at("page/sbd.tgz")]
    (config / "datasets.yaml").write_text(yaml.safe_dump(rows))
    words = ("--study", "voc", "--config-dir", config, "--results", tmp_path, "--allow-cpu")
    called(*words, capsys=capsys)
    assert server.asked == []
    code, out, err = called(*words, "--online", capsys=capsys)
    assert code == 2 and "sbd" in err and "voc2012" not in err and len(server.asked) == 3
    assert f"{server.at('missing/voc.tar')}: 404" in out and f"{server.at('good/voc.tar')}: answers" in out


def test_finished_runs_take_no_more_time(project_root, tmp_path, capsys):
    run = StudyPaths("demo", tmp_path).run("strong_10582", 0)
    run.metrics.parent.mkdir(parents=True)
    run.metrics.touch()
    words = ("--study", "demo", "--config-dir", project_root / "config", "--results", tmp_path)
    assert "runs to do: 23" in called(*words, capsys=capsys)[1]


@pytest.mark.parametrize(
    ("hours", "text"), [(0.001, "a minute"), (1.2, "72 minutes"), (9.7, "10 hours"), (7000, "292 days")]
)
def test_spans_of_time(hours, text):
    assert doctor._span(hours) == text
