"""Rank processes: a script started as the ranks of one training, with the variables that torchrun sets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.forking import Forked

REPOSITORY = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int = 0, size: int = 1, port: int = 0) -> dict[str, str]:
    """This process's environment with the place of a rank; with one rank, without any."""
    given = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    own = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    if size > 1:
        own |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return given | own


def start_ranks(size: int, script: str, *arguments: object) -> list[Forked]:
    """Run Python code in so many processes that can meet."""
    port = free_port()
    return [Forked(script, *arguments, environment=environment(rank, size, port)) for rank in range(size)]


def ends(processes: list[Forked], timeout: float = 300) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    try:
        return [(process.wait(timeout), process.output()) for process in processes]
    finally:
        for process in processes:
            process.kill()
