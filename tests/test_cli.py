"""The command line: its words, its errors, its exit codes. The rooms behind it have their own tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from weakseg import cli, schemas
from weakseg.config import Experiment, Study
from weakseg.errors import WeaksegError
from weakseg.paths import StudyPaths

RULES = (
    "scenes", "data", "weights", "pretrain", "annotate", "bbox-rect", "tune-boxes", "bbox-seg", "label-quality",
    "projection", "features", "train", "estep-maps", "score", "tune-crf", "evaluate", "tables", "findings", "index",
    "gallery", "submission",
)  # fmt: skip
BY_HAND = ("doctor", "reference", "report", "schemas", "segment")
OF_A_RUN = ("train", "estep-maps", "score", "tune-crf", "evaluate", "submission")

HEAVY = {"torch", "pandas", "scipy", "matplotlib", "numpy", "pydantic", "numba", "joblib"}


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and what went to standard error."""
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def loaded(code: str) -> set[str]:
    """The heavy libraries that a fresh Python has loaded when it has run the code."""
    code += "\nimport sys; print('\\n', *sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return HEAVY & set(shown.splitlines()[-1].split())


def test_every_command_of_the_rules_exists(project_root: Path) -> None:
    assert set(cli.commands.commands) == {*RULES, *BY_HAND}
    rules = "\n".join(path.read_text(encoding="utf-8") for path in (project_root / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r'" weakseg ([a-z-]+) ', rules)) == set(RULES)


@pytest.mark.parametrize("command", [*RULES, *BY_HAND])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: weakseg {command} [OPTIONS]" in shown and "--log" in shown
    # Every option says what it is for, and what it is where nothing is said.
    listed = shown[shown.index("Options:") :].splitlines()[1:]
    assert all(re.match(r"  -.*  \w|  -\S.*$|    ", line) for line in listed)
    assert ("--study" in shown) == (command not in ("report", "schemas", "segment", "weights"))
    assert ("--seed" in shown) == (command in OF_A_RUN)


def test_version_and_help_wait_for_no_library() -> None:
    calls = [["--version"], ["--help"], *([name, "--help"] for name in (*RULES, *BY_HAND))]
    assert loaded(f"from weakseg import cli\nfor call in {calls}: assert cli.main(call) == 0") == set()


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        # Some of these run once a run of a study, for seconds, which other libraries would double.
        (
            ["evaluate.crf_search", "evaluate.evaluate_run", "annotations.bbox_seg_search", "annotations.bbox_seg_maps",
             "annotations.bbox_rect_maps", "annotations.annotate", "data.prepare", "decides", "schemas"], set(),
        ),
        (
            ["evaluate.score", "evaluate.segment", "train.loop", "train.estep_maps", "train.features"], {"torch"},
        ),
        (["report.tables", "report.findings", "annotations.label_quality"], {"pandas"}),
        (["report.index", "report.gallery", "report.reference"], {"pandas", "matplotlib"}),
    ],
)  # fmt: skip
def test_commands_do_not_wait_for_libraries_they_do_not_need(modules: list[str], allowed: set[str]) -> None:
    code = "import " + ", ".join(f"weakseg.{module}" for module in modules)
    assert loaded(code) - {"numpy", "pydantic"} == allowed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["train"], "Missing option '--experiment'"),
        (["train", "--experiment", "x", "--threads", "0"], "'--threads': 0 is not in the range"),
        (["train", "--experiment", "x", "--seed", "-1"], "'--seed': -1 is not in the range"),
        (["train", "--experiment", "x", "--workers", "-1"], "'--workers': -1 is not in the range"),
        (["features", "--role", "train"], "'train' is not one of 'training', 'evaluation'"),
        (["data", "--stduy", "demo"], "No such option"),
        (["segment", "--run", "r", "--out", "o"], "Missing argument 'IMAGES...'"),
        (["data", "demo"], "unexpected extra argument (demo)"),
    ],
)
def test_wrong_words_end_with_2_and_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = run(*arguments, capsys=capsys)
    assert code == 2
    assert shown.startswith("Usage: weakseg") and said in shown


