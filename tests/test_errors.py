"""Errors: a file's name put before a message."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

import deflow_cli.arrays
import deflow_cli.errors
from deflow_cli.errors import CheckpointError, DataError, DeflowError, naming


def test_naming_keeps_class_next_step_and_cause() -> None:
    inner = CheckpointError("is broken", next_step="copy it again")
    with pytest.raises(CheckpointError, match=r"^a/b\.pth: is broken$") as caught, naming(Path("a/b.pth")):
        raise inner
    assert caught.value.next_step == "copy it again"
    assert caught.value.__cause__ is inner


def test_naming_lets_others_pass() -> None:
    with pytest.raises(DataError, match=r"^x$"), naming("file", CheckpointError):
        raise DataError("x")
    with pytest.raises(DataError, match=r"^x$"), naming("file", DeflowError, but=(DataError,)):
        raise DataError("x")


@pytest.mark.parametrize("module", [deflow_cli.errors, deflow_cli.arrays])
def test_examples_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
