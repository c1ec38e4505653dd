"""The paper's tables as `paper.yaml` and `experiments.yaml` have them, against a copy that was typed by itself."""

import csv
import io
import math
import re
from pathlib import Path

import pytest

from weakseg.config import Experiment, PaperFigure, load_paper, load_sheet
from weakseg.errors import WeaksegError
from weakseg.report.paper import PaperSetting

# Whose: `own` was trained by the authors, `peer` is quoted. Field of view: S small, L large, ? unknown, - none.
TYPED = """\
table,line,method,strong,weak,iou,fov,whose
table1,1,EM-Fixed (Weak),0,10582,20.8,S,own
table1,2,EM-Adapt (Weak),0,10582,38.2,S,own
table1,3,EM-Fixed (Semi),200,10382,47.6,S,own
table1,4,EM-Fixed (Semi),500,10082,56.9,S,own
table1,5,EM-Fixed (Semi),750,9832,59.8,L,own
table1,6,EM-Fixed (Semi),1000,9582,62.0,L,own
table1,7,EM-Fixed (Semi),1464,5000,63.2,L,own
table1,8,EM-Fixed (Semi),1464,9118,64.6,L,own
table1,9,Strong,1464,0,62.5,L,own
table1,10,Strong,10582,0,67.6,L,own
table2,1,MIL-FCN,-,10k,25.7,-,peer
table2,2,MIL-sppxl,-,760k,35.8,-,peer
table2,3,MIL-obj,BING,760k,37.0,-,peer
table2,4,MIL-seg,MCG,760k,40.6,-,peer
table2,5,EM-Adapt (Weak),-,12k,39.6,S,own
table2,6,EM-Fixed (Semi),1.4k,10k,66.2,L,own
table2,7,EM-Fixed (Semi),2.9k,9k,68.5,L,own
table2,8,Strong (DeepLab-CRF-LargeFOV),12k,-,70.3,L,own
table3,1,Bbox-Rect (Weak),0,10582,52.5,S,own
table3,2,Bbox-EM-Fixed (Weak),0,10582,54.1,?,own
table3,3,Bbox-Seg (Weak),0,10582,60.6,L,own
table3,4,Bbox-Rect (Semi),1464,9118,62.1,L,own
table3,5,Bbox-EM-Fixed (Semi),1464,9118,64.8,L,own
table3,6,Bbox-Seg (Semi),1464,9118,65.1,L,own
table3,7,Strong,1464,0,62.5,L,own
table3,8,Strong,10582,0,67.6,L,own
table4,1,BoxSup,MCG,10k,64.6,-,peer
table4,2,BoxSup,1.4k (+MCG),9k,66.2,-,peer
table4,3,Bbox-Rect (Weak),-,12k,54.2,?,own
table4,4,Bbox-Seg (Weak),-,12k,62.2,L,own
table4,5,Bbox-Seg (Semi),1.4k,10k,66.6,L,own
table4,6,Bbox-EM-Fixed (Semi),1.4k,10k,66.6,L,own
table4,7,Bbox-Seg (Semi),2.9k,9k,68.0,L,own
table4,8,Bbox-EM-Fixed (Semi),2.9k,9k,69.0,L,own
table4,9,Strong (DeepLab-CRF-LargeFOV),12k,-,70.3,L,own
table5,1,PASCAL-only,0,0,67.6,L,own
table5,2,EM-Fixed (Semi),0,123287,67.7,L,own
table5,3,Cross-Joint (Semi),5000,118287,70.0,L,own
table5,4,Cross-Joint (Strong),5000,0,68.7,L,own
table5,5,Cross-Pretrain (Strong),123287,0,71.0,L,own
table5,6,Cross-Joint (Strong),123287,0,71.7,L,own
table6,1,MSRA-CFM,,,61.8,-,peer
table6,2,FCN-8s,,,62.2,-,peer
table6,3,Hypercolumn,,,62.6,-,peer
table6,4,TTI-Zoomout-16,,,64.4,-,peer
table6,5,DeepLab-CRF-LargeFOV,,,70.3,L,own
table6,6,BoxSup (Semi with weak COCO),,,71.0,-,peer
table6,7,DeepLab-CRF-LargeFOV (Multi-scale net),,,71.6,L,own
table6,8,Oxford TVG CRF-RNN VOC,,,72.0,-,peer
table6,9,Oxford TVG CRF-RNN COCO,,,74.7,-,peer
table6,10,Cross-Pretrain (Strong),,,72.7,?,own
table6,11,Cross-Joint (Strong),,,73.0,?,own
table6,12,Cross-Pretrain (Strong Multi-scale net),,,73.6,?,own
table6,13,Cross-Joint (Strong Multi-scale net),,,73.9,?,own
"""

