"""Progress: what a workflow tells about its work, whoever listens."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """A listener of workflows; they report and never print."""

    def note(self, text: str) -> None:
        """Say a fact or a choice made for the user, in one line."""

    def warn(self, text: str) -> None:
        """Say what the user should know and may want to change."""

    def start(self, title: str, total: int | None) -> None:
        """Begin a task of `total` units (None: unknown). A task still open is finished first."""

    def update(self, done: int, **fields: float | int | str) -> None:
        """`done` units of the open task are complete; `fields` are shown beside it, such as loss=1.2."""

    def finish(self) -> None:
        """End the open task; without one, nothing happens."""


class Silent:
    """A reporter that listens to nothing: for the Python API and for tests."""

    def note(self, text: str) -> None:
        return

    def warn(self, text: str) -> None:
        return

    def start(self, title: str, total: int | None) -> None:
        return

    def update(self, done: int, **fields: float | int | str) -> None:
        return

    def finish(self) -> None:
        return
