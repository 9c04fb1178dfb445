"""The degrader ``deflow``: a fitted flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from deflow_cli.degraders.base import (
    DegraderConfig,
    DegraderContext,
    DegraderOption,
    ReadyDegrader,
    check_same_model,
)
from deflow_cli.errors import ConfigError

CUDA_TILE = (
    768  # px; on a CPU the tile follows from a fixed memory budget, for free memory must not change bits
)


def _check_compression(compression: str) -> None:
    if compression not in ("auto", "no"):
        raise ConfigError(f"compression {compression!r} is unknown", next_step="use auto or no")


@dataclass(frozen=True)
class FlowDegraderConfig(DegraderConfig):
    """A fitted DeFlow.

    model: a file; None: the newest fit here, else the embedded model. compression: ``auto``: samples are JPEG
    compressed where the model's file records that its degraded pictures were; ``no``: never.
    """

    name: ClassVar[str] = "deflow"
    runs_on_device: ClassVar[bool] = True

    model: Annotated[
        Path | None,
        DegraderOption(
            "a model, a run folder or hf://USER/REPO (default: the newest fit here, else the embedded one).",
            metavar="FILE",
            kind="model",
        ),
    ] = None
    compression: Annotated[
        str,
        DegraderOption(
            "auto: JPEG compress as the model's degraded images were, where it records that; no: never.",
            metavar="auto|no",
            check=_check_compression,
        ),
    ] = "auto"

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        from deflow_cli.checkpoints.format import load_model
        from deflow_cli.checkpoints.registry import default_model
        from deflow_cli.data.images.folders import file_sha256
        from deflow_cli.degraders.flow.compression import SampleCompression
        from deflow_cli.degraders.flow.degrader import FlowDegrader

        found, device = default_model(self.model), context.device
        model, recorded = load_model(found.path, device)
        context.reporter.note(f"model: {found.path} ({found.origin}), on {device}")
        tile = CUDA_TILE if device.type == "cuda" else None
        facts = {"name": self.name, "model": {"file": found.path.name, "sha256": file_sha256(found.path)}}
        compression = None
        if self.compression == "no":
            facts["compression"] = self.compression
        else:
            compression = SampleCompression.recorded(recorded, found.path)
        return ReadyDegrader(FlowDegrader(model, device, tile, compression), facts, found)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], places: Mapping[str, Any]) -> Self:
        """As the base has it; facts name the compression only where it is off, and older ones never."""
        return super().from_facts({"compression": "auto", **facts}, places)

    def check_repeated(self, found: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
        """The model is the recorded one if its content is, whatever the file is called."""
        check_same_model(found, recorded)
