"""The paper's findings, held against runs that keep them, break them, or do not decide."""

import math

import pandas as pd
import pytest

from weakseg.errors import WeaksegError
from weakseg.report import findings
from weakseg.report.findings import UNTESTED, find, judge, read_findings, tally, terminal_table, write_findings
from weakseg.report.results import StudyResults, read_metrics

ADAPT = "EM-Adapt at least 5 points above EM-Fixed, with image-level labels alone"
SEMI = "Every semi-supervised line above every weak line"
RISE = "IOU rises with every step of pixel labels"
NEAR = "Semi-supervised lines from the paper's 750 pixel labels on within 8 points of pixel labels for all images"
HELP = "Weak images help beside the same pixel labels"
TOP = "Pixel labels for all images above every other line"
CRF = "The CRF adds 1 to 8 points to every line above 20"
SEG = "Bbox-Seg at least 3 points above Bbox-Rect, with boxes alone"
EM = "Bbox-EM-Fixed above Bbox-Rect, with boxes alone"
SEG_SEMI, EM_SEMI = (f"{name} above Bbox-Rect, with some pixel labels" for name in ("Bbox-Seg", "Bbox-EM-Fixed"))
SEG_NEAR = "Bbox-Seg with some pixel labels within 4 points of pixel labels for all images"
HELPS = "Bbox-Seg and Bbox-EM-Fixed help beside the same pixel labels"
TAGS = "Every line with boxes alone above every line with image-level labels alone"
COCO_LITTLE = "Image-level labels of all of MS-COCO add no more than 1 point to PASCAL-only"
JOINT_SEMI = "Cross-Joint (Semi), with 5,000 pixel labels of MS-COCO, above"
COCO_5000, COCO_SEMI = f"{JOINT_SEMI} these pixel labels alone", f"{JOINT_SEMI} PASCAL-only"
COCO_ALL = "Cross-Pretrain and Cross-Joint, with all pixel labels of MS-COCO, above PASCAL-only"
COCO_JOINT = "Cross-Joint above Cross-Pretrain, with all of these"
OF_TABLE5 = [COCO_LITTLE, COCO_5000, COCO_SEMI, COCO_ALL, COCO_JOINT]
OF_TABLE1 = [ADAPT, SEMI, RISE, NEAR, HELP, TOP, CRF]
OF_TABLE3 = [SEG, EM, SEG_SEMI, EM_SEMI, SEMI, SEG_NEAR, HELPS, TAGS, TOP, CRF]


@pytest.fixture
def metrics(finished):
    return read_metrics(finished)


def changed(metrics, **runs):
    """The metrics with the runs of some experiments replaced: figures by seed with the CRF, 3 less without."""
    frames = [metrics[~metrics["experiment"].isin(runs)]]
    for name, figures in runs.items():
        first = metrics[metrics["experiment"] == name].iloc[:1]
        for seed, iou in enumerate(figures if isinstance(figures, list) else [figures]):
            frames.append(first.assign(seed=seed, iou_crf=float(iou), iou_dcnn=float(iou) - 3))
    return pd.concat(frames, ignore_index=True)


def claims(found, verdict):
    return {(f.table, f.claim) for f in found if f.verdict == verdict}


def one(found, claim, table="table1"):
    return next(f for f in found if (f.table, f.claim) == (table, claim))


def test_all_findings_are_checked(finished, metrics):
    found = find(finished, metrics)
    assert [f.claim for f in found if f.table == "table1"] == OF_TABLE1
    assert [f.claim for f in found if f.table == "table3"] == OF_TABLE3
    assert {f.verdict for f in found} == {"holds"}
    assert [f.paper for f in found] == [
        "38.2 vs 20.8", "47.6 vs 38.2", "47.6, 56.9, 59.8, 62.0, 64.6", "59.8 vs 67.6", "64.6 vs 62.5",
        "67.6 vs 64.6", "+0.5 to +4.8",
        "60.6 vs 52.5", "54.1 vs 52.5", "65.1 vs 62.1", "64.8 vs 62.1", "62.1 vs 60.6", "65.1 vs 67.6",
        "64.8 vs 62.5", "52.5 vs 38.2", "67.6 vs 65.1", "+0.5 to +4.8",
    ]  # fmt: skip
    adapt = one(found, ADAPT)
    assert (adapt.ours, adapt.margin, adapt.test) == ("31.0 vs 20.0", "+11.0", "one seed")
    assert adapt.lines == "em_adapt_weak em_fixed_weak"
    assert one(found, NEAR).ours == "47.2 vs 55.0" and one(found, NEAR).margin == "−7.8"
    assert one(found, RISE).ours == "40.0, 45.0, 47.2, 48.0, 50.0"
    assert one(found, CRF).ours == "+3.0 to +3.0"


