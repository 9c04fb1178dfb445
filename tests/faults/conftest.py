"""Small inputs of every command, made once for a file's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.inputs import write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``clean``, ``noisy``, ``pairs``, two models, and the presets of small networks."""
    return write_inputs(tmp_path_factory.mktemp("inputs"))
