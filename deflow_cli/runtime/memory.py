"""Memory: how much of it a device has left, as far as the machine tells."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from deflow_cli.runtime.control_groups import memory_left

if sys.platform != "win32":
    import resource

UNKNOWN = 2 << 30  # bytes, where nothing tells


def available_memory(device: torch.device) -> int:
    """Bytes that can still be taken: free on a CUDA device; else of the machine, container and ulimit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    amounts = [_machine(), _limit(), memory_left()]
    return min([amount for amount in amounts if amount], default=UNKNOWN)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return None
    except (OSError, ValueError, IndexError):
        pass
    try:  # elsewhere than on Linux the total is all that is told
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _limit() -> int | None:
    """What a limit on address space (``ulimit -v``) leaves to this process."""
    if sys.platform == "win32":
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return most
    return max(most - pages * os.sysconf("SC_PAGE_SIZE"), 1)
