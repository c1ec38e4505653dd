"""What the paper reports, as `config/paper.yaml` holds it, and how long its lists are."""

import math
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from weakseg.config import Difference, FieldOfView, PaperFigure, Role, load_paper, load_sheet
from weakseg.config.reading import explain, read_yaml
from weakseg.errors import WeaksegError
from weakseg.report.results import StudyResults
from weakseg.strict import Strict

PAPER = (
    "G. Papandreou, L.-C. Chen, K. Murphy, A. L. Yuille: Weakly- and Semi-Supervised Learning of a DCNN for Semantic "
    "Image Segmentation, ICCV 2015"
)
"""Where the published figures come from."""


def paper_lists(results: StudyResults) -> dict[Role, int]:
    """Images of each of the paper's lists by its role."""
    return load_sheet(results.config_dir).lists.sizes()


def published_lines(results: StudyResults, table: str) -> dict[int, PaperFigure]:
    """The published lines of a table by their number; none of a table that the paper has not got."""
    return {figure.line: figure for figure in load_paper(results.config_dir) if figure.table == table}


def published_ious(results: StudyResults) -> dict[tuple[str, int], float]:
    """The published mean IOU in percent of each line, by table and line."""
    return {(figure.table, figure.line): figure.iou for figure in load_paper(results.config_dir)}


class CrfSearchSetting(Strict):
    """The values that the paper's coarse search of the CRF's parameters tries."""

    w: tuple[float, ...] = Field(min_length=1)
    sigma_xy: tuple[float, ...] = Field(min_length=1)
    sigma_rgb: tuple[float, ...] = Field(min_length=1)

    @property
    def size(self) -> int:
        """How many parameter sets there are."""
        return math.prod(map(len, (self.w, self.sigma_xy, self.sigma_rgb)))


class TrainingSetting(Strict):
    """How long the paper trains: mini-batches, and images in each."""

    iterations: int = Field(ge=1)
    batch: int = Field(ge=1)


class PublishedField(Strict):
    """What Chen et al. (ICLR 2015) report of a field of view."""

    fov: FieldOfView
    multi_scale: bool = Field(False, description="With multi-scale branches (MSc).")
    iou: float | None = Field(None, ge=0, le=100, description="Mean IOU in percent without the CRF, where known.")
    with_crf: float | None = Field(None, ge=0, le=100, description="The same with it.")


class PaperSetting(Strict):
    """What `paper.yaml` holds besides the tables; what it leaves out is not spoken of.

    Attributes:
        differences: those between lines that the text states.
        alpha: IOU in percent of the recovered foreground, by Bbox-Seg's alpha.
        crf_search: the search for the CRF's parameters.
        crf_gain: the fewest and the most points of mean IOU that the CRF adds to a line.
        training: the length of a training.
        fields_of_view: mean IOU of each field of view, on val with all pixel labels.
    """

    differences: tuple[Difference, ...] = ()
    alpha: dict[float, float] = Field(default_factory=dict)
    crf_search: CrfSearchSetting | None = None
    crf_gain: tuple[float, float] | None = None
    training: TrainingSetting | None = None
    fields_of_view: tuple[PublishedField, ...] = ()

    @classmethod
    def read(cls, config_dir: str | Path) -> Self:
        """Read it from a folder of configuration.

        Raises:
            WeaksegError: no such file, not YAML, or a value that cannot be used.
        """
        path = Path(config_dir) / "paper.yaml"
        try:
            listed = read_yaml(path)
            if not isinstance(listed, dict):
                raise WeaksegError(f"{path}: not a mapping in YAML")
            return cls.model_validate({key: listed[key] for key in cls.model_fields if key in listed})
        except ValidationError as error:
            raise explain(path, error) from error
