"""The degrader ``noise-patches``: noise that is cut from flat parts of degraded pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from deflow_cli.degraders.base import DegraderConfig, DegraderContext, DegraderOption, ReadyDegrader
from deflow_cli.degraders.shared_options import Noisy, require_noisy
from deflow_cli.errors import DataError, naming


@dataclass(frozen=True)
class NoisePatchConfig(DegraderConfig):
    """Noise patches of Impressionism (NTIRE 2020) and RealSR: flat tiles of degraded pictures.

    patch_size: side of a tile in px. patch_variance: tiles of less luma variance count, in grey levels
    squared. patch_mean: tiles of a greater mean luma count, in grey levels of 255.
    """

    name: ClassVar[str] = "noise-patches"

    noisy: Noisy = None
    patch_size: Annotated[int, DegraderOption("their side in pixels (default: 256).", least=1)] = 256
    patch_variance: Annotated[
        float, DegraderOption("flatter than this, in grey levels squared (default: 20).", least=0)
    ] = 20.0
    patch_mean: Annotated[float, DegraderOption("brighter than this, of 255 (default: 0).", least=0)] = 0.0

    def __post_init__(self) -> None:
        require_noisy(self.name, self.noisy)

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        from deflow_cli.degraders.noise.patches import NoisePatchDegrader, NoisePatches
        from deflow_cli.degraders.noise.sample_pictures import SamplePictures

        assert self.noisy is not None
        pictures = SamplePictures.whole(self.noisy, context.reporter)
        with naming(self.noisy, DataError):
            found = NoisePatches.collect(pictures, self.patch_size, self.patch_variance, self.patch_mean)
        context.reporter.note(f"{len(found.tiles)} noise patches of {found.side} px from {self.noisy.name}")
        facts = {
            "name": self.name,
            "size": self.patch_size,
            "variance": self.patch_variance,
            "mean": self.patch_mean,
            "patches": len(found.tiles),
            "noisy": pictures.facts(),
        }
        return ReadyDegrader(NoisePatchDegrader.at_scale(found, context.scale), facts)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], places: Mapping[str, Any]) -> Self:
        return cls(places.get("noisy"), facts["size"], facts["variance"], facts["mean"])
