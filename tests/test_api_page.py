"""The page on the Python API: its examples run as they are written, and it leaves out no public name."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch

import deflow_cli
from tests.example_folder import lay_out_examples

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 30
    assert result.failed == 0


def test_every_public_name_is_on_the_page() -> None:
    named = set(re.findall(r"\w+", PAGE.read_text(encoding="utf-8")))
    assert set(deflow_cli.__all__) - {"__version__"} <= named
