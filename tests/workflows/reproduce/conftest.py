"""A miniature challenge, settings for the smallest networks, and a reporter that keeps what it hears."""

from __future__ import annotations

from pathlib import Path

import pytest

from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.miniature import write_miniature
from tests.listening import Listener

SMALLEST = (
    "flow.steps=1",
    "flow.hidden_channels=8",
    "encoder.channels=8",
    "encoder.growth_channels=4",
    "encoder.blocks=1",
    "encoder.stacked_blocks=0",
    "fit.iterations=2",
    "fit.batch_size=2",
    "fit.patch_size=32",
    "fit.held_out=0",
    "dasr.fit.iterations=2",
    "dasr.channels=8",
    "dasr.blocks=1",
    "restorer.channels=8",
    "restorer.growth_channels=4",
    "psnr.iterations=2",
    "gan.iterations=12",
    "sr.batch_size=2",
)


@pytest.fixture
def hears() -> Listener:
    return Listener()


@pytest.fixture
def smallest() -> tuple[str, ...]:
    """Settings for fits and restorers of seconds."""
    return SMALLEST


@pytest.fixture(scope="session")
def aim_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature of AIM-RWSR; nobody writes to it."""
    data = tmp_path_factory.mktemp("aim") / "data"
    write_miniature(data, EXPERIMENTS["aim"])
    return data
