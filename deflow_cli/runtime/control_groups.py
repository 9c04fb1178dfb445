"""Control groups of Linux: the memory that a container, SLURM or systemd leaves to a process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Version:
    """Where a version mounts its groups, and the names of its files.

    cache: of memory.stat, file pages that are given back where memory is wanted.
    """

    mounts: tuple[str, ...]
    limit: str
    used: str
    cache: str


_FIRST = _Version(
    ("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_SECOND = _Version(
    ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"
)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that the groups of this process, and those around them, leave to it; None without a limit.

    root: where /proc and /sys lie.
    """
    left = [_left(folder, version) for version, folder in _groups(root)]
    return min((amount for amount in left if amount is not None), default=None)


def _groups(root: Path) -> Iterator[tuple[_Version, Path]]:
    """The folders of this process's groups and of all around them, up to the mount."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _FIRST if controllers else _SECOND
        parts = Path(name.lstrip("/")).parts
        # A name with ".." is of a group outside a container's view, which sees its own as the mount.
        inside = () if ".." in parts else parts
        for mount in version.mounts:
            for depth in range(len(inside), -1, -1):
                yield version, root.joinpath(mount, *inside[:depth])


def _left(folder: Path, version: _Version) -> int | None:
    try:
        limit = int((folder / version.limit).read_text(encoding="ascii"))
        used = int((folder / version.used).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max"
        return None
    return max(limit - used + _cache(folder / "memory.stat", version.cache), 1)


def _cache(path: Path, name: str) -> int:
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
