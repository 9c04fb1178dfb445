"""A reporter that keeps what a workflow says."""

from __future__ import annotations

from deflow_cli.runtime.progress import Silent


class Listener(Silent):
    """Keeps notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
