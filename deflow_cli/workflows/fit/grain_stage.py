"""The stage of a fit that follows the training: the grain, matched to the degraded images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Array, Pixels, Window
from deflow_cli.data.folder_sample import evenly_spread
from deflow_cli.data.images.image_cache import ImageCache
from deflow_cli.errors import DataError
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.metrics.distances.kid import kid, kid_difference
from deflow_cli.metrics.distances.patch_features import patch_features
from deflow_cli.metrics.noise.quiet_spectrum import (
    QUIET_PATCH,
    Spectrum,
    positive,
    quiet_spectrum,
    smoothed_spectrum,
    with_colours_of,
)
from deflow_cli.models.deflow.grain import KERNEL_SIDE, UNMATCHED, Grain, correlated, kernel_of
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import generator
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.fit.grain import GrainData, GrainMatch, GrainMatcher, Pattern

MATCH_CROPS, FEWER_CROPS = 64, 32  # of each domain, that levels are matched on; fewer where time is short
MATCH_SIDE = 256  # px
SHORT = 100.0  # seconds
WHOLE_IMAGES = 60  # of each domain, whose quiet patches show the spectrum
LEAST_IMAGES, LEAST_SIDE = 8, 2 * QUIET_PATCH  # below, nothing is matched
JUDGED_ROUND = 99  # of the random numbers that candidates are judged by, apart from those of the matching
NEARER_PATTERN = 0.5  # standard errors by which the latents' pattern must be nearer than the stationary one
ABOVE_NULL = 2.0  # levels must exceed the clean images' by so many times what halves of those differ by
_GREY_LEVELS = 255.0

Finish = Callable[[Pixels, int], Pixels]
_Features = Sequence[Array]  # of patches, n x D, for each image


@dataclass(frozen=True)
class _Candidate:
    """A pattern with what was matched to it. kid: kernel distance of its samples to the degraded images.

    judged: those samples' features.
    """

    name: str
    match: GrainMatch
    kernel_oiyx: Tensor | None
    judged: _Features
    kid: float


class _StationaryNoise:
    """Gaussian noise of a spectrum (in grey levels squared), drawn for the pictures that are matched with."""

    def __init__(self, spectrum: Spectrum, data: GrainData, seed: int) -> None:
        self.data, self.seed = data, seed
        self._set(spectrum)

    def _set(self, spectrum: Spectrum) -> None:
        self._spectrum = spectrum
        self.kernel_oiyx = kernel_of(torch.from_numpy(spectrum / _GREY_LEVELS**2)).float()

    def draw(self, number: int, round_number: int) -> Tensor:
        """A ``Pattern``."""
        height, width = (side + KERNEL_SIDE - 1 for side in self.data.clean[number].shape[:2])
        random = generator(self.seed, "grain", round_number, number)
        return correlated(self.kernel_oiyx, torch.randn(1, 3, height, width, generator=random))[0]

    def refine(self, made: Sequence[Pixels]) -> None:
        """Correct the spectrum of colours for what the last step of degrading did to those of samples."""
        clean = quiet_spectrum(self.data.clean)
        real, ours = (positive(quiet_spectrum(each) - clean) for each in (self.data.noisy, made))
        self._set(with_colours_of(self._spectrum, real, ours))


class GrainStage:
    """Matches the grain of a fitted model, and chooses its pattern by how real the samples look."""

    def __init__(
        self, model: DeFlow, domains: Domains, seed: int, reporter: Reporter, finish: Finish | None = None
    ) -> None:
        self.model, self.domains, self.seed, self.reporter = model, domains, seed, reporter
        self.device = next(model.parameters()).device
        self._translator = Translator(model, self.device)
        self._shift = ShiftDistribution(model.prior)
        self._finish = finish

    def run(self, seconds: float = math.inf) -> dict[str, Any]:
        """Set ``model.grain``; returns the facts to keep, empty where the images are too few or too small.

        seconds: that the stage should take; it looks at fewer pictures where they are few.
        """
        grain = self.model.grain
        assert grain is not None
        grain.matched.fill_(False)  # samples are the model's own meanwhile
        count = MATCH_CROPS if seconds >= SHORT else FEWER_CROPS
        (clean, scenes), (noisy, noisy_scenes) = (
            self._crops(pool, name, count) for pool, name in self._pools()
        )
        if min(len(clean), len(noisy)) < LEAST_IMAGES:
            self.reporter.note(
                f"noise is not matched by brightness and texture: that needs {LEAST_IMAGES} images of at "
                f"least {LEAST_SIDE} px in each folder"
            )
            return {}
        self.reporter.start("noise", None)
        bases = [self._degraded(x, n, 0.0, 0) for n, x in enumerate(clean)]
        data = GrainData(clean, scenes, bases, noisy, noisy_scenes, self._finish)
        matcher = GrainMatcher(data, self.seed)
        spectrum = self._stationary_spectrum()
        latents = self._of_latents(clean, bases)
        blocks = self._candidate("latent", matcher, latents)
        noise = _StationaryNoise(spectrum, data, self.seed)
        other = self._candidate("stationary", matcher, noise.draw, noise)
        latents_nearer = self._is_farther(matcher, other, blocks.judged, blocks.kid, NEARER_PATTERN)
        best = blocks if latents_nearer else other
        plain = self._judged(matcher, latents, torch.ones(best.match.gain_cbt.shape), 0.0)
        unmatched = self._distance(matcher, plain)
        self.reporter.finish()
        if unmatched < best.kid and self._is_farther(matcher, best, plain, unmatched):
            self.reporter.note(
                "noise: as the training left it; matched by brightness and texture it was farther from the "
                "noisy images"
            )
            return {"noise": self._facts(best, (blocks, other), unmatched) | {"pattern": UNMATCHED}}
        match = best.match
        gain = torch.from_numpy(match.gain_cbt).float()
        grain.set(gain, match.knots.brightness, match.knots.texture, match.spread, best.kernel_oiyx)
        self._describe(grain, best)
        return {"noise": self._facts(best, (blocks, other), unmatched)}

    # -- pictures -------------------------------------------------------------------------------------

    def _pools(self) -> list[tuple[ImageCache, str]]:
        return [(self.domains.clean, "clean"), (self.domains.noisy, "noisy")]

    def _crops(self, pool: ImageCache, name: str, count: int) -> tuple[list[Pixels], list[int]]:
        """Crops at random places of images all over the folder, and the image that each is of."""
        random = np.random.default_rng([self.seed, *name.encode()])
        images = [self._read(pool, n) for n in evenly_spread(range(len(pool)), count)]
        usable = [image for image in images if image is not None and min(image.shape[:2]) >= LEAST_SIDE]
        result: list[Pixels] = []
        scenes: list[int] = []
        while len(usable) >= LEAST_IMAGES and len(result) < count:
            for scene, image in enumerate(usable[: count - len(result)]):
                side = min(MATCH_SIDE, image.shape[0] // 8 * 8, image.shape[1] // 8 * 8)
                # on the grid of 8 x 8 blocks, which a compression as the last step starts anew at the corner
                top, left = (int(random.integers(0, (n - side) // 8 + 1)) * 8 for n in image.shape[:2])
                result.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
                scenes.append(scene)
        return result, scenes

    def _read(self, pool: ImageCache, number: int) -> Pixels | None:
        try:
            return pool.get(number)
        except DataError as error:
            self.reporter.warn(f"{error}; left out")
            return None

    def _whole(self, pool: ImageCache) -> list[Pixels]:
        images = [self._read(pool, n) for n in evenly_spread(range(len(pool)), WHOLE_IMAGES)]
        return [image for image in images if image is not None and min(image.shape[:2]) >= LEAST_SIDE]

    def _degraded(self, pixels: Pixels, number: int, temperature: float, draw: int) -> Tensor:
        """A sample of the model as it is, 3 x H x W on the CPU."""
        image = torch.from_numpy(pixels / np.float32(_GREY_LEVELS)).permute(2, 0, 1)[None]
        noise = ImageNoise(self.seed + draw, f"grain {number}")
        components = draw_components(self._shift, self.seed + draw, f"grain {number}", 1)
        job = Job(self._shift, [noise], [components], [temperature])
        result = torch.empty_like(image)

        def write(_: int, window: Window, piece: Tensor) -> None:
            result[(..., *window.slices)] = piece.cpu()

        self._translator.translate(image, job, [0], write)
        return result[0]

    # -- patterns -------------------------------------------------------------------------------------

    def _stationary_spectrum(self) -> Spectrum:
        """What quiet patches of degraded images have in excess of clean ones', in grey levels squared."""
        clean = quiet_spectrum(self._whole(self.domains.clean))
        noisy = quiet_spectrum(self._whole(self.domains.noisy), by_level=True)
        return positive(smoothed_spectrum(noisy - clean))

    def _of_latents(self, clean: list[Pixels], bases: list[Tensor]) -> Pattern:
        def draw(number: int, round_number: int) -> Tensor:
            return self._degraded(clean[number], number, 1.0, round_number + 1) - bases[number]

        return draw

    def _candidate(
        self, name: str, matcher: GrainMatcher, pattern: Pattern, noise: _StationaryNoise | None = None
    ) -> _Candidate:
        match = matcher.match(pattern, noise.refine if noise else None)
        judged = self._judged(matcher, pattern, torch.from_numpy(match.gain_cbt), match.spread)
        kernel = noise.kernel_oiyx if noise else None
        return _Candidate(name, match, kernel, judged, self._distance(matcher, judged))

    def _judged(self, matcher: GrainMatcher, pattern: Pattern, gain_cbt: Tensor, spread: float) -> _Features:
        """Features of samples that a pattern is judged by."""
        return patch_features(matcher.degraded(JUDGED_ROUND, gain_cbt, spread, pattern))

    def _distance(self, matcher: GrainMatcher, judged: _Features) -> float:
        """Kernel distance of samples to the degraded images; infinite where they have no patch to compare."""
        try:
            return kid(patch_features(matcher.data.noisy), judged, np.random.default_rng(self.seed)).value
        except DataError:
            return math.inf

    def _is_farther(
        self,
        matcher: GrainMatcher,
        candidate: _Candidate,
        others: _Features,
        distance: float,
        errors: float = 1.0,
    ) -> bool:
        """Whether its samples are farther from the degraded images than others, by so many standard errors.

        distance: the kernel distance of those, which alone decides where there are too few images.
        """
        noisy, random = patch_features(matcher.data.noisy), np.random.default_rng(self.seed)
        try:
            difference, error = kid_difference(noisy, candidate.judged, others, random)
        except DataError:
            return distance < candidate.kid
        return difference > errors * error

    # -- words ----------------------------------------------------------------------------------------

    def _describe(self, grain: Grain, best: _Candidate) -> None:
        match = best.match
        misfit = float(np.sqrt(np.mean(match.misfit_cbt**2)))
        strength = match.gain_cbt / match.gain_cbt.mean((1, 2), keepdims=True)
        low, high = strength.min(), strength.max()
        self.reporter.note(
            f"noise: {best.name} pattern, {low:.2f} to {high:.2f} times its mean strength by brightness and "
            f"texture, images' levels differ by {100 * match.spread:.0f} %; samples are within "
            f"{100 * misfit:.0f} % of the noisy images"
        )
        if match.found < ABOVE_NULL * match.null:
            self.reporter.warn(
                f"fine detail of the noisy images is {100 * match.found:.0f} % from the clean ones', and two "
                f"halves of the clean images differ by {100 * match.null:.0f} %: what was found may be scenes"
            )

    def _facts(self, best: _Candidate, found: Sequence[_Candidate], unmatched: float) -> dict[str, Any]:
        match = best.match
        return {
            "pattern": best.name,
            "kid": {
                name: round(value, 4) if math.isfinite(value) else None
                for name, value in (*((one.name, one.kid) for one in found), (UNMATCHED, unmatched))
            },
            "level_spread": round(match.spread, 4),
            "found": round(match.found, 4),
            "null": round(match.null, 4),
            "level_ratios": np.exp(match.misfit_cbt[0, 1::2, ::2]).round(3).tolist(),
        }
