"""Published figures, read from `paper.yaml`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

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
    peer: bool = Field(False, description="Quoted from others; no experiment runs it.")
    by: str = Field("", description="Whose line a peer's is, where that is known.")

    @model_validator(mode="after")
    def _peers_alone_are_by_others(self) -> "PaperFigure":
        if self.by and not self.peer:
            raise ValueError(f"{self.method}: `by` says whose line a peer's is; say `peer: true` too")
        return self


class Line(Strict):
    """A line of a table of the paper."""

    table: str = Field(pattern=r"^table[1-6]$")
    line: int = Field(ge=1)

    @property
    def place(self) -> tuple[str, int]:
        """Table and line."""
        return self.table, self.line


class Difference(Strict):
    """A difference between two lines that the text states."""

    claim: str = Field(description="What is compared, in words.")
    points: float = Field(gt=0, description="By how many points of mean IOU, as the text says.")
    higher: Line
    lower: Line


NO_TABLES = ("differences", "alpha", "crf_search", "crf_gain", "training", "fields_of_view")
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
