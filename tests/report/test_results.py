"""Readers of result files, and the rule that chooses pictures."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.tree import write_manifest
from weakseg.data.dataset import open_data
from weakseg.errors import WeaksegError
from weakseg.labels import LabelSet
from weakseg.report.crf import winners
from weakseg.report.notes import conventions
from weakseg.report.paper import PaperSetting
from weakseg.report.pictures import choose_images, image_ious, reference_run, representatives
from weakseg.report.results import (
    StudyResults,
    data_counts,
    experiment_label,
    open_results,
    read_confusion,
    read_grids,
    read_logs,
    read_per_class,
)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([(1,), (2,), (1, 2)])), min_size=1, max_size=14),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_chosen_images_obey_the_rule(rows, count, random):
    ious = pd.DataFrame(
        {"iou": [float(value) for value, _ in rows], "classes": [classes for _, classes in rows]},
        index=[f"{n:02d}" for n in range(len(rows))],
    )
    typical, failures = choose_images(ious, count)
    chosen = min(count, len(rows))
    assert len(typical) == chosen - chosen // 2
    assert len(failures) == chosen // 2
    assert not set(typical) & set(failures)
    for ids in (typical, failures):
        values = list(ious.loc[ids, "iou"])
        assert values == sorted(values, reverse=True)
    # Of the images with the classes of a failure, no lower one is left.
    for name in failures:
        fellows = ious[(ious["classes"] == ious.at[name, "classes"]) & ~ious.index.isin([*typical, *failures])]
        assert (fellows["iou"] >= ious.at[name, "iou"]).all()
    order = list(ious.index)
    random.shuffle(order)
    assert choose_images(ious.loc[order], count) == (typical, failures)


def test_chosen_images_by_hand():
    ious = pd.DataFrame(
        {"iou": [90.0, 80, 50, 49, 48, 20, 10], "classes": [(1,), (2,), (3,), (3,), (4,), (5,), (5,)]},
        index=list("abcdefg"),
    )
    # Middle of seven is d; c has its classes, so e is taken; the worst is g, and f, with its classes, waits for b.
    assert choose_images(ious, 4) == (["d", "e"], ["c", "g"])


def test_held_out_images_are_not_ranked(finished):
    ious = image_ious(finished, "em_adapt_weak", 0, crf=True)
    assert len(ious) == 11
    assert not set(ious.index) & set(open_data(finished.paths.manifest).ids("held_out"))
    # The fabricated maps err by leaving out columns at the left, EM-Fixed more than EM-Adapt.
    worse = image_ious(finished, "em_fixed_weak", 0, crf=True)
    assert (worse["iou"] <= ious["iou"]).all()
    assert (worse["iou"] < ious["iou"]).any()


def test_logs_are_means_over_blocks(finished):
    logs = read_logs(finished, points=100)
    run = logs[(logs["experiment"] == "em_adapt_weak") & (logs["seed"] == 1)]
    raw = pd.read_csv(finished.paths.run("em_adapt_weak", 1).train_log)
    assert len(run) == 90  # 450 iterations in blocks of 5
    assert run["loss"].iloc[3] == pytest.approx(raw["loss"].iloc[15:20].mean())
    assert run["iteration"].iloc[0] == 2
    assert set(run["kind"]) == {"weak"}
    assert logs[logs["experiment"] == "strong_1464"]["background_share"].isna().all()


def test_frames_have_a_block_a_run(finished):
    runs = len(finished.runs())
    assert runs == 20
    assert len(read_per_class(finished)) == 21 * runs
    assert len(read_grids(finished)) == 12 * runs


@pytest.mark.parametrize("name", ["per_class", "crf_grid", "train_log"])
def test_missing_file_is_named(finished, tmp_path, name):
    paths = type(finished.paths)("fabricated", tmp_path)
    empty = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    reader = {"per_class": read_per_class, "crf_grid": read_grids, "train_log": read_logs}[name]
    with pytest.raises(WeaksegError, match=f"{name}.csv: no such file; make the run with `snakemake"):
        reader(empty)


def test_winners_on_the_border(finished):
    row = winners(finished).iloc[0]
    # The best of the fabricated grid: w 10 of 5 and 10, sigma_xy 70 of 50 and 70, sigma_rgb 5 of 3, 5 and 9.
    assert (row["w"], row["sigma_xy"], row["sigma_rgb"]) == ("10", "70", "5")
    assert row["on the border"] == "w, sigma_xy"
    assert (row["without CRF"], row["with CRF"], row["gain"]) == ("17.0", "20.0", "+3.0")


def test_representatives_are_those_with_most_labels(finished):
    names = [row.id for row in representatives(finished, "table1")]
    assert names == ["em_fixed_weak", "em_adapt_weak", "em_fixed_semi_1464_9118", "strong_10582"]
    assert reference_run(finished)["experiment"] == "strong_10582"


def test_pictures_are_chosen_by_a_run_on_val(second):
    # The best run of all is one of the test stage, which has no labels of val.
    assert reference_run(second)["experiment"] == "coco_cross_joint"


def test_labels_of_experiments_tell_them_apart(second):
    labels = {row.id: experiment_label(row) for row in second.experiments}
    assert len(set(labels.values())) == len(labels)
    assert {name: labels[name] for name in ("em_fixed_semi_200", "em_adapt_weak_largefov", "strong_10582")} == {
        "em_fixed_semi_200": "EM-Fixed (Semi) 200+10,382",
        "em_adapt_weak_largefov": "EM-Adapt (Weak), large FOV",
        "strong_10582": "Strong 10,582",
    }
    # Of lines with another data set the images of that one are counted, as in the paper's Table 5.
    assert labels["coco_em_fixed_semi"] == "EM-Fixed (Semi) 123,287 of coco"
    assert labels["coco_cross_joint_semi"] == "Cross-Joint (Semi) 5,000+118,287 of coco"
    assert labels["coco_alone"] == "Cross-Pretrain (Strong) 123,287 of coco, before VOC"
    assert labels["coco_cross_joint_test"] == "Cross-Joint (Strong) 123,287 of coco, test list"
    assert labels["em_adapt_weak_test"] == "EM-Adapt (Weak), test list"


def test_confusion_of_other_classes(finished, tmp_path):
    paths = type(finished.paths)("fabricated", tmp_path)
    broken = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    with pytest.raises(WeaksegError, match="no such file"):
        read_confusion(broken, "strong_1464", 0)
    path = paths.run("strong_1464", 0).confusion(crf=True)
    path.parent.mkdir(parents=True)
    path.write_text("truth,a\na,1\n")
    write_manifest(paths)
    with pytest.raises(WeaksegError, match="not a matrix of the 21 classes"):
        read_confusion(broken, "strong_1464", 0)
    assert read_confusion(finished, "strong_1464", 0).to_numpy().trace() == 21 * 91


def test_labels_are_those_of_the_manifest(finished, tmp_path):
    own = LabelSet.of_classes("pets", ["cat", "dog"])
    paths = type(finished.paths)("fabricated", tmp_path)
    write_manifest(paths, own, training=2, evaluation=3)
    results = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    assert results.labels == own
    path = paths.run("strong_1464", 0).confusion(crf=True)
    path.parent.mkdir(parents=True)
    pd.DataFrame(np.eye(3, dtype=int), own.names, own.names).to_csv(path, index_label="truth")
    assert list(read_confusion(results, "strong_1464", 0)) == ["background", "cat", "dog"]
    assert "the mean over 3 classes" in " ".join(conventions(results))
    write_manifest(paths, {"names": 3})
    broken = StudyResults(finished.study, finished.experiments, paths, finished.config_dir)
    with pytest.raises(WeaksegError, match=r"manifest.json: not a manifest .*run `weakseg data`"):
        _ = broken.labels


def test_counts_are_those_of_the_manifest(finished):
    assert data_counts(finished) == {"pixel_labelled": 20, "training": 50, "evaluation": 12, "held_out": 1}


def test_weak_images_are_called_by_what_they_carry(finished):
    assert [finished.weak_word(table) for table in ("table1", "table3", "table2")] == ["weak", "boxes", "weak"]


def test_paper_s_own_setting(finished, tmp_path):
    setting = PaperSetting.read(finished.config_dir)
    assert setting.alpha == {0.2: 72.6, 0.4: 71.8, 0.6: 68.8, 0.8: 65.6}
    assert setting.crf_search is not None and setting.crf_search.size == 96
    assert (setting.training.iterations, setting.training.batch) == (6000, 30)
    (tmp_path / "paper.yaml").write_text("table1: []\n")
    assert PaperSetting.read(tmp_path) == PaperSetting()
    (tmp_path / "paper.yaml").write_text("alpha: {0.2: high}\n")
    with pytest.raises(WeaksegError, match=r"(?s)paper.yaml: .*alpha.0.2: .*number"):
        PaperSetting.read(tmp_path)
    (tmp_path / "paper.yaml").write_text("- 1\n")
    with pytest.raises(WeaksegError, match=r"paper.yaml: not a mapping"):
        PaperSetting.read(tmp_path)


def test_study_by_name(finished):
    opened = open_results("fabricated", finished.paths.results, finished.config_dir)
    assert opened.study == finished.study
    assert opened.paths == finished.paths


def test_a_page_names_at_once_what_it_lacks(finished):
    there, away = str(finished.paths.manifest), str(finished.paths.root / "no-such-file")
    where = ("fabricated", finished.paths.results, finished.config_dir)
    assert open_results(*where, [there]).study == finished.study
    with pytest.raises(WeaksegError, match="no-such-file; make what a page reads with `snakemake"):
        open_results(*where, [there, away])
