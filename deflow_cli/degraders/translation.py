"""The degraders ``dsgan``, ``dasr`` and ``cyclegan``: networks that `deflow fit --method` trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from deflow_cli.degraders.base import (
    DegraderConfig,
    DegraderContext,
    DegraderOption,
    ReadyDegrader,
    check_same_model,
)


@dataclass(frozen=True)
class TranslatorConfig(DegraderConfig):
    """A trained network, which degrades each picture in one way.

    model: a file or a run folder; None: the newest fit of the method here.
    """

    runs_on_device: ClassVar[bool] = True
    is_random: ClassVar[bool] = False

    model: Annotated[
        Path | None,
        DegraderOption(
            "a model, a run folder or hf://USER/REPO (default: the newest fit of that method here).",
            metavar="FILE",
            kind="model",
        ),
    ] = None

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        from deflow_cli.checkpoints.registry import find_translator
        from deflow_cli.checkpoints.translation.files import load_translator
        from deflow_cli.data.images.folders import file_sha256
        from deflow_cli.degraders.translator.degrader import TranslatorDegrader

        found = find_translator(self.model, Path.cwd(), self.name)
        loaded = load_translator(found.path, context.device, self.name)
        context.reporter.note(f"model: {found.path} ({self.name}, {found.origin}), on {context.device}")
        facts = {
            "name": self.name,
            "model": {"file": found.path.name, "sha256": file_sha256(found.path)},
            "random": False,
            "rounding": "nearest",  # to 8 bits; the published code cuts off
        }
        generator = loaded.generator
        shrinks = generator.scale if generator.scale > 1 else None
        return ReadyDegrader(TranslatorDegrader(generator, context.device), facts, found, shrinks)

    def check_repeated(self, found: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
        """The model is the recorded one if its content is, whatever the file is called."""
        check_same_model(found, recorded)


@dataclass(frozen=True)
class DsganDegraderConfig(TranslatorConfig):
    """DSGAN of FSSR."""

    name: ClassVar[str] = "dsgan"


@dataclass(frozen=True)
class DasrDegraderConfig(TranslatorConfig):
    """DASR's down-sampling network, which takes the large pictures."""

    name: ClassVar[str] = "dasr"


@dataclass(frozen=True)
class CycleGanDegraderConfig(TranslatorConfig):
    """CycleGAN, which always gets whole pictures: its normalisation takes means over them."""

    name: ClassVar[str] = "cyclegan"