# Lines are moved together with their figure without the CRF, whose finding is broken by itself below.
@pytest.mark.parametrize(
    ("runs", "broken"),
    [
        ({"em_fixed_weak": 26.1}, {("table1", ADAPT)}),
        ({"em_fixed_weak": 26.0}, set()),  # 5 points are at least 5
        ({"em_adapt_weak": 41.0}, {("table1", SEMI), ("table3", TAGS)}),
        ({"em_adapt_weak": 33.0}, {("table3", TAGS)}),  # equal is not above
        ({"em_fixed_semi_500": 39.0}, {("table1", RISE)}),
        ({"em_fixed_semi_750": 46.9}, {("table1", NEAR)}),
        ({"strong_1464": 50.5}, {("table1", HELP)}),
        ({"em_fixed_semi_1464_5000": 55.5}, {("table1", TOP)}),
        ({"bbox_seg_weak": 35.9}, {("table3", SEG)}),
        ({"bbox_em_fixed_weak": 33.0}, {("table3", EM)}),
        ({"bbox_seg_semi": 46.0}, {("table3", SEG_SEMI), ("table3", SEG_NEAR), ("table3", HELPS)}),
        ({"bbox_rect_semi": 51.5}, {("table3", EM_SEMI)}),
        ({"bbox_seg_weak": 46.5}, {("table3", SEMI)}),
        ({"strong_10582": 56.1}, {("table1", NEAR), ("table3", SEG_NEAR)}),
        ({"strong_1464": 51.5}, {("table1", HELP), ("table3", HELPS)}),
        ({"bbox_em_fixed_semi": 55.0}, {("table3", TOP)}),
        # Variants of a line take no part.
        ({"em_fixed_weak_largefov": 99.0, "em_adapt_weak_largefov": 1.0}, set()),
    ],
)
def test_a_broken_finding_fails_alone(finished, metrics, runs, broken):
    if "strong_1464" in runs:
        broken = broken | {("table1", HELP)}
    assert claims(find(finished, changed(metrics, **runs)), "fails") == broken


@pytest.mark.parametrize(
    ("name", "gain", "verdict", "ours"),
    [
        ("strong_1464", 0.9, "fails", "+0.9 to +3.0"),
        ("strong_1464", 8.1, "fails", "+3.0 to +8.1"),
        ("strong_1464", -1.0, "fails", "−1.0 to +3.0"),
        ("strong_1464", 8.0, "holds", "+3.0 to +8.0"),
        ("em_fixed_weak", 0.0, "holds", "+3.0 to +3.0"),  # not above 20
    ],
)
def test_the_crf_adds_some_points(finished, metrics, name, gain, verdict, ours):
    runs = metrics["experiment"] == name
    metrics.loc[runs, "iou_dcnn"] = metrics.loc[runs, "iou_crf"] - gain
    shown = one(find(finished, metrics), CRF)
    assert (shown.verdict, shown.ours) == (verdict, ours)


def test_several_seeds_are_tested(finished, metrics):
    fixed = [20.0, 21.0, 22.0]
    clear = one(find(finished, changed(metrics, em_fixed_weak=fixed, em_adapt_weak=[30.0, 31.2, 31.9])), ADAPT)
    assert (clear.verdict, clear.seeds, clear.margin) == ("holds", 3, "+10.0 ± 0.2")
    t = 15.1 / 3 / (math.sqrt(0.07 / 3) / math.sqrt(3))  # of 5.0, 5.2 and 4.9 points more than asked
    assert clear.p == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-6)  # with two degrees of freedom
    # The mean is 6 points apart, one more than asked, and the seeds do not agree.
    vague = one(find(finished, changed(metrics, em_fixed_weak=fixed, em_adapt_weak=[24.0, 27.0, 30.0])), ADAPT)
    assert (vague.verdict, vague.margin, vague.test) == ("not decided", "+6.0 ± 2.0", "p = 0.478 (3)")
    broken = one(find(finished, changed(metrics, em_fixed_weak=fixed, em_adapt_weak=[20.0, 21.1, 21.9])), ADAPT)
    assert broken.verdict == "fails" and broken.p < 0.001


