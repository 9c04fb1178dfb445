"""Inspect a network of DSGAN, DASR or CycleGAN: its sizes, its cost, and what its training recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from deflow_cli.checkpoints.translation.files import load_translator
from deflow_cli.workflows.inspect.identity import FileIdentity, count_parameters, counted, file_identity

SIDE_OF_INPUT = 64  # pixels of the image that multiply-adds are counted on
NOT_SHOWN = (
    "title",
    "date",
    "version",
    "config",
)  # of the facts: shown elsewhere, or very long


@dataclass(frozen=True)
class TranslatorSizes:
    """The generator's sizes and cost.

    scale: how many times smaller its results are. reach: pixels around its place that a result depends on;
    None: the whole image. multiply_adds_per_pixel: of the input. random: whether draws make a difference.
    """

    method: str
    parameters: int
    channels: int
    blocks: int
    scale: int
    reach: int | None
    multiply_adds_per_pixel: int
    random: bool = False


@dataclass(frozen=True)
class TranslatorReport:
    """What such a model is. training: the facts that its file records."""

    file: FileIdentity
    sizes: TranslatorSizes
    training: dict[str, object]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """The sections that hold anything, by name, as plain values."""
        return {name: section for name, section in asdict(self).items() if section}


@torch.no_grad()
def inspect_translator(path: Path) -> TranslatorReport:
    """Describe a model file. Raises CheckpointError naming it where it is of another kind."""
    model = load_translator(path)
    generator = model.generator
    image = torch.zeros(1, 3, SIDE_OF_INPUT, SIDE_OF_INPUT)
    _, cost = counted(lambda: generator(image), SIDE_OF_INPUT**2)
    sizes = TranslatorSizes(
        method=model.method,
        parameters=count_parameters(generator),
        channels=generator.config.channels,
        blocks=generator.config.blocks,
        scale=generator.scale,
        reach=generator.radius,
        multiply_adds_per_pixel=cost,
    )
    training = {name: value for name, value in model.facts.items() if name not in NOT_SHOWN}
    return TranslatorReport(file_identity(path, model.facts), sizes, training)