def test_no_word_ends_with_2_and_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = run(capsys=capsys)
    assert code == 2 and "tune-crf" in shown


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
    code, shown = run("schemas", "--log", log, capsys=capsys)
    assert code == 1
    assert "Traceback" in shown and "a defect" in shown and log.read_text(encoding="utf-8") == shown


def test_a_command_that_is_stopped_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(folder: Path, *, check: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(schemas, "write_schemas", stop)
    code, shown = run("schemas", capsys=capsys)
    assert code == 130 and shown.strip() == "weakseg: stopped"


def test_a_command_hands_over_typed_study_experiment_and_paths(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weakseg.train import loop

    calls = []
    monkeypatch.setattr(loop, "train_run", lambda *given, **named: calls.append((given, named)))
    config = project_root / "tests/tiny/config"
    code = cli.main(
        ["train", "--study", "tiny", "--config-dir", str(config), "--results", str(tmp_path), "--data-root", "photos",
         "--experiment", "strong_1464", "--seed", "7", "--workers", "3", "--threads", "1"]
    )  # fmt: skip
    (((study, experiment, *others), named),) = calls
    assert code == 0
    assert isinstance(study, Study) and study.name == "tiny"
    assert isinstance(experiment, Experiment) and experiment.id == "strong_1464"
    assert (others, named) == ([7, StudyPaths("tiny", tmp_path), "photos", config], {"workers": 3})


def test_scenes_are_drawn_for_studies_of_scenes_only(
    project_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = run(
        "scenes", "--study", "voc-subset", "--config-dir", project_root / "config", "--results", tmp_path, capsys=capsys
    )
    assert code == 2 and "study voc-subset: its images are not generated (dataset.source: path)" in shown
    assert not list(tmp_path.iterdir())


def test_schemas_in_the_repository_are_those_of_the_models(
    project_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schemas", "--check", "--out", project_root / "workflow/schemas", capsys=capsys) == (0, "")


def test_drifted_and_missing_schemas_are_named(tmp_path: Path) -> None:
    schemas.write_schemas(tmp_path)
    schemas.write_schemas(tmp_path, check=True)
    study = tmp_path / "study.schema.yaml"
    drifted = study.read_text(encoding="utf-8").replace("Seeds of every experiment.", "Seeds.")
    study.write_text(drifted, encoding="utf-8")
    (tmp_path / "paper.schema.yaml").unlink()
    with pytest.raises(WeaksegError, match=r"study\.schema\.yaml, .*paper\.schema\.yaml: .*run `weakseg schemas`"):
        schemas.write_schemas(tmp_path, check=True)


def test_configuration_names_its_schema_and_keeps_to_it(project_root: Path) -> None:
    folders = (project_root / "config", project_root / "tests" / "tiny" / "config", project_root / ".test" / "config")
    files = [path for folder in folders for path in sorted(folder.rglob("*.yaml")) if not path.is_symlink()]
    assert len(files) >= 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
        assert named, path
        schema = yaml.safe_load((path.parent / named[1]).read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        content = json.loads(json.dumps(yaml.safe_load(text)))  # JSON's keys are texts
        jsonschema.validate(content, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, "stduy": "mine"}, schema)


def test_schemas_are_whole_and_keep_what_is_said_of_a_field() -> None:
    made = schemas.make_schemas()
    assert "$ref" not in json.dumps(made) and "$defs" not in json.dumps(made)
    field = {"$ref": "#/$defs/Grid", "description": "Coarse."}
    model = {"properties": {"grid": field}, "$defs": {"Grid": {"type": "object", "description": "A grid."}}}
    assert schemas.whole(model) == {"properties": {"grid": {"type": "object", "description": "Coarse."}}}
