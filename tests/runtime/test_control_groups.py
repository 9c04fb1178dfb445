"""The memory that control groups leave, by files as the kernel shows them."""

import os
from pathlib import Path

import pytest

from deflow_cli.runtime.control_groups import memory_left

MB = 1 << 20


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_the_first_version_counts_the_groups_around(tmp_path: Path) -> None:
    memory = "sys/fs/cgroup/memory"
    files: dict[str, object] = {
        "proc/self/cgroup": "5:cpu:/\n4:hugetlb,memory:/slurm/job_7/step_0\n0::/",
        f"{memory}/memory.limit_in_bytes": 2**63 - 4096,
        f"{memory}/memory.usage_in_bytes": 9000 * MB,
        f"{memory}/slurm/job_7/memory.limit_in_bytes": 900 * MB,
        f"{memory}/slurm/job_7/memory.usage_in_bytes": 500 * MB,
        f"{memory}/slurm/job_7/memory.stat": f"inactive_file {MB}\ntotal_inactive_file {100 * MB}",
        f"{memory}/slurm/job_7/step_0/memory.limit_in_bytes": 2000 * MB,
        f"{memory}/slurm/job_7/step_0/memory.usage_in_bytes": 500 * MB,
    }
    assert memory_left(write(tmp_path, files)) == 500 * MB


def test_the_second_version_within_a_container_and_in_a_slice(tmp_path: Path) -> None:
    limits: dict[str, object] = {
        "sys/fs/cgroup/memory.max": 800 * MB,
        "sys/fs/cgroup/memory.current": 300 * MB,
        "sys/fs/cgroup/user.slice/run.scope/memory.max": 700 * MB,
        "sys/fs/cgroup/user.slice/run.scope/memory.current": 690 * MB,
        "sys/fs/cgroup/user.slice/run.scope/memory.stat": f"file 9\ninactive_file {2 * MB}",
        "sys/fs/cgroup/user.slice/memory.max": "max",
        "sys/fs/cgroup/user.slice/memory.current": 690 * MB,
    }
    write(tmp_path, limits)
    for group, left in (("/", 500), ("/user.slice/run.scope", 12), ("/../../init.scope", 500)):
        assert memory_left(write(tmp_path, {"proc/self/cgroup": f"0::{group}"})) == left * MB


def test_without_a_limit_nothing_is_said(tmp_path: Path) -> None:
    assert memory_left(tmp_path) is None
    files = {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "max"}
    assert memory_left(write(tmp_path, dict(files))) is None


def test_a_group_of_this_machine(tmp_path: Path) -> None:
    """A real group, where this process may make one (as root, with the first version mounted)."""
    mount = Path("/sys/fs/cgroup/memory")
    group = mount / f"deflow-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control groups can be made here")
    try:
        (group / "memory.limit_in_bytes").write_text(str(777 * MB))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (group / "tasks").write_text(str(os.getpid()))
                left = memory_left()
                code = 0 if left is not None and 700 * MB < left <= 777 * MB else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        group.rmdir()
