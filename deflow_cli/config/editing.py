"""Edit: what is done to an image's latents, as a frozen dataclass checked at birth, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from deflow_cli.config.checks import check_choices, in_words, require
from deflow_cli.config.srflow import USUAL_TEMPERATURE, check_temperature

EditMode = Literal["transfer", "style", "restore", "interpolate", "vary"]
Collection = Literal["global", "local", "spatial"]
"""Which latent values are normalised together: of an image, of a position, of a channel."""
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)

USUAL_NORMALISATION: dict[EditMode, tuple[Collection, ...]] = {
    "transfer": ("local",),
    "restore": ("spatial", "local"),
}
FRAMES = 5  # of an interpolation, both ends included
MOST_RESULTS = 99


@dataclass(frozen=True)
class Edit:
    """How an image is edited; which images and which mask are arguments of the functions that do it.

    mode: what becomes of the latents z = f(y; x) of the image y, where x = d(y) is its small version.

    - ``transfer``: content of another image is pasted where the mask is, encoded with the x of the unedited
      image, normalised there, and decoded with that x; elsewhere the latents are those of the unedited image.
    - ``style``: the latents of another image, encoded with its own x, are decoded with the x of this one.
    - ``restore``: the latents are normalised. A model of clean images finds noise and compression unlikely;
      normalised latents are those of a clean image with the same x.
    - ``interpolate``: images along the sphere between the latents of two images, with x interpolated
      linearly; without another image, between two samples of x.
    - ``vary``: sqrt(1 - a^2) z + a tau e, with a the ``strength`` and e standard normals.

    temperature: tau, the standard deviation that normalisation, samples and variations aim at. normalise:
    collections of latents to normalise, one after the other; None: as is usual for the mode (transfer local,
    restore spatial then local, else none). deterministic: normalise to mean 0 and variance tau^2 exactly,
    rather than to drawn ones. samples: images to make; None: 1, of an interpolation 5, both ends included.
    consistent: the results are projected onto the images that shrink to x.

    Raises ConfigError for values out of range, and for samples that would all be equal.

    >>> Edit("restore").collections
    ('spatial', 'local')
    """

    mode: EditMode
    temperature: float = USUAL_TEMPERATURE
    normalise: tuple[Collection, ...] | None = None
    deterministic: bool = False
    strength: float = 0.3
    samples: int | None = None
    seed: int = 0
    consistent: bool = False

    def __post_init__(self) -> None:
        check_choices("edit", self)
        check_temperature(self.temperature)
        for name in self.collections:
            require(
                name in COLLECTIONS, f"no normalisation is called {name!r}", f"use {in_words(COLLECTIONS)}"
            )
        require(
            0 <= self.strength <= 1,
            f"--strength is {self.strength:g}",
            "use 0 (the image itself) to 1 (a new sample)",
        )
        least = 2 if self.mode == "interpolate" else 1
        require(
            least <= self.count <= MOST_RESULTS,
            f"--samples is {self.count}",
            f"use {least} to {MOST_RESULTS}",
        )
        require(
            bool(self.collections) or not self.deterministic,
            "--deterministic is nothing without --normalise",
            "leave it out",
        )
        draws = self.mode in ("interpolate", "vary") or (bool(self.collections) and not self.deterministic)
        require(
            draws or self.count == 1,
            f"--samples is {self.count}, but nothing is drawn: all would be equal",
            "use --samples 1, or --normalise without --deterministic",
        )

    @property
    def collections(self) -> tuple[Collection, ...]:
        """What is normalised, in order."""
        return USUAL_NORMALISATION.get(self.mode, ()) if self.normalise is None else self.normalise

    @property
    def count(self) -> int:
        """Images that are made."""
        if self.samples is not None:
            return self.samples
        return FRAMES if self.mode == "interpolate" else 1

    def check_inputs(self, *, has_other: bool, has_mask: bool) -> None:
        """Raise ConfigError where the mode lacks the second image or the mask, or has no use for it."""
        needs_other = self.mode in ("transfer", "style")
        takes_other = needs_other or self.mode == "interpolate"
        require(has_other or not needs_other, f"{self.mode} needs another image", "pass one of the same size")
        require(takes_other or not has_other, f"{self.mode} takes one image alone", "leave the other out")
        require(
            has_mask or self.mode != "transfer",
            "transfer needs a mask",
            "pass one of the same size, white where content is pasted",
        )
        require(not has_mask or self.mode != "interpolate", "interpolate takes no mask", "leave it out")