# What the text states: points, then the two lines of one table.
STATED = [
    (13.9, "table2", 5, 1), (8.1, "table3", 3, 1), (7.0, "table3", 8, 3), (2.5, "table3", 8, 6), (2.4, "table4", 1, 4),
    (2.4, "table5", 3, 1), (1.3, "table5", 3, 4), (4.1, "table5", 6, 1),
]  # fmt: skip

OTHER_NAMES = {("table5", 1): "Strong", ("table6", 5): "Strong (DeepLab-CRF-LargeFOV)"}
"""Lines that are runs of another table under another name: the title there."""


@pytest.fixture
def figures(project_root: Path) -> dict[tuple[str, int], PaperFigure]:
    return {(figure.table, figure.line): figure for figure in load_paper(project_root / "config")}


@pytest.fixture
def experiments(project_root: Path) -> list[Experiment]:
    return list(load_sheet(project_root / "config").experiments)


def printed(count: str) -> str:
    """A typed count as `paper.yaml` has it."""
    return "-" if count == "0" else f"{int(count):,}" if count.isdigit() else count


def test_every_line_is_the_one_that_was_typed(figures: dict[tuple[str, int], PaperFigure]) -> None:
    typed = list(csv.DictReader(io.StringIO(TYPED)))
    assert len(typed) == 54
    views = {"S": "small", "L": "large", "?": "unknown", "-": "none"}
    wanted = [
        (row["table"], int(row["line"]), row["method"], printed(row["strong"]), printed(row["weak"]),
         float(row["iou"]), views[row["fov"]], row["whose"] == "peer")
        for row in typed
    ]  # fmt: skip
    found = [
        (figure.table, figure.line, figure.method, figure.strong, figure.weak, figure.iou, figure.fov, figure.peer)
        for figure in figures.values()
    ]
    assert found == wanted


def test_peers_are_named_where_they_are_known(figures: dict[tuple[str, int], PaperFigure], tmp_path: Path) -> None:
    named = {figure.method: figure.by for figure in figures.values() if figure.by}
    mil = dict.fromkeys(("MIL-sppxl", "MIL-obj", "MIL-seg"), "Pinheiro and Collobert 2015")
    assert named == {"MIL-FCN": "Pathak 2014", **mil}
    (tmp_path / "paper.yaml").write_text("table2:\n  - {method: Ours, iou: 20, by: Somebody}\n")
    with pytest.raises(WeaksegError, match="Ours: `by` says whose line a peer's is; say `peer: true` too"):
        load_paper(tmp_path)


def test_differences_of_the_text_are_those_of_the_lines(
    project_root: Path, figures: dict[tuple[str, int], PaperFigure]
) -> None:
    stated = PaperSetting.read(project_root / "config").differences
    assert [(d.points, d.higher.table, d.higher.line, d.lower.line) for d in stated] == STATED
    for one in stated:
        assert one.higher.table == one.lower.table
        assert math.isclose(figures[one.higher.place].iou - figures[one.lower.place].iou, one.points, abs_tol=1e-6)


def papers_own(row: Experiment) -> list[str]:
    """The tables of the paper that print an experiment; that of the fields of view is none of them."""
    return [table for table in row.tables if table != "fields_of_view"]


def test_every_line_of_the_authors_has_an_experiment_of_its_name_and_no_other_has(
    figures: dict[tuple[str, int], PaperFigure], experiments: list[Experiment]
) -> None:
    run: dict[tuple[str, int], Experiment] = {}
    for row in experiments:
        for table in papers_own(row):
            place = (table, row.line_in(table))
            assert place in figures, f"{row.id} is {place}, which paper.yaml has not"
            assert row.title == OTHER_NAMES.get(place, figures[place].method), row.id
            if row.variant is None:
                assert place not in run, f"{row.id} and {run[place].id} are one line"
                run[place] = row
                assert figures[place].fov in (row.fov, "unknown"), row.id
    assert run.keys() == {place for place, figure in figures.items() if not figure.peer}


