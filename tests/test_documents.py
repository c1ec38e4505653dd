"""README and docs: their links lead somewhere, and what they show of results is what results/reference holds."""

import re
from pathlib import Path

import pandas as pd
import pytest

from weakseg.config import load_study, study_experiments

SHOWN = ["table", "finding", "paper", "here", "difference ± spread", "asked", "p", "verdict"]
"""Columns of a table of findings in a document."""


def documents(project_root: Path) -> list[Path]:
    return [*project_root.glob("*.md"), *(project_root / "docs").glob("*.md"), *(project_root / "config").glob("*.md")]


def test_links_lead_to_files(project_root: Path) -> None:
    broken = [
        (path.name, target)
        for path in documents(project_root)
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]
    assert not broken


def test_every_page_of_the_docs_can_be_reached_from_the_readme(project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    missing = {f"docs/{path.name}" for path in (project_root / "docs").glob("*.md")} - set(
        re.findall(r"\]\((.*?)\)", text)
    )
    assert not missing


FEATURES = {
    "table1": "1: image-level labels, on val", "table2": "2: image-level labels, on test photos",
    "table3": "3: boxes, on val", "table4": "4: boxes, on test photos", "table5": "5: MS-COCO beside VOC, on val",
    "table6": "6: MS-COCO and multi-scale networks, on test photos",
    "fields_of_view": "fields of view (Chen et al. 2015)",
}  # fmt: skip
STUDIES = ("demo", "voc-subset", "voc")
KEPT = {"voc-subset": ("voc-subset", "voc-coco-subset")}
"""Where the figures of a study are kept, if not under its name alone."""


def features_table(root: Path) -> list[list[str]]:
    """Title and rows of the table of what each study can run, and of what was run of it."""
    rows = [["table of the paper", *(f"`{study}`" for study in STUDIES)]]
    for table, about in FEATURES.items():
        cells = []
        for study in STUDIES:
            experiments = study_experiments(load_study(study, root / "config"), root / "config")
            lines = {row.id for row in experiments if row.line_in(table)}
            kept = [root / "results" / "reference" / name / f"{table}.csv" for name in KEPT.get(study, (study,))]
            frames = [pd.read_csv(path).query("seeds > 0") for path in kept if path.is_file()]
            ran = len(lines & {name for frame in frames for name in frame["experiment"]})
            cells.append(f"{ran} of {len(lines)} run" if ran else f"{len(lines)}, not run")
        rows.append([about, *cells])
    return rows


def test_the_table_of_features_is_true(project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"<!-- what each study can run -->\n(.*?)<!-- end -->", text, re.DOTALL)[0]
    lines = [line for line in block.splitlines() if line and not line.startswith("|---")]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == features_table(project_root)


def findings_table(path: Path) -> list[list[str]]:
    """Title and rows of the table that a document shows of a findings.csv."""
    rows = [SHOWN]
    for row in pd.read_csv(path, keep_default_na=False).to_dict("records"):
        difference = f"{row['difference']:+.1f} ± {row['spread']:.1f}".replace("-", "−")
        p = "< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
        table = row["table"].removeprefix("table")
        rows.append([table, row["claim"], row["paper"], row["ours"], difference, row["asked"], p, row["verdict"]])
    return rows


@pytest.mark.parametrize("name", ["README.md"])
def test_findings_in_documents_are_those_of_the_reference(project_root: Path, name: str) -> None:
    text = (project_root / name).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- (\S+/findings\.csv) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert blocks
    for source, block in blocks:
        lines = [line for line in block.splitlines() if line and not line.startswith("|---")]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert rows == findings_table(project_root / source)
