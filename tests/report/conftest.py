"""A finished study, made once for the room's tests."""

import json
import shutil

import pytest

from report.tree import add_second, make_tree


@pytest.fixture(scope="session", autouse=True)
def any_margin_decides():
    """Fabricated figures lie closer together than one seed can tell apart."""
    from weakseg.report import findings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "UNTESTED", 0.0)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory, project_root):
    """Results of a fabricated study with its tables and findings; tests do not change it."""
    from weakseg.report.findings import write_findings
    from weakseg.report.tables import write_table

    results = make_tree(tmp_path_factory.mktemp("finished"), project_root)
    for table in results.tables:
        write_table(results.study, results.paths, results.config_dir, table)
    write_findings(results.study, results.paths, results.config_dir)
    return results


@pytest.fixture(scope="session")
def second(finished, tmp_path_factory, project_root):
    """The finished study with the lines of Tables 2, 4, 5 and 6, its tables and findings; tests do not change it."""
    from weakseg.report.findings import write_findings
    from weakseg.report.tables import write_table

    results = add_second(finished, tmp_path_factory.mktemp("second"), project_root)
    for table in results.tables:
        write_table(results.study, results.paths, results.config_dir, table)
    write_findings(results.study, results.paths, results.config_dir)
    return results


@pytest.fixture
def with_own(finished, tmp_path):
    """The finished study with an experiment that the paper lacks: line 1 of the table `own`, line 11 of table1.

    It sees every training image with pixel labels, like the paper's best line, and is worse than all others.
    """
    from weakseg.report.results import StudyResults
    from weakseg.report.tables import build_table

    strong = next(row for row in finished.experiments if row.id == "strong_10582")
    changes = {"id": "mine", "title": "Mine", "table": "own", "line": 1, "also": {"table1": 11}}
    paths = type(finished.paths)("fabricated", tmp_path)
    ignored = shutil.ignore_patterns("labels", "labels_dcnn")
    shutil.copytree(finished.paths.root, paths.root, ignore=ignored)
    shutil.copytree(paths.run("strong_10582", 0).root, paths.run("mine", 0).root)
    metrics = json.loads(paths.run("mine", 0).metrics.read_text())
    metrics |= {"experiment": "mine", "crf": {"val": {"iou": 5}, "untuned_val": {"iou": 4}}}
    paths.run("mine", 0).metrics.write_text(json.dumps(metrics))
    rows = [*finished.experiments, strong.model_copy(update=changes)]
    results = StudyResults(finished.study, rows, paths, finished.config_dir)
    for table in results.tables:
        build_table(results, table).to_csv(paths.table(table), index=False)
    return results
