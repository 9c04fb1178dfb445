"""Forking: processes of Python code that begin at once, since the server they come from has loaded torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

FORKING = multiprocessing.get_context("forkserver")  # one server for all tests of a worker
FORKING.set_forkserver_preload(
    [
        "deflow_cli.cli.main",
        "deflow_cli.workflows.api",
        "deflow_cli.workflows.demo",
        "deflow_cli.workflows.edit",
        "deflow_cli.workflows.export",
        "deflow_cli.workflows.realism.run",
        "deflow_cli.workflows.restorer.run",
        "deflow_cli.workflows.restorer.srflow.run",
        "deflow_cli.workflows.space.run",
        "rich.progress",
        "rich.table",
        "torch._dynamo",  # which optimisers import
    ]
)


class Forked:
    """Python code in a process of its own, with one torch thread; stdout and stderr are one text.

    environment: what the process has, in place of the environment of this one.
    """

    def __init__(self, script: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name, "output")
        self._output.touch()
        given = dict(os.environ if environment is None else environment)
        words = (script, [str(word) for word in arguments], given, str(self._output))
        self._process = FORKING.Process(target=_run, args=words)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Exit code; None while it runs; the negative number of the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        """Exit code, once it has ended. Raises AssertionError where that takes longer."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"still running: {self.output()}"
        return code

    def output(self) -> str:
        """What was printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._process.join()


def _run(script: str, arguments: list[str], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    opened = os.open(output, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(opened, descriptor)
    os.close(opened)
    import torch

    torch.set_num_threads(1)
    sys.argv = ["-c", *arguments]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
