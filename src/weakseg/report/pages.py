"""The pages of the report: their order, and which studies have something to show on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from weakseg.config import Experiment, study_tables


@dataclass(frozen=True)
class Page:
    """A page of the report, made from the notebook of its name.

    Attributes:
        title: as the index names it.
        sentence: what it shows.
        table: the table of whose experiments it speaks; None for a page on all runs.
        watched: whether it needs the run whose E-step is looked at.
    """

    title: str
    sentence: str
    table: str | None = None
    watched: bool = False


PAGES = {
    "table1": Page(
        "Table 1", "Every line beside the published figure, and which of the paper's orders hold.", "table1"
    ),
    "iou_vs_strong": Page(
        "IOU against pixel labels", "What a few pixel labels add to many image-level labels.", "table1"
    ),
    "table3": Page("Table 3", "Training with bounding boxes beside the published figures.", "table3"),
    "figure4": Page(
        "Figure 4", "What boxes become: Bbox-Rect, Bbox-Seg, and the E-step as it learns.", "table3", watched=True
    ),
    "boxes": Page("Boxes", "The boxes on images, the search for alpha, and how right the labels are.", "table3"),
    "per_class": Page("Classes", "IOU by class, and which classes are taken for which."),
    "qualitative": Page("Pictures", "Typical images and failures, with and without the CRF, chosen by a rule."),
    "crf_grid": Page("CRF search", "Every parameter set tried on the held-out images, and the winners."),
    "training_curves": Page("Training", "Loss, learning rate, the E-step's background share, time."),
}
"""The pages in the order of reading; a notebook without an entry goes by its file's name, in every study."""


def page_of(name: str) -> Page:
    """The page of a notebook."""
    return PAGES.get(name, Page(name.replace("_", " "), ""))


def pages_of(notebooks: Sequence[str], experiments: list[Experiment]) -> list[str]:
    """The notebooks that have something to show of these experiments: known ones in their order, then others."""
    tables, watched = study_tables(experiments), any(row.watched for row in experiments)
    shown = [
        name for name in notebooks if page_of(name).table in (None, *tables) and (watched or not page_of(name).watched)
    ]
    return [name for name in PAGES if name in shown] + sorted(set(shown) - set(PAGES))
