"""JSON schemas of the configuration files, written as YAML, for editors and other tools.

They are generated from the typed models, and each is whole: a tool that follows no `$ref` can read it.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from weakseg.config import ExperimentSheet, KnownWeights, PaperFigure, Settings, Study
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def make_schemas() -> dict[str, dict[str, Any]]:
    """Schema by file name: of a study, of each sheet beside the folder of studies, and of the settings."""
    from weakseg.data.download import Archive

    models = {
        "study": Study.model_json_schema(),
        "experiments": ExperimentSheet.model_json_schema(),
        "weights": TypeAdapter(dict[str, KnownWeights]).json_schema(),
        "datasets": TypeAdapter(dict[str, Archive]).json_schema(),
        "paper": _paper_schema(),
        "settings": Settings.model_json_schema(),
    }
    return {f"{name}.schema.yaml": {"$schema": DRAFT, **whole(schema)} for name, schema in models.items()}


def whole(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what its references name in their place, and without the definitions."""
    definitions = schema.get("$defs", {})

    def inline(value: Any) -> Any:
        if isinstance(value, list):
            return [inline(item) for item in value]
        if not isinstance(value, dict):
            return value
        named = value.get("$ref", "").removeprefix("#/$defs/")
        # What stands beside a reference says more about this place than the definition does.
        said = {**definitions[named], **value} if named else value
        return {key: inline(item) for key, item in said.items() if key not in ("$ref", "$defs")}

    return inline(schema)


def _paper_schema() -> dict[str, Any]:
    """`paper.yaml`: a list of figures a table, in the order of the printed lines, and settings that are no tables."""
    from weakseg.report.paper import PaperSetting

    schema, figure = PaperSetting.model_json_schema(), PaperFigure.model_json_schema()
    places = ("table", "line")  # said by the key, and by the position in the list
    figure["properties"] = {name: value for name, value in figure["properties"].items() if name not in places}
    figure["required"] = [name for name in figure["required"] if name not in places]
    table = {"type": "array", "items": figure}
    return {**schema, "title": "Paper", "patternProperties": {"^table[1-6]$": table}}


def write_schemas(folder: str | Path, *, check: bool = False) -> None:
    """Write all schemas to `folder`; with `check`, compare instead.

    Raises:
        WeaksegError: `check`, and a file is missing or differs from its model.
    """
    drifted = []
    for name, schema in make_schemas().items():
        path = Path(folder) / name
        text = "# Written by `weakseg schemas`; change the models in src/weakseg/config.\n"
        text += yaml.safe_dump(schema, sort_keys=False, allow_unicode=True, width=110)
        if not check:
            atomic_write_text(path, text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            drifted.append(str(path))
    if drifted:
        raise WeaksegError(f"{', '.join(drifted)}: not what the configuration models say; run `weakseg schemas`")
