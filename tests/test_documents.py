"""README and docs: their links lead somewhere, and what they show of results is what results/reference holds."""

import re
from pathlib import Path

import pandas as pd
import pytest

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
