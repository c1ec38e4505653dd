"""Fixtures of the trainings."""

from pathlib import Path

import pytest
import torch
from fabricate import write_voc, write_voc_boxes


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Equal to the bit is promised for one number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with masks and XML boxes that no test changes."""
    return write_voc_boxes(write_voc(tmp_path_factory.mktemp("voc") / "VOC2012"))


@pytest.fixture
def own_voc(tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return write_voc_boxes(write_voc(tmp_path / "VOC2012"))
