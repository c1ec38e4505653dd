"""How much memory can be had: what the machine has free, or what a container's limit leaves, whichever is less."""

import sys
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
"""Where Linux shows its control groups."""


def free_memory(root: Path = ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of memory that can be had now.

    Args:
        root: where the control groups are shown (both versions).
        membership: says to which groups this process belongs.
    """
    left = [psutil.virtual_memory().available]
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return left[0]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            left.append(_left(root, path, "memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left.append(_left(root / "memory", path, *names))
    return min(left)


def _left(root: Path, path: str, limit: str, used: str, reclaimable: str) -> int:
    """What a group and those above it leave; a group without a limit, or that is not shown, leaves all."""
    left = [sys.maxsize]
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            break
        try:
            most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
            words = (folder / "memory.stat").read_text().split()
            cache = int(words[words.index(reclaimable) + 1]) if reclaimable in words else 0
            left.append(max(most - taken + cache, 0))
        except (OSError, ValueError):  # not shown here, or "max"
            continue
    return min(left)
