"""The page on adding a method, followed to the letter in a copy of the package."""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import warm
import yaml
from fabricate import write_voc

from weakseg.methods import METHODS


def follow(copy: str, commands: list[str], test: str) -> None:
    """Run the page's commands and its test with the package that lies in `copy`."""
    warm.without_weakseg(f"{copy}/src")
    import weakseg.cli

    assert weakseg.cli.__file__.startswith(copy), weakseg.cli.__file__
    for line in commands:
        name, *arguments = shlex.split(line)
        assert name == "weakseg"
        if code := weakseg.cli.main(arguments):
            sys.exit(f"{line}: {code}")
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]))


def test_the_page_s_method_trains_and_passes_its_test(project_root: Path, tmp_path: Path):
    page = (project_root / "docs" / "methods.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|yaml|sh)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "yaml", "yaml", "sh", "sh", "python"]
    method, row, constants, schemas, training, test = (text for _, text in blocks)
    assert len(method.splitlines()) <= 35

    shutil.copytree(project_root / "src" / "weakseg", tmp_path / "src" / "weakseg")
    (tmp_path / "src" / "weakseg" / "methods" / "mil_lse.py").write_text(method)
    shutil.copytree(project_root / "config", tmp_path / "config")
    with open(tmp_path / "config" / "experiments.yaml", "a", encoding="utf-8") as sheet:
        sheet.write(row)
    study = {
        "name": "mine",
        "description": "Coloured rectangles.",
        "dataset": {"name": "rectangles", "source": "path", "path": str(write_voc(tmp_path / "VOC2012"))},
        "network": {"trunk": "tiny", "head_channels": 8, "crop_px": 33, "skip_classifier": True},
        "solver": {"iterations": 20, "batch": 4, "lr": 0.02},
        "experiments": ["mil_lse_weak"],
        "boxes": None,
    }
    (tmp_path / "config" / "studies" / "mine.yaml").write_text(yaml.safe_dump(study) + constants)
    (tmp_path / "workflow" / "schemas").mkdir(parents=True)
    (tmp_path / "test_mil_lse.py").write_text(test)

    commands = [*schemas.splitlines(), *training.splitlines()]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    done = warm.captured(
        follow, str(tmp_path), commands, str(tmp_path / "test_mil_lse.py"), folder=tmp_path, environment=environment
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout

    run = tmp_path / "results" / "mine" / "runs" / "mil_lse_weak" / "seed0"
    stream = json.loads((run / "config.json").read_text())["streams"][0]
    assert (stream["method"], stream["constants"]) == ("mil_lse", {"sharpness": 4.0})
    losses = pd.read_csv(run / "train_log.csv")["loss"]
    assert losses.tail(5).mean() < losses.head(3).mean()
    assert "mil_lse" in (tmp_path / "workflow" / "schemas" / "study.schema.yaml").read_text()
    assert "mil_lse" not in METHODS  # an example, no part of the product
