"""Initial weights by name: from a local server, a package or a given file; how a study names them, and what decides."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
import yaml
from fabricate import make_study
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from serving import served

from train.runs import STRONG, ready, trained
from weakseg import cli, decides
from weakseg.config import Network, TrunkName, load_sheet, load_study, load_weights
from weakseg.data.initial_weights import find_weights, weights_path
from weakseg.data.transfer import Patience, cache_folder
from weakseg.errors import WeaksegError
from weakseg.model import build_model, load_model, save_model
from weakseg.model.weight_files import _LAYOUTS
from weakseg.report.notes import network_text
from weakseg.report.provenance import _weights
from weakseg.train.named_weights import make_weights

QUICK = Patience(attempts=2, wait_s=0.01, timeout_s=(2.0, 0.5))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sheets; the cache is empty."""
    monkeypatch.setenv("WEAKSEG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "studies").mkdir()
    project = Path(__file__).parents[2] / "config"
    for name in ("experiments.yaml", "paper.yaml"):
        shutil.copy(project / name, tmp_path)
    return tmp_path


@pytest.fixture
def published(folder: Path):
    """A file of weights of the tiny trunk, as others would publish it, and its address."""
    torch.manual_seed(4)
    (folder / "served").mkdir()
    path = folder / "served" / "tiny.pth"
    torch.save(build_model(Network(trunk="tiny", head_channels=4)).trunk.state_dict(), path)
    with served(path.parent) as address:
        yield path, f"{address}/tiny.pth"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sheet(folder: Path, *files: dict, **fields) -> Path:
    row = {
        "trunk": "tiny",
        "files": list(files),
        "preprocessing": {"channel_order": "BGR"},
        "licence": "free",
        "citation": "nobody",
        **fields,
    }
    (folder / "weights.yaml").write_text(yaml.safe_dump({"small": row}))
    return folder


def file_row(path: Path, *addresses: str, digits: int = 64, **fields) -> dict:
    kind = "sha256" if digits == 64 else "sha256-prefix"
    checksum = f"{kind}:{sha256(path)[:digits]}"
    return {"file": path.name, "layout": "features", "checksum": checksum, "addresses": list(addresses), **fields}


@pytest.mark.parametrize("digits", [64, 8])
def test_weights_are_fetched_converted_and_kept(folder: Path, published, digits: int, capsys) -> None:
    path, address = published
    write_sheet(folder, file_row(path, "http://127.0.0.1:9/tiny.pth", address, digits=digits))
    made = make_weights("small", folder, patience=QUICK)
    assert made.parent == cache_folder() / "weights"
    state, original = load_file(made), torch.load(path, weights_only=True)
    assert state.keys() == original.keys() and all(torch.equal(state[key], original[key]) for key in state)
    with safe_open(made, framework="pt") as stream:
        facts = json.loads(stream.metadata()["weakseg"])
    assert facts["name"] == "small" and facts["source"]["sha256"] == sha256(path) and facts["licence"] == "free"
    before = made.stat().st_mtime_ns
    shutil.rmtree(path.parent)
    assert make_weights("small", folder, patience=QUICK) == made and made.stat().st_mtime_ns == before
    assert "is there" in capsys.readouterr().out


def test_a_wrong_file_is_not_taken(folder: Path, published) -> None:
    path, address = published
    row = file_row(path, address)
    write_sheet(folder, row)
    whole = path.read_bytes()
    for content, reason in (
        (whole[::-1], "hash of downloaded file"),
        (b"<html>log in</html>", "hash of downloaded file"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeaksegError, match=rf"(?s)weights small cannot be had.*{reason}.*--from FILE"):
            make_weights("small", folder, patience=QUICK)
    path.with_name("tiny.html").write_text("<html>log in</html>")
    write_sheet(folder, {**row, "addresses": [address.replace(".pth", ".html")]})
    with pytest.raises(WeaksegError, match="answers with a web page in place of the file"):
        make_weights("small", folder, patience=QUICK)
    assert not list((cache_folder() / "weights").glob("*.safetensors"))


def test_the_next_file_is_taken_where_one_is_not_what_it_should_be(folder: Path, published) -> None:
    """Its checksum is right and its content is not: the layout stated for it was a mistake."""
    path, address = published
    other = path.with_name("other.safetensors")
    save_file({"features.0.weight": torch.full((2,), float("nan"))}, other)
    write_sheet(folder, file_row(other, address.replace("tiny.pth", other.name)), file_row(path, address))
    state = load_file(make_weights("small", folder, patience=QUICK))
    assert state.keys() == torch.load(path, weights_only=True).keys()


def test_nan_in_a_published_file_is_refused(folder: Path, published) -> None:
    path, address = published
    state = torch.load(path, weights_only=True)
    state["features.0.bias"][3] = float("nan")
    torch.save(state, path)
    write_sheet(folder, file_row(path, address))
    with pytest.raises(WeaksegError, match=r"tiny\.pth: features\.0\.bias holds values that are not finite"):
        make_weights("small", folder, patience=QUICK)
    assert not list((cache_folder() / "weights").glob("*.safetensors"))


def test_a_file_that_somebody_has(folder: Path, published, capsys) -> None:
    path, _ = published
    half = path.with_name("half.safetensors")
    save_file({key: value.half() for key, value in torch.load(path, weights_only=True).items()}, half)
    unknown = {"file": "unknown.pth", "layout": "features"}
    write_sheet(folder, file_row(path), file_row(half), unknown)
    shutil.copy(path, given := folder / "renamed by a browser.pth")
    with pytest.raises(WeaksegError, match=r"tiny\.pth: no address gives it"):
        make_weights("small", folder)
    assert cli.main(["weights", "small", "--from", str(given), "--config-dir", str(folder)]) == 0
    made = weights_path(load_weights(folder)["small"].of_study("small"), folder)
    assert load_file(made)["features.0.bias"].dtype == torch.float32
    assert cli.main(["weights", "small", "--from", str(half), "--config-dir", str(folder)]) == 0
    assert load_file(made)["features.0.bias"].dtype == torch.float16
    wrong = folder / "wrong.pth"
    wrong.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        WeaksegError, match=rf"wrong\.pth: SHA-256 is {sha256(wrong)}; these weights are in tiny\.pth \(sha256:"
    ):
        make_weights("small", folder, given=wrong)
    make_weights("small", folder, given=shutil.copy(path, folder / "unknown.pth"))
    torch.save({"features.0.bias": torch.zeros(32)}, folder / "unknown.pth")
    with pytest.raises(WeaksegError, match=r"unknown\.pth: .* are missing"):
        make_weights("small", folder, given=folder / "unknown.pth")
    assert cli.main(["weights", "--config-dir", str(folder)]) == 0
    assert "in the cache" in capsys.readouterr().out
    assert cli.main(["weights", "--from", str(path), "--config-dir", str(folder)]) == 2
    assert cli.main(["weights", "smal", "--config-dir", str(folder)]) == 2
    assert "no initial weights named 'smal' in weights.yaml; there are small" in capsys.readouterr().err


def test_a_file_that_lies_among_the_downloads_is_used(folder: Path, published) -> None:
    path, _ = published
    write_sheet(folder, file_row(path))
    (cache_folder() / "downloads").mkdir(parents=True)
    shutil.move(path, cache_folder() / "downloads")
    assert make_weights("small", folder).is_file()


def test_a_file_inside_an_installed_package(folder: Path, published, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = published
    site = folder / "site"
    row = file_row(path, package="some-weights==0.1.0") | {"file": "some_weights/models/tiny.pth"}
    write_sheet(folder, row)
    with pytest.raises(WeaksegError, match=r"some-weights is not installed; run `pip install some-weights==0\.1\.0`"):
        make_weights("small", folder)
    (site / "some_weights" / "models").mkdir(parents=True)
    (site / "some_weights" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "some_weights-0.1.0.dist-info").mkdir()
    (site / "some_weights-0.1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\n")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(WeaksegError, match=r"tiny\.pth: no such file in the package some-weights; run `pip install"):
        make_weights("small", folder)
    target = site / "some_weights" / "models" / "tiny.pth"
    target.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeaksegError, match=r"tiny\.pth: its checksum is not sha256:.*; run `pip install"):
        make_weights("small", folder)
    shutil.copy(path, target)
    assert make_weights("small", folder).is_file()


def write_study(folder: Path, weights: object, trunk: str = "tiny") -> Path:
    study = {
        "name": "own",
        "description": "A study.",
        "dataset": {"name": "photos", "source": "path", "path": "nowhere"},
        "network": {"trunk": trunk, "crop_px": 33, "weights": weights},
    }
    path = folder / "studies" / "own.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_a_study_that_names_weights_has_what_the_sheet_says(folder: Path, published, tmp_path: Path) -> None:
    path, address = published
    write_sheet(folder, file_row(path, address))
    write_study(folder, "small")
    weights = load_study("own", folder).network.weights
    assert weights.name == weights.title == "small" and weights.preprocessing.channel_order == "BGR"
    with pytest.raises(WeaksegError, match=r"the initial weights small are not there; run `weakseg weights small`"):
        find_weights(weights, tmp_path)
    made = make_weights("small", folder, patience=QUICK)
    assert find_weights(weights, tmp_path) == weights_path(weights, tmp_path) == made


def test_names_that_cannot_be_used_are_told_by_file_and_field(folder: Path, published) -> None:
    path, _ = published
    write_sheet(folder, file_row(path))
    for weights, trunk, message in (
        ("smal", "tiny", "no initial weights named 'smal' in weights.yaml; there are small"),
        ("small", "vgg16", "small belong to the trunk tiny, not vgg16; there are none for that"),
    ):
        write_study(folder, weights, trunk)
        with pytest.raises(WeaksegError, match=rf"own\.yaml: 1 field(.|\n)*network\.weights: .*{message}"):
            load_study("own", folder)
    with pytest.raises(ValueError, match="can be used in a study's file only"):
        Network.model_validate({"trunk": "tiny", "weights": "small"})


def test_checksum_and_preprocessing_decide_and_no_more(folder: Path, published) -> None:
    path, address = published
    row = file_row(path)
    write_study(folder, "small")
    experiment, paper = load_sheet(folder).experiments[0], load_sheet(folder).lists

    def value(*files: dict, **fields):
        write_sheet(folder, *files, **fields)
        study = load_study("own", folder)
        return decides.features(study), decides.training(study, experiment, paper)

    def differ(one, other) -> bool:
        assert (one[0] == other[0]) == (one[1] == other[1])
        return one != other

    base = value(row)
    assert not differ(base, value({**row, "addresses": [address]}, row, licence="other", citation="other"))
    assert differ(base, value({**row, "checksum": "sha256:" + 64 * "0"}))
    assert differ(base, value(row, preprocessing={"channel_order": "RGB"}))


def test_weights_by_path_are_written_as_before(folder: Path) -> None:
    """The hash of a study is that of these values; an additional key would make all its runs stale."""
    by_path = {"path": "{data_root}/w.safetensors", "sha256": "0" * 64}
    dumped = Network.model_validate({"trunk": "tiny", "weights": by_path}).model_dump(mode="json")
    assert dumped["weights"].keys() == {"path", "sha256", "preprocessing"}
    write_study(folder, by_path)  # there is no weights.yaml in the folder, and none is needed
    fields = {"trunk", "output_stride", "image_scale", "weights"}
    decided = decides.features(load_study("own", folder))
    assert decided.keys() == fields and decided["weights"].keys() == {"sha256", "preprocessing"}


def test_a_trained_model_needs_no_sheet(folder: Path, published) -> None:
    path, _ = published
    write_sheet(folder, file_row(path))
    write_study(folder, "small")
    study = load_study("own", folder)
    model = build_model(study.network)
    network, kept = study.network, {"fov": "large", "labels": study.dataset.label_set(), "metadata": {}}
    save_model(folder / "m.safetensors", model, network=network, preprocessing=network.weights.preprocessing, **kept)
    (folder / "weights.yaml").unlink()
    loaded, facts = load_model(folder / "m.safetensors")
    assert facts["network"] == study.network and facts["network"].weights.name == "small"
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_sheet_of_the_project_is_valid(project_root: Path) -> None:
    known = load_weights(project_root / "config")
    assert {
        "vgg16-caffe", "vgg16-reducedfc", "vgg16-torchvision", "vgg16-features", "mobilenet_v2-torchvision",
        "efficientnet_lite0",
    } <= known.keys()  # fmt: skip
    for name, row in known.items():
        assert row.trunk in get_args(TrunkName) and row.licence and row.citation
        assert {file.layout for file in row.files} <= _LAYOUTS.keys()
        assert any(file.addresses or file.package for file in row.files), f"nobody can get {name}"
        for file in row.files:
            assert all(address.endswith("/" + file.file) for address in file.addresses)
            digits = (file.checksum or "").partition(":")[2]
            # torch hub's file names end in the first digits of the checksum.
            assert (
                not file.file.endswith(".pth")
                or "-" not in file.file
                or file.file[:-4].rpartition("-")[2] == digits[:8]
            )
    assert load_study("voc", project_root / "config").network.weights.name == "vgg16-caffe"
    assert load_study("voc-subset", project_root / "config").network.weights.name == "efficientnet_lite0"
    assert load_study("demo", project_root / "config").network.weights.name == "efficientnet_lite0"


def test_a_run_starts_from_named_weights_and_its_report_names_them(folder: Path, published, voc: Path) -> None:
    path, address = published
    write_sheet(folder, file_row(path, address))
    weights = load_weights(folder)["small"].of_study("small").model_dump()
    network = {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True, "weights": weights}
    study = make_study(voc, network={**network, "freeze_trunk": True})
    with pytest.raises(WeaksegError, match="run `weakseg weights small`"):
        ready(study, folder / "results", [STRONG])
    made = make_weights("small", folder, patience=QUICK)
    paths = ready(study, folder / "results", [STRONG])
    ended = trained(study, STRONG, paths)
    original = torch.load(path, weights_only=True)
    assert all(torch.equal(ended[f"trunk.{key}"], value) for key, value in original.items())
    noted = json.loads(paths.run(STRONG.id, 0).config.read_text())
    assert noted["weights_sha256"] == sha256(made) and noted["network"]["weights"]["checksum"] == weights["checksum"]
    results = SimpleNamespace(study=study, config_dir=folder)
    assert "initial weights small" in network_text(results)
    assert _weights(results) == {
        "name": "small", "checksum": weights["checksum"], "licence": "free", "citation": "nobody",
    }  # fmt: skip
    by_path = make_study(voc, network={**network, "weights": {"path": "{data_root}/a/b.safetensors"}})
    results = SimpleNamespace(study=by_path, config_dir=folder / "nowhere")
    assert "initial weights b.safetensors" in network_text(results)
    assert _weights(results) == {"file": "b.safetensors", "sha256": None}
