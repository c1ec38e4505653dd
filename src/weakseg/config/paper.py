"""Published figures, read from `paper.yaml`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from weakseg.config.reading import explain, read_yaml
from weakseg.errors import WeaksegError
from weakseg.strict import Strict


class PaperFigure(Strict):
    """A published figure: one line of a table."""

    table: str = Field(pattern=r"^table[1-6]$")
    line: int = Field(ge=1)
    method: str
    strong: str = Field("", description="Strong images as printed.")
    weak: str = Field("", description="Weak images as printed.")
    iou: float = Field(ge=0, le=100, description="Mean IOU in percent.")
    fov: Literal["small", "large", "unknown", "none"] = Field(
        "none", description="Field of view, inferred from the text's versions."
    )


NO_TABLES = ("alpha", "crf_search", "crf_gain", "training", "fields_of_view")
"""Keys of `paper.yaml` that are no tables; the report reads them."""


def load_paper(config_dir: str | Path = "config") -> list[PaperFigure]:
    """Read the tables of `paper.yaml`: the published figures, by table and line."""
    path = Path(config_dir) / "paper.yaml"
    listed = read_yaml(path)
    if not isinstance(listed, dict):
        raise WeaksegError(f"{path}: not a mapping of tables to their lines")
    try:
        return [
            PaperFigure.model_validate({"table": table, "line": number, **row})
            for table, rows in listed.items()
            if table not in NO_TABLES
            for number, row in enumerate(rows, start=1)
        ]
    except ValidationError as error:
        raise explain(path, error) from error
