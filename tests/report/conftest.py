"""A finished study, made once for the room's tests."""

import pytest

from report.tree import make_tree


@pytest.fixture(scope="session")
def finished(tmp_path_factory, project_root):
    """Results of a fabricated study with its tables; tests do not change it."""
    from weakseg.report.tables import write_table

    results = make_tree(tmp_path_factory.mktemp("finished"), project_root)
    for table in results.tables:
        write_table(results.study, results.paths, results.config_dir, table)
    return results
