"""Miniature: laid out as the archives, the same bytes for the same seed, and never over other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.resize import downsample
from deflow_cli.errors import DataError
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.layouts import find_layout
from deflow_cli.workflows.reproduce.miniature import degraded, write_miniature


@pytest.mark.parametrize("name", ["ntire", "dped"])
def test_every_experiment_has_one(tmp_path: Path, name: str) -> None:
    write_miniature(tmp_path / "data", EXPERIMENTS[name])
    layout = find_layout(tmp_path / "data", EXPERIMENTS[name])
    assert layout.missing == ()
    stems = {role: {path.stem for path in part.images} for role, part in layout.parts.items()}
    assert stems["noisy"].isdisjoint(stems["valid_input"])
    assert ("clean" in stems) == (name == "ntire")
    with pytest.raises(DataError, match="holds something already"):
        write_miniature(tmp_path / "data", EXPERIMENTS[name])


def test_inputs_are_truths_made_small_and_degraded(aim_data: Path) -> None:
    parts = find_layout(aim_data, EXPERIMENTS["aim"]).parts
    truth, given = parts["valid_truth"].images[0], parts["valid_input"].images[0]
    small = downsample(read_rgb8(truth), 4, "deflow")
    assert np.array_equal(read_rgb8(given), degraded(small, given.name, 0))
    assert not np.array_equal(degraded(small, given.name, 1), degraded(small, given.name, 0))
    residual = read_rgb8(given).astype(float) - small
    assert 5 < residual.std() < 30
