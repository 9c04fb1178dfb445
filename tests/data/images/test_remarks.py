"""Remarks: each once, the first few of a kind named, the others counted, from any thread."""

import logging
import threading
from pathlib import Path

import pytest

from deflow_cli.data.images.remarks import hears_remarks, remark, remarks_to


def test_each_once_and_many_are_counted() -> None:
    said: list[str] = []
    with remarks_to(said.append):
        for _ in range(2):
            for number in range(6):
                remark(f"has {number} frames", Path(f"{number}.gif"), "have several frames")
            remark("JPEG is lossy")
        inner: list[str] = []
        with remarks_to(inner.append):
            remark("JPEG is lossy")
        thread = threading.Thread(target=remark, args=("from a thread",))
        thread.start()
        thread.join()
    assert inner == ["JPEG is lossy"]
    assert said == [
        *(f"{number}.gif: has {number} frames" for number in range(3)),
        "JPEG is lossy",
        "from a thread",
        "3 more files: have several frames",
    ]


def test_without_a_listener_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deflow"):
        remark("is odd", Path("a.png"))
    assert caplog.messages == ["a.png: is odd"]


class Reporter:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def test_a_workflow_tells_its_reporter(caplog: pytest.LogCaptureFixture) -> None:
    @hears_remarks
    def work(what: str, reporter: Reporter | None = None) -> str:
        remark(what)
        return what.upper()

    first, second = Reporter(), Reporter()
    assert work("a", first) == "A"
    work("b", reporter=second)
    assert (first.said, second.said) == (["a"], ["b"])
    work("c")
    assert caplog.messages == ["c"]