def test_counts_of_the_experiments_are_the_printed_ones(
    figures: dict[tuple[str, int], PaperFigure], experiments: list[Experiment]
) -> None:
    def agrees(text: str, count: int) -> bool:
        """Thousands are cut off behind the last digit printed, not rounded: 1,464 is 1.4k, 10,567 is 10k."""
        if short := re.fullmatch(r"(\d+)(?:\.(\d))?k", text):
            digits = len(short[2] or "")
            return math.floor(count / 1000 * 10**digits) == int(short[1] + (short[2] or ""))
        return text == printed(str(count))

    assert agrees("1.4k", 1464) and agrees("10k", 10567) and not agrees("11k", 10567) and not agrees("1.5k", 1464)
    exact = {"1.4k": {1464}, "2.9k": {2913}, "10k": {10567}, "9k": {9118}, "12k": {12031}}
    checked = 0
    for row in experiments:
        for table in papers_own(row):
            figure = figures[table, row.line_in(table)]
            if table == "table6":
                continue  # prints none
            # Table 5 counts the images of MS-COCO alone: of its line without any there are none, and Cross-Pretrain's
            # are those of the run before.
            before = row if not row.fresh_classifier else next(r for r in experiments if r.id == row.init_from)
            streams = () if (table, figure.line) == ("table5", 1) else before.counted_streams
            strong = sum(stream.count for stream in streams if stream.is_strong)
            weak = sum(stream.count for stream in streams if not stream.is_strong)
            for text, count in ((figure.strong, strong), (figure.weak, weak)):
                assert agrees(text, count) and count in exact.get(text, {count}), (row.id, table, text, count)
                checked += 1
    assert checked == 2 * (10 + 2 + 4 + 8 + 7 + 7)  # with the variants of Table 1's lines 1 and 2, and Table 5's line 5


PICTURES = (
    ("Figure 4", "label maps made from boxes, and the E-step as it learns", "snakemake figure4"),
    ("Figure 6", "qualitative results, typical images and failures", "snakemake qualitative"),
)
"""Figures of the paper that a page draws: what is shown, and the command."""


def mapped_lines(figures: dict[tuple[str, int], PaperFigure], experiments: list[Experiment]) -> list[str]:
    """The table of docs/paper-map.md: a line a line of the paper's tables, then its figures."""
    rows = ["| paper | line | method | strong | weak | mean IOU | experiment | command |", "|---" * 8 + "|"]
    for (table, line), figure in figures.items():
        runs = [row.id for row in experiments if row.line_in(table) == line]
        whose = f"by others: {figure.by}" if figure.by else "by others"
        cells = [
            f"Table {table.removeprefix('table')}",
            str(line),
            figure.method,
            *(count.replace("-", "–") or "–" for count in (figure.strong, figure.weak)),
            f"{figure.iou:.1f}",
            ", ".join(f"`{name}`" for name in runs) if runs else whose,
            f"`snakemake {' '.join(runs)}`" if runs else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    rows += [f"| {name} | | {shown} | | | | | `{command}` |" for name, shown, command in PICTURES]
    return rows


def test_the_map_has_every_line_of_the_paper(
    project_root: Path, figures: dict[tuple[str, int], PaperFigure], experiments: list[Experiment]
) -> None:
    text = (project_root / "docs" / "paper-map.md").read_text(encoding="utf-8")
    wanted = mapped_lines(figures, experiments)
    found = [
        line
        for line in text.splitlines()
        if line.startswith(("| paper | line", "|---|---|---|---|", "| Table", "| Figure"))
    ]
    assert len(wanted) == 2 + 54 + 2
    assert found == wanted, "docs/paper-map.md should hold\n" + "\n".join(wanted)
    for _, _, command in PICTURES:
        assert (project_root / "notebooks" / f"{command.split()[1]}.ipynb").is_file()
