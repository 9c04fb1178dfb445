"""Console: progress on stderr, a live bar on a terminal, a few lines elsewhere; results on stdout."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from deflow_cli.cli.streams import can_show, visible
from deflow_cli.cli.tables import Column, TextTable, show_table
from deflow_cli.paths import HUB_SCHEME, is_hub_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task, TaskID

LINE_INTERVAL = 30.0  # seconds between progress lines where there is no terminal


def format_fields(fields: Mapping[str, float | int | str]) -> str:
    """``loss=1.235 rate=0.001``: fields beside a progress line."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in fields.items()
    )


def format_seconds(seconds: float) -> str:
    """``48 s``, ``3:07`` or ``2:05:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_rate(done: float, seconds: float) -> str:
    """``12 a second``, ``3.2 s each`` or, where nothing is known yet, nothing."""
    if done <= 0 or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:.3g} a second" if rate >= 1 else f"{1 / rate:.3g} s each"


class ConsoleReporter:
    """The reporter of the command line; a context manager, so that a live bar never outlives an error.

    console: where to write; stderr by default. clock: seconds, for tests.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._clock = clock
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._open = False
        self._title = ""
        self._total: int | None = None
        self._started = 0.0
        self._last_line = 0.0
        self._latest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def note(self, text: str) -> None:
        self._print(text)

    def warn(self, text: str) -> None:
        self._print(f"warning: {text}", style="yellow")

    def start(self, title: str, total: int | None) -> None:
        self.finish()
        self._open, self._title, self._total = True, title, total
        self._started = self._last_line = self._clock()
        self._latest = ""
        if self._console.is_terminal:
            self._progress = self._new_bar()
            self._progress.start()
            self._task = self._progress.add_task(title, total=total, fields="")

    def update(self, done: int, **fields: float | int | str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, fields=format_fields(fields))
            return
        of = f"/{self._total}" if self._total is not None else ""
        self._latest = f"{done}{of} {format_fields(fields)}".rstrip()
        now = self._clock()
        if now - self._last_line >= LINE_INTERVAL:
            self._last_line = now
            self._print(f"{self._title}: {self._latest} ({self._pace(done, now - self._started)})")

    def _pace(self, done: int, seconds: float) -> str:
        """Time gone, the rate, and the time that is left at this rate."""
        parts = [format_seconds(seconds), format_rate(done, seconds)]
        if self._total and done:
            parts.append(f"{format_seconds(seconds * (self._total - done) / done)} left")
        return ", ".join(part for part in parts if part)

    def finish(self) -> None:
        if not self._open:
            return
        if self._progress is None:
            elapsed = format_seconds(self._clock() - self._started)
            self._print(f"{self._title}: {self._latest or 'done'} ({elapsed})")
        self._close_bar()

    def _close_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._task, self._open = None, None, False

    def _new_bar(self) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            _rate_column(),
            TextColumn("{task.fields[fields]}", markup=False),
            console=self._console,
        )

    def _print(self, text: str, style: str | None = None) -> None:
        # File names may hold brackets, which rich would take for markup.
        self._console.print(visible(text), style=style, markup=False, highlight=False, soft_wrap=True)


def tell_failed(failed: Iterable[tuple[Path, str]]) -> None:
    """Name each file that failed, and why, on stderr; ends the program with 1 where there is one."""
    told = False
    for path, reason in failed:
        # A reason that names its file needs no second name.
        text = reason if str(path) in reason else f"{path}: {reason}"
        typer.echo(visible(f"failed: {text}"), err=True)
        told = True
    if told:
        raise typer.Exit(1)


def plain(value: Any) -> Any:
    """A record as what JSON can hold: dataclasses as objects, paths as texts, non-finite numbers as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _rate_column() -> ProgressColumn:
    """A column of a live bar with the rate of the last while."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(format_rate(speed, 1.0) if speed else "")

    return RateColumn()


def print_json(record: Any) -> None:
    """Print a record on stdout as one JSON document, with escapes where the stream lacks a character."""
    text = json.dumps(plain(record), indent=2, ensure_ascii=False)
    typer.echo(text if can_show(text) else json.dumps(plain(record), indent=2))


def print_tables(report: Mapping[str, Any], title: str) -> None:
    """Print a nested dictionary on stdout: its own values, then a table per inner dictionary or list."""
    from rich.console import Console

    console = Console()
    for heading, rows in _tables(plain(report), title):
        columns = [Column(style="cyan"), Column(wraps=True)]
        show_table(console, TextTable(heading, columns, list(rows), show_header=False))


def _tables(report: Mapping[str, Any], title: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Flatten nested dictionaries into (title, rows); inner titles are dotted by ` / `."""
    own: list[tuple[str, str]] = []
    inner: list[tuple[str, list[tuple[str, str]]]] = []
    for key, value in report.items():
        label = key.replace("_", " ")
        if isinstance(value, dict) and value:
            inner += _tables(value, f"{title} / {label}")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                inner += _tables(item, f"{title} / {label} {index}")
        else:
            own.append((label, _cell(value)))
    return ([(title, own)] if own else []) + inner


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "none"
    if value is None or value == {}:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def show_path(path: Path) -> str:
    """A path as short as it can be said from here; a name on the Hub as it is written."""
    if is_hub_name(path):
        return visible(HUB_SCHEME + path.as_posix().removeprefix("hf:").lstrip("/"))
    try:
        return visible(str(path.resolve().relative_to(Path.cwd())))
    except ValueError:
        return visible(str(path))
