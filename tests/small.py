"""Small: the sizes of a network that is built and trained within a test."""

from __future__ import annotations

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.model import EncoderConfig
from deflow_cli.presets.reader import FIT

FLOW_SIZES = {"levels": 2, "steps": 2, "hidden_channels": 8, "condition_channels": 8}
ENCODER = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))
SMALL = [
    *(f"flow.{key}={value}" for key, value in FLOW_SIZES.items()),
    "encoder.channels=8",
    "encoder.growth_channels=4",
    "encoder.blocks=1",
    "encoder.stacked_blocks=[0]",
    "fit.batch_size=4",
    "fit.patch_size=32",
    "fit.leak_test=false",
]


def small_run(*settings: str) -> RunConfig:
    """The tiny preset with small networks, and further settings such as ``fit.iterations=4``."""
    return FIT.apply_overrides(FIT.load("tiny"), [*SMALL, *settings])
