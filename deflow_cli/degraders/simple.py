"""The two simplest degraders: none at all, and white noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from deflow_cli.degraders.base import (
    DegraderConfig,
    DegraderContext,
    DegraderOption,
    Draw,
    ReadyDegrader,
    check_draws,
)
from deflow_cli.degraders.shared_options import Noisy, require_noisy
from deflow_cli.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

GRAY_LEVELS = 255.0


@dataclass(frozen=True)
class NoDegradation:
    """Returns the picture itself: what a degraded data set is compared with."""

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        check_draws(image_bchw, draws)
        return image_bchw.clone()


@dataclass(frozen=True)
class NoDegradationConfig(DegraderConfig):
    """The degrader ``none``."""

    name: ClassVar[str] = "none"
    is_random: ClassVar[bool] = False

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        return ReadyDegrader(NoDegradation(), self.facts())


def _check_sigma(sigma: float) -> None:
    if not 0 <= sigma < GRAY_LEVELS:
        raise ConfigError(
            f"sigma {sigma:g}; it is in grey levels of 255", next_step="use for example --sigma 8"
        )


@dataclass(frozen=True)
class WhiteNoiseConfig(DegraderConfig):
    """White Gaussian noise.

    sigma: its std in grey levels of 255; None: estimated from the ``noisy`` folder.
    """

    name: ClassVar[str] = "white-noise"

    sigma: Annotated[
        float | None,
        DegraderOption(
            "std in grey levels of 255 (default: that of --noisy's flat patches).",
            metavar="S",
            check=_check_sigma,
        ),
    ] = None
    noisy: Noisy = None

    def __post_init__(self) -> None:
        if self.sigma is None:
            require_noisy(self.name, self.noisy, or_else=" or --sigma")

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        """Noise of the std given, or one that makes flat parts as noisy as those of the noisy pictures.

        In flat parts, a picture minus its 9 x 9 blur is taken for noise; of white noise, this difference has
        0.943 times the std (``WHITE_GAIN``).
        """
        from deflow_cli.degraders.noise.sample_pictures import SamplePictures
        from deflow_cli.degraders.noise.white import WhiteNoiseDegrader
        from deflow_cli.metrics.filters import WHITE_GAIN
        from deflow_cli.metrics.noise.high_pass import UnpairedStatistics

        facts: dict[str, Any] = {"name": self.name}
        sigma = self.sigma
        if sigma is None:
            assert self.noisy is not None
            pictures = SamplePictures.of_folder(self.noisy, context.reporter)
            sigma = GRAY_LEVELS * UnpairedStatistics.of(pictures).std / WHITE_GAIN
            facts["tuned_on"] = pictures.facts()
            context.reporter.note(
                f"white noise of {sigma:.2f} grey levels, as the flat patches of {self.noisy.name} have it"
            )
        elif 0 < sigma < 0.5:
            context.reporter.warn(f"sigma is {sigma:g} grey levels of 255, hardly any noise")
        facts["sigma"] = sigma
        return ReadyDegrader(WhiteNoiseDegrader(sigma / GRAY_LEVELS), facts)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], places: Mapping[str, Any]) -> Self:
        """The recorded std repeats the noise, whether it was given or estimated; no folder is needed."""
        return cls(sigma=float(facts["sigma"]))