def test_means_are_those_of_common_seeds_where_there_are_several(finished, metrics):
    shown = one(find(finished, changed(metrics, em_fixed_weak=[20.0, 21.0], em_adapt_weak=[30.0, 31.0, 99.0])), ADAPT)
    assert (shown.seeds, shown.ours, shown.verdict) == (2, "30.5 vs 20.5", "holds")


def test_the_pair_that_decides_is_shown(finished, metrics):
    both = {"em_fixed_semi_200": [45.0, 46.0, 47.0], "em_adapt_weak": [39.0, 46.0, 49.0]}
    shown = one(find(finished, changed(metrics, **both)), SEMI)
    assert shown.verdict == "not decided" and shown.pair == "EM-Fixed (Semi) 200+10,382 against EM-Adapt (Weak)"
    # A pair that fails decides, however close the other is.
    shown = one(find(finished, changed(metrics, **both, em_fixed_semi_500=30.0)), SEMI)
    assert shown.verdict == "fails" and shown.lines == "em_fixed_semi_500 em_adapt_weak"


def test_the_rule():
    assert judge([0.5], strict=True)[0] == "holds" and math.isnan(judge([0.5], strict=True)[1])
    assert judge([0.0], strict=True)[0] == "fails" and judge([0.0], strict=False)[0] == "holds"
    assert judge([2.0, 2.0], strict=True) == ("holds", 0.0) and judge([-2.0, -2.0], strict=True) == ("fails", 0.0)
    assert judge([0.0, 0.0], strict=True) == ("fails", 1.0)
    assert judge([1.0, 3.0], strict=True)[0] == "not decided"
    # Where many seeds agree on the sign of a mean that is smaller than their spread, it is known.
    assert judge([-1.0, 3.0] * 12, strict=True)[0] == "holds"


def test_one_seed_does_not_decide_a_difference_of_less_than_a_point(monkeypatch):
    assert UNTESTED == 1
    monkeypatch.setattr(findings, "UNTESTED", UNTESTED)
    verdicts = {value: judge([value], strict=True)[0] for value in (-1.0, -0.9, 0.0, 0.9, 1.0)}
    assert list(verdicts.values()) == ["fails", "not decided", "not decided", "not decided", "holds"]


@pytest.fixture
def of_second(second):
    """Findings of Table 5, with the figures of some runs replaced."""
    metrics = read_metrics(second)

    def found(**runs):
        return {f.claim: f for f in find(second, changed(metrics, **runs)) if f.table == "table5"}

    return found


def test_findings_of_a_second_data_set(of_second):
    found = of_second()
    assert list(found) == OF_TABLE5 and {f.verdict for f in found.values()} == {"holds"}
    assert [f.paper for f in found.values()] == [
        "67.7 vs 67.6", "70.0 vs 68.7", "70.0 vs 67.6", "71.0 vs 67.6", "71.7 vs 71.0",
    ]  # fmt: skip
    assert [f.lines for f in found.values()] == [
        "coco_em_fixed_semi strong_10582", "coco_cross_joint_semi coco_cross_joint_5000",
        "coco_cross_joint_semi strong_10582", "coco_cross_pretrain strong_10582",
        "coco_cross_joint coco_cross_pretrain",
    ]  # fmt: skip
    assert found[COCO_LITTLE].asked == "≤ 1" and found[COCO_LITTLE].margin == "+0.5"


