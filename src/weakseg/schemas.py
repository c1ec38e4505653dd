"""JSON schemas of the configuration files, generated from the typed models, for editors and other tools."""

import json
from pathlib import Path
from typing import Any

from weakseg.config import ExperimentSheet, KnownWeights, PaperFigure, Study
from weakseg.errors import WeaksegError
from weakseg.files import atomic_write_text


def make_schemas() -> dict[str, dict[str, Any]]:
    """Schema by file name: a study, the experiment sheet, a published figure, and a row of the weights."""
    return {
        "study.schema.json": Study.model_json_schema(),
        "experiments.schema.json": ExperimentSheet.model_json_schema(),
        "figure.schema.json": PaperFigure.model_json_schema(),
        "weights.schema.json": KnownWeights.model_json_schema(),
    }


def write_schemas(folder: str | Path, *, check: bool = False) -> None:
    """Write all schemas to `folder`; with `check`, compare instead.

    Raises:
        WeaksegError: `check`, and a file is missing or differs from its model.
    """
    drifted = []
    for name, schema in make_schemas().items():
        path, text = Path(folder) / name, json.dumps(schema, indent=1) + "\n"
        if not check:
            atomic_write_text(path, text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            drifted.append(str(path))
    if drifted:
        raise WeaksegError(f"{', '.join(drifted)}: not what the configuration models say; run `weakseg schemas`")
