"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SLOW_FILES = (
    "test_workflow.py", "test_voc_study.py", "test_inputs.py", "test_loop.py", "test_weak_only.py",
    "test_distributed.py", "test_snapshots.py", "test_start.py", "test_notebooks.py", "test_index.py",
    "test_mean_field.py",
)  # fmt: skip
"""Files whose tests take longest: they come first, so that no core waits at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the slow files first, each file's together."""
    order = {name: position for position, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_root() -> Path:
    """The folder of real photos and ImageNet weights: WEAKSEG_DATA_ROOT, or `shared` beside the checkout."""
    root = Path(os.environ.get("WEAKSEG_DATA_ROOT", PROJECT.parent / "shared"))
    if not (root / "data" / "voc2012-subset").is_dir():
        pytest.skip(f"no real photos at {root}: set WEAKSEG_DATA_ROOT to a folder that holds data/ and weights/")
    return root