@pytest.mark.parametrize(
    ("runs", "broken"),
    [
        ({"coco_em_fixed_semi": 56.0}, set()),  # a point is no more than a point
        ({"coco_em_fixed_semi": 56.1}, {COCO_LITTLE}),
        ({"coco_em_fixed_semi": 40.0}, set()),  # to add nothing, or to harm, is to add little
        ({"coco_cross_joint_5000": 58.0}, {COCO_5000}),
        ({"coco_cross_joint_semi": 54.9}, {COCO_SEMI, COCO_5000}),
        ({"coco_cross_pretrain": 55.0}, {COCO_ALL}),
        ({"coco_cross_joint": 54.0}, {COCO_ALL, COCO_JOINT}),
        ({"coco_cross_joint": 59.0}, {COCO_JOINT}),
        ({"coco_alone": 90.0}, set()),  # a variant takes no part
    ],
)
def test_what_breaks_a_finding_of_a_second_data_set(of_second, runs, broken):
    assert {f.claim for f in of_second(**runs).values() if f.verdict == "fails"} == broken


def test_findings_of_a_second_data_set_need_both_lines(second):
    metrics = read_metrics(second)

    def found(*ids):
        rows = [row for row in second.experiments if row.id in ids]
        part = StudyResults(second.study, rows, second.paths, second.config_dir)
        kept = metrics[metrics["experiment"].isin(ids)]
        return [f.claim for f in find(part, kept) if f.table == "table5"]

    assert found("strong_10582") == []
    assert found("coco_cross_joint_semi", "coco_cross_joint_5000") == [COCO_5000]
    assert found("strong_10582", "coco_cross_joint") == [COCO_ALL]


def test_lines_that_were_never_published_take_no_part(with_own):
    # The line of one's own would be the worst with all pixel labels, and lose with the CRF.
    found = find(with_own, read_metrics(with_own))
    assert {f.table for f in found} == {"table1", "table3"} and {f.verdict for f in found} == {"holds"}


def test_findings_of_lines_that_were_not_run_are_left_out(finished, metrics):
    def found(*ids):
        rows = [row for row in finished.experiments if row.id in ids]
        part = StudyResults(finished.study, rows, finished.paths, finished.config_dir)
        return [(f.table, f.claim) for f in find(part, metrics[metrics["experiment"].isin(ids)])]

    assert found("em_adapt_weak", "strong_1464") == [("table1", CRF), ("table3", CRF)]
    assert found("em_adapt_weak", "bbox_rect_weak") == [("table1", CRF), ("table3", TAGS), ("table3", CRF)]
    assert found("em_fixed_weak") == []


def test_thresholds_say_whose_they_are(finished, metrics):
    for finding in find(finished, metrics):
        numbers = finding.asked != "> 0"
        assert bool(finding.threshold) == numbers
        assert not numbers or "this project's" in finding.threshold


def test_the_file_holds_them_all(finished):
    written = write_findings(finished.study, finished.paths, finished.config_dir)
    assert [f.claim for f in read_findings(finished.paths)] == [f.claim for f in written]
    for before, after in zip(written, read_findings(finished.paths), strict=True):
        assert (before.ours, before.test, before.margin, before.threshold) == (
            after.ours, after.test, after.margin, after.threshold,
        )  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [("", "not a CSV"), ("a,b\n1,2\n", "not the columns"), (None, "no such")])
def test_a_file_that_cannot_be_used(tmp_path, finished, text, said):
    paths = type(finished.paths)("fabricated", tmp_path)
    if text is not None:
        paths.findings.parent.mkdir(parents=True)
        paths.findings.write_text(text)
    with pytest.raises(WeaksegError, match=f"findings.csv: {said}.*snakemake"):
        read_findings(paths)


def test_the_terminal_shows_what_fails(finished, metrics):
    found = find(
        finished, changed(metrics, em_fixed_weak=30.0, bbox_seg_semi=[46.0, 52.0], bbox_rect_semi=[46.0, 47.0])
    )
    assert tally(found) == "14 of 17 findings hold, 2 fail, 1 not decided"
    text = terminal_table("mine", found)
    assert text.startswith("What the paper found, in study mine: 14 of 17 findings hold")
    lines = text.splitlines()
    failed = [line.split("  ")[-1].strip() for line in lines if line.startswith("FAILS")]
    assert failed == [ADAPT, SEG_NEAR]
    assert any(line.startswith("NOT DECIDED") and "p = 0." in line and line.endswith(SEG_SEMI) for line in lines)
    # Every claim begins in the same column.
    places = {line.index(f.claim) for f in found for line in lines if line.endswith(f"  {f.claim}")}
    assert len(places) == 1
    assert "no finding" in terminal_table("mine", [])
