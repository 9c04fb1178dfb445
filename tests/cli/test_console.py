"""Console reporter: few lines without a terminal, no markup in names, JSON that any parser takes."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from deflow_cli.cli.console import ConsoleReporter, format_rate, format_seconds, plain
from deflow_cli.runtime.progress import Reporter, Silent


def _reporter(times: list[float], terminal: bool = False) -> tuple[ConsoleReporter, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120)
    return ConsoleReporter(console, clock=lambda: times[0]), stream


def test_plain_lines_are_rate_limited():
    times = [0.0]
    reporter, stream = _reporter(times)
    reporter.start("training", 1000)
    for step in range(1, 1001):
        times[0] = step * 0.1
        reporter.update(step, loss=1 / step)
    reporter.finish()
    lines = stream.getvalue().splitlines()
    # 100 seconds, a line each 30 of them, and the last.
    assert len(lines) == 4
    assert lines[0] == "training: 300/1000 loss=0.003333 (30 s, 10 a second, 1:10 left)"
    assert lines[-1] == "training: 1000/1000 loss=0.001 (1:40)"


def test_notes_keep_brackets_and_stay_one_line():
    reporter, stream = _reporter([0.0])
    reporter.note("[red]odd[/red] " + "long " * 60)
    reporter.warn("[1].png is small")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[red]odd[/red] long")
    assert lines[1] == "warning: [1].png is small"


def test_bar_is_closed_by_an_error():
    reporter, stream = _reporter([0.0], terminal=True)

    def fail() -> None:
        with reporter:
            reporter.start("training", 10)
            reporter.update(3, loss=0.5)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    shown = stream.getvalue()
    assert "training" in shown
    # The cursor, hidden while a bar lives, is shown again.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_second_task_ends_the_first_and_finish_is_idle_after():
    reporter, stream = _reporter([0.0])
    reporter.start("one", None)
    reporter.start("two", 2)
    reporter.finish()
    reporter.finish()
    assert stream.getvalue().splitlines() == ["one: done (0 s)", "two: done (0 s)"]


def test_both_reporters_keep_the_protocol(capsys):
    console, stream = _reporter([0.0])
    reporters: list[Reporter] = [Silent(), console]
    for reporter in reporters:
        reporter.note("a")
        reporter.warn("b")
        reporter.start("c", None)
        reporter.update(1, loss=0.5)
        reporter.finish()
    assert stream.getvalue().splitlines() == ["a", "warning: b", "c: 1 loss=0.5 (0 s)"]
    assert capsys.readouterr() == ("", "")


def test_plain_records():
    record = plain({"path": Path("a"), "nan": float("nan"), "pair": (1, 2.5), "on": True})
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "path": "a",
        "nan": None,
        "pair": [1, 2.5],
        "on": True,
    }


def test_rates():
    shown = [format_rate(done, seconds) for done, seconds in ((25, 2), (2, 5), (0, 5), (3, 0))]
    assert shown == ["12.5 a second", "2.5 s each", "", ""]


def test_bar_has_the_rate_and_the_time_left():
    reporter, stream = _reporter([0.0], terminal=True)
    with reporter:
        reporter.start("training", 4)
        for step in range(1, 4):
            time.sleep(0.02)
            reporter.update(step)
            reporter._progress.refresh()
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue())
    assert re.search(r"3/4 \S+ \S+ +[\d.]+ (a second|s each)", shown), shown


@pytest.mark.parametrize("width", [20, 40])
def test_no_color_and_narrow_terminals(monkeypatch, width):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    reporter = ConsoleReporter(Console(file=stream, force_terminal=True, width=width))
    with reporter:
        reporter.warn("odd")
        reporter.start("training", 10)
        reporter.update(3, loss=0.5)
        reporter._progress.refresh()
    colours = re.findall(r"\x1b\[[\d;]*m", stream.getvalue())
    assert not [code for code in colours if re.search(r"\b(3|4|9|10)\d\b", code)]
    assert all(
        len(re.sub(r"\x1b\[[\d;?]*\w", "", line)) <= width for line in re.split(r"[\r\n]", stream.getvalue())
    )


def test_seconds():
    assert [format_seconds(s) for s in (4.4, 187, 7500)] == ["4 s", "3:07", "2:05:00"]
