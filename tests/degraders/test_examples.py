"""The examples in the docstrings of degraders do what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "degraders.base",
        "degraders.choice",
        "degraders.registry",
        "degraders.noise.patches",
        "degraders.noise.spectral",
        "degraders.noise.white",
        "data.folder_sample",
    ],
)
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"deflow_cli.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
