"""The degrader ``spectral``: Gaussian noise of the difference between two folders' power spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from deflow_cli.degraders.base import DegraderConfig, DegraderContext, DegraderOption, ReadyDegrader
from deflow_cli.degraders.shared_options import Noisy, require_noisy
from deflow_cli.errors import ConfigError, DataError

CLEAN_IS_HR = "HR"  # recorded where the data set's own clean pictures were used


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ConfigError(f"the flattest share is {share:g}", next_step="use more than 0, up to 1")


@dataclass(frozen=True)
class SpectralConfig(DegraderConfig):
    """Spectral noise, estimated from ``noisy`` and ``clean`` pictures.

    clean: None: the small clean pictures of the data set itself. flattest: share of each picture's patches
    that is used, those of least variance; below 1 the powers of the two folders' contents are matched, too.
    """

    name: ClassVar[str] = "spectral"

    noisy: Noisy = None
    clean: Annotated[
        Path | None,
        DegraderOption("clean images (default: {hr}, made small).", metavar="DIR", kind="folder"),
    ] = None
    flattest: Annotated[
        float,
        DegraderOption(
            "use this share of each image's patches, the flattest, and match the power of the contents "
            "(default: 1, all patches and the plain difference).",
            metavar="SHARE",
            check=_check_share,
        ),
    ] = 1.0

    def __post_init__(self) -> None:
        require_noisy(self.name, self.noisy)

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        from deflow_cli.degraders.noise.sample_pictures import SamplePictures
        from deflow_cli.degraders.noise.spectral import SpectralDegrader, SpectralNoise

        assert self.noisy is not None
        reporter, share = context.reporter, self.flattest
        noisy = SamplePictures.of_folder(self.noisy, reporter)
        if self.clean is not None:
            clean = SamplePictures.of_folder(self.clean, reporter)
        else:
            clean = SamplePictures.made_small(context.clean, reporter, context.scale, context.rule)
        try:
            noise = SpectralNoise.from_images(clean, noisy, quiet=share, match_content=share < 1)
        except DataError as error:
            small = f" made {context.scale} times smaller" if self.clean is None and context.scale > 1 else ""
            raise DataError(
                f"{error} (noisy: {self.noisy}, clean: {self.clean or CLEAN_IS_HR}{small})",
                next_step="pass a folder of larger pictures as --clean DIR or --noisy DIR",
            ) from error
        facts = {
            "name": self.name,
            "flattest": share,
            "noisy": noisy.facts(),
            "clean": CLEAN_IS_HR if self.clean is None else clean.facts(),
        }
        return ReadyDegrader(SpectralDegrader(noise), facts)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], places: Mapping[str, Any]) -> Self:
        clean = None if facts["clean"] == CLEAN_IS_HR else places.get("clean")
        if clean is None and facts["clean"] != CLEAN_IS_HR:
            raise ConfigError(
                "the manifest's spectral noise was estimated with a folder of clean pictures",
                next_step="add --clean DIR",
            )
        return cls(noisy=places.get("noisy"), clean=clean, flattest=float(facts["flattest"]))
