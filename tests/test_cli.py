"""The command line: its words, its errors, its exit codes. The rooms behind it have their own tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from weakseg import cli, schemas
from weakseg.config import Experiment, Study
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths

RULES = (
    "data", "pretrain", "annotate", "boxes", "bbox-rect", "tune-boxes", "bbox-seg", "label-quality", "features",
    "train", "score", "tune-crf", "evaluate", "tables", "index",
)  # fmt: skip


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what went to standard error."""
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_every_command_of_the_rules_exists_and_explains_itself(
    project_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = "\n".join(path.read_text(encoding="utf-8") for path in (project_root / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r'"weakseg ([a-z-]+) ', rules)) == set(RULES)
    for command in (*RULES, "segment", "schemas"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert "--log" in capsys.readouterr().out


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from weakseg import cli\ntry: cli.main(['--help'])\nfinally: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        # Each runs once a run of a study, for seconds, which these libraries would double.
        ("weakseg.evaluate.crf_search", {"torch", "pandas", "scipy", "matplotlib"}),
        ("weakseg.evaluate.mean_iou", {"torch", "pandas", "scipy", "matplotlib"}),
        ("weakseg.evaluate.box_search", {"torch", "pandas", "scipy", "matplotlib"}),
        ("weakseg.evaluate.score_run", {"pandas", "scipy", "matplotlib"}),
        ("weakseg.train.loop", {"pandas", "scipy", "matplotlib"}),
    ],
)
def test_commands_of_each_run_do_not_wait_for_libraries_they_do_not_need(module: str, libraries: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not libraries & set(shown.split())


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["train"], ["train", "--experiment", "x", "--threads", "0"]])
def test_wrong_words_end_with_2_and_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: weakseg" in capsys.readouterr().err


def test_unusable_input_is_one_message_on_stderr_and_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "data.log"
    code, shown = run("data", "--study", "nosuch", "--config-dir", tmp_path, "--log", log, capsys=capsys)
    assert code == 2
    assert shown.startswith("weakseg data: ") and "nosuch.yaml: no such file" in shown and "Traceback" not in shown
    assert log.read_text(encoding="utf-8") == shown


def test_experiment_that_the_study_does_not_run_is_refused_with_those_it_runs(
    project_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project_root / "tests/tiny/config"
    code, shown = run(
        "train", "--study", "tiny", "--config-dir", config, "--results", tmp_path, "--experiment", "em_fixed_weak",
        capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert "em_fixed_weak" in shown and "strong_1464" in shown


def test_unexpected_error_ends_with_1_and_its_traceback_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path, *, check: bool) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(schemas, "write_schemas", fail)
    log = tmp_path / "log"
    code, _ = run("schemas", "--log", log, capsys=capsys)
    assert code == 1
    assert "Traceback" in log.read_text(encoding="utf-8") and "a defect" in log.read_text(encoding="utf-8")


def test_a_command_hands_over_typed_study_experiment_and_paths(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weakseg.train import loop

    calls = []
    monkeypatch.setattr(loop, "train_run", lambda *given: calls.append(given))
    where = ["--config-dir", str(project_root / "tests/tiny/config"), "--results", str(tmp_path)]
    cli.main(
        ["train", "--study", "tiny", *where, "--experiment", "strong_1464", "--seed", "7", "--data-root", "photos"]
    )
    ((study, experiment, seed, paths, data_root),) = calls
    assert isinstance(study, Study) and study.name == "tiny"
    assert isinstance(experiment, Experiment) and experiment.id == "strong_1464"
    assert (seed, paths, data_root) == (7, StudyPaths("tiny", tmp_path), "photos")


def test_schemas_in_the_repository_are_those_of_the_models(
    project_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schemas", "--check", "--out", project_root / "workflow/schemas", capsys=capsys) == (0, "")


def test_drifted_and_missing_schemas_are_named(tmp_path: Path) -> None:
    schemas.write_schemas(tmp_path)
    schemas.write_schemas(tmp_path, check=True)
    study = tmp_path / "study.schema.json"
    drifted = json.loads(study.read_text(encoding="utf-8"))
    drifted["properties"]["seeds"]["default"] = [1]
    study.write_text(json.dumps(drifted, indent=1) + "\n", encoding="utf-8")
    (tmp_path / "figure.schema.json").unlink()
    with pytest.raises(WeaksegError, match=r"study\.schema\.json, .*figure\.schema\.json: .*run `weakseg schemas`"):
        schemas.write_schemas(tmp_path, check=True)
