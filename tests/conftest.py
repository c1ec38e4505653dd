"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


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
