"""Memory that can be had, with made-up files of control groups."""

import psutil
import pytest

from weakseg.memory import free_memory

MACHINE = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": MACHINE}))


def version_two(folder, limit, used, cache=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\nfile 999\nactive_file 3\ninactive_file {cache}\n")


def version_one(folder, limit, used, cache=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 999\ninactive_file 1\ntotal_inactive_file {cache}\n")


def free(root, text):
    (root / "cgroup").write_text(text)
    return free_memory(root / "shown", root / "cgroup")


def test_a_limit_of_version_two(tmp_path):
    version_two(tmp_path / "shown" / "user" / "me", 5000, 2000, cache=300)  # the system takes its file cache back
    assert free(tmp_path, "0::/user/me\n") == 3300
    version_two(tmp_path / "shown" / "user" / "me", 5000, 6000)
    assert free(tmp_path, "0::/user/me\n") == 0


def test_a_limit_of_version_one(tmp_path):
    version_one(tmp_path / "shown" / "memory" / "box", 5000, 2000, cache=300)
    version_one(tmp_path / "shown" / "box", 10, 5)  # not that of the memory controller
    assert free(tmp_path, "9:cpu,cpuacct:/other\n4:hugetlb,memory:/box\n1:name=systemd:/x\n") == 3300
    assert free(tmp_path, "9:cpu:/box\n") == MACHINE


def test_the_tightest_of_nested_groups_decides(tmp_path):
    shown = tmp_path / "shown"
    version_two(shown / "a" / "b", "max", 10)
    assert free(tmp_path, "0::/a/b\n") == MACHINE
    version_two(shown / "a", 5000, 1000)
    assert free(tmp_path, "0::/a/b\n") == 4000
    version_two(shown / "a" / "b", 8000, 1000)
    assert free(tmp_path, "0::/a/b\n") == 4000
    version_two(shown, 2000, 1500)
    assert free(tmp_path, "0::/a/b\n") == 500


def test_groups_that_are_not_shown_leave_it_to_those_above(tmp_path):
    """Within a container the path is often that of the host, and only the container's own group is shown."""
    version_two(tmp_path / "shown", 5000, 1000)
    version_two(tmp_path, 7, 0)  # outside of what shows groups
    assert free(tmp_path, "0::/host/slice/container\n") == 4000
    version_one(tmp_path / "shown" / "memory", 3000, 1000)
    assert free(tmp_path, "0::/gone\n4:memory:/gone\n") == 2000


def test_the_machine_decides_where_limits_are_larger_or_unknown(tmp_path):
    version_two(tmp_path / "shown" / "a", 2**63, 1)
    assert free(tmp_path, "0::/a\n") == MACHINE
    assert free_memory(tmp_path / "shown", tmp_path / "no such file") == MACHINE
