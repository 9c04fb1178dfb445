"""Matching grain: its tables of gains and its spread of levels, without pairs.

Images are degraded with the present noise and compared with the real degraded ones (indirect inference):
levels of fine detail, of luminance and of colour differences, in bins of brightness and texture. What differs
corrects the gain, a few times over. Scenes, rounding, clipping and compression enter both sides alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Array, Pixels
from deflow_cli.metrics.noise.local_levels import (
    Knots,
    Levels,
    features_of,
)
from deflow_cli.models.deflow.grain import (
    BRIGHTNESS_KNOTS,
    TEXTURE_KNOTS,
    Places,
    full_size,
    look_up,
    opponent_basis,
    spread_over,
    strengthened,
)

ROUNDS = 4
CHANNELS = 3
_LEAST_SHARE = 0.15  # of a level that is noise: where scenes outweigh it, corrections are not trusted further
_FEWEST_IMAGES = 4  # in a bin
_STEP = 1.0  # largest correction of a log gain per round
_LEAST_TRIED, _MOST_SPREAD = 0.2, 0.8  # of log levels: drawn, so that their effect can be seen; found
_LEAST_SLOPE = 0.4  # of measured log levels by true ones
_OWN_ERROR = 0.02  # of a log level, added to its standard error
_CONTRAST = 0.4  # deviation of the log ratio of contrasts in a bin, of one folder's scenes to the other's
_UNKNOWN = 5.0  # standard error of a log gain where nothing shows it
# Prior of a channel's log gain: free in its mean, about which it deviates by 0.5, smoothly over so many
# knots; so much of that variance alike in all channels.
_PRIOR_DEVIATION, _PRIOR_REACH, _PRIOR_ALIKE = 0.5, (2.0, 3.0), 0.8

Pattern = Callable[[int, int], Tensor]
"""(image, round) -> noise of that image, 3 x H x W on the [0, 1] scale."""

Refine = Callable[[Sequence[Pixels]], None]
"""Shown samples under about the right gain, it may change the pattern that they were drawn from."""


@dataclass(frozen=True)
class GrainMatch:
    """What was found, of levels' lowest quantile. misfit_cbt: log ratio of real to synthetic ones per bin.

    found: how far levels of the degraded images stand above the clean ones' where there is little texture,
    root mean square of the log ratio; null: the same between two halves of the clean images.
    """

    gain_cbt: Array
    knots: Knots
    spread: float
    misfit_cbt: Array
    found: float
    null: float


@dataclass(frozen=True)
class GrainData:
    """Pictures to match with, uint8 H x W x 3, all at least 64 x 64.

    clean: originals, whose brightness and texture decide. bases: the same as the model degrades them without
    noise, 3 x H x W in [0, 1]. noisy: real degraded pictures. scenes, noisy_scenes: a number of the image
    that each is of. finish: the last step of degrading, which a number draws; None: none.
    """

    clean: Sequence[Pixels]
    scenes: Sequence[int]
    bases: Sequence[Tensor]
    noisy: Sequence[Pixels]
    noisy_scenes: Sequence[int]
    finish: Callable[[Pixels, int], Pixels] | None = None

    def degraded(self, number: int, noise_chw: Tensor) -> Pixels:
        """The base of a picture with noise, in 8 bits."""
        pixels = (self.bases[number] + noise_chw).clamp(0, 1) * 255
        result = np.ascontiguousarray(pixels.round().to(torch.uint8).permute(1, 2, 0).numpy())
        return result if self.finish is None else self.finish(result, number)


class GrainMatcher:
    """Matches the gain of any pattern for one set of pictures."""

    def __init__(self, data: GrainData, seed: int = 0) -> None:
        self.data, self.seed = data, seed
        self._clean_features = [features_of(x, 2 * n) for n, x in enumerate(data.clean)]
        noisy_features = [features_of(y, 2 * n + 1) for n, y in enumerate(data.noisy)]
        self.knots = _knots([*self._clean_features, *noisy_features])
        self._clean_places = [self.knots.places(seen) for seen in self._clean_features]
        self._clean = Levels.of(data.clean, self._clean_features, self.knots, data.scenes)
        self._noisy = Levels.of(data.noisy, noisy_features, self.knots, data.noisy_scenes)
        self._shape = (CHANNELS, *self.knots.shape)
        self._prior = _prior(self._shape)

    def match(self, pattern: Pattern, refine: Refine | None = None) -> GrainMatch:
        """Match the gain to a pattern, starting from 1.

        refine: is shown the first samples whose gain is not a guess.
        """
        gain = torch.ones(self._shape, dtype=torch.float64)
        spread, misfit = 0.0, np.zeros(self._shape)
        for number in range(ROUNDS):
            tried = max(spread, _LEAST_TRIED)
            made = self.degraded(number, gain, tried, pattern)
            features = [features_of(y, 10_000 * (number + 1) + n) for n, y in enumerate(made)]
            ours = Levels.of(made, features, self.knots, self.data.scenes)
            step, error, misfit, share = self._correction(ours)
            if number:  # in the first round the gain is a guess
                spread = self._spread(ours, share, tried, number)
            if number == 1 and refine is not None:
                refine(made)
            step, error = self._carried(step, error, [self.knots.places(seen) for seen in features])
            gain = torch.from_numpy(np.exp(self._smooth(gain.log().numpy() + step, error)))
        return GrainMatch(gain.numpy(), self.knots, spread, misfit, *self._found())

    def degraded(self, number: int, gain_cbt: Tensor, spread: float, pattern: Pattern) -> list[Pixels]:
        """Each picture with the pattern's draw of this number, under a gain and a spread of levels."""
        levels = self._levels(number)
        basis, made = opponent_basis(CHANNELS), []
        for n, seen in enumerate(self._clean_places):
            height, width = self.data.clean[n].shape[:2]
            gain = full_size(look_up(gain_cbt, *seen).float().movedim(0, 1), height, width)
            strength = float(np.exp(spread * levels[n])) * gain
            made.append(self.data.degraded(n, strengthened(pattern(n, number)[None], strength, basis)[0]))
        return made

    # -- one round ------------------------------------------------------------------------------------

    def _levels(self, number: int) -> list[float]:
        return _stratified_normals(len(self.data.clean), [self.seed, number])

    def _spread(self, ours: Levels, share_qcb: Array, tried: float, number: int) -> float:
        """The spread of levels with which images would vary as the degraded ones do.

        The smaller of two estimates, of luminance and of all channels: what varies in luminance alone may be
        contrast, what varies in colours alone how colourful scenes are.
        """
        known = tried * np.array(self._levels(number))
        found = []
        for channels in ([0], [0, 1, 2]):
            share = share_qcb[:, channels]
            real, real_precision = self._noisy.take_channels(channels).of_images(share)
            fake, fake_precision = ours.take_channels(channels).of_images(share)
            # how far a measured level follows the true one, which of samples is known: less than fully, since
            # stronger noise makes places count as more textured, where levels are higher
            centred = known - np.average(known, weights=fake_precision)
            slope = np.average(fake * centred, weights=fake_precision)
            slope /= np.average(centred**2, weights=fake_precision)
            excess = np.average(real**2, weights=real_precision) - np.average(fake**2, weights=fake_precision)
            found.append(tried**2 + excess / np.clip(slope, _LEAST_SLOPE, 1.0) ** 2)
        return float(np.sqrt(np.clip(min(found), 0, _MOST_SPREAD**2)))

    def _correction(self, ours: Levels) -> tuple[Array, Array, Array, Array]:
        """Correction of the log gain in each bin, its standard error, and the log ratio of levels: C x B x T.

        The ratio is of the lowest quantile. Last the share of the levels that is noise, Q x C x bins.

        A level's logarithm moves by its share of noise for one of the gain's, and by the rest for one of the
        scenes' contrast, which is unknown: generalised least squares of the gain from all quantiles, with
        contrast among the errors.
        """
        real, real_error, real_count = self._noisy.mean()
        fake, fake_error, fake_count = ours.mean()
        scene, _, _ = self._clean.mean()
        usable = (real_count >= _FEWEST_IMAGES) & (fake_count >= _FEWEST_IMAGES)
        share = np.clip(1.0 - np.exp(2.0 * (scene - fake)), _LEAST_SHARE, 1.0)
        misfit = np.where(usable, real - fake, 0.0)
        own = _OWN_ERROR**2 * np.eye(len(share))[..., None, None]
        contrast = _CONTRAST**2 * (1 - share)[:, None] * (1 - share)
        error = np.where(usable, real_error + fake_error + own + contrast, np.inf)
        weight, variance = _least_squares(error, share)
        step = np.clip((weight * misfit).sum(0), -_STEP, _STEP)
        shape = self._shape
        return step.reshape(shape), np.sqrt(variance).reshape(shape), misfit[0].reshape(shape), share

    def _carried(
        self, step: Array, error: Array, seen: Sequence[tuple[Places, Places]]
    ) -> tuple[Array, Array]:
        """A correction per bin of the degraded images' features, at the bins of the clean images'."""
        precision = torch.from_numpy(error**-2)
        tables = torch.cat([precision * torch.from_numpy(step), precision, torch.ones_like(precision[:1])])
        sums = torch.zeros_like(tables)
        for noisy, clean in zip(seen, self._clean_places, strict=True):
            values = look_up(tables, *noisy)
            sums += torch.stack([spread_over(each, *clean, self.knots.shape) for each in values])
        corrections, precisions, count = (each.numpy() for each in sums.split((CHANNELS, CHANNELS, 1)))
        known = np.maximum(precisions, 1e-12)
        return corrections / known, np.sqrt(np.maximum(count, 1e-12) / known)

    def _smooth(self, log_gain: Array, error: Array) -> Array:
        """Posterior mean of the log gain (Gaussian process) given its values with standard errors."""
        values, variances = log_gain.reshape(CHANNELS, -1), error.reshape(CHANNELS, -1) ** 2
        centre = np.average(values, axis=1, weights=1.0 / (variances + _PRIOR_DEVIATION**2))[:, None]
        weights = np.linalg.solve(self._prior + np.diag(variances.ravel()), (values - centre).ravel())
        return np.asarray(centre[..., None] + (self._prior @ weights).reshape(log_gain.shape))

    def _found(self) -> tuple[float, float]:
        flat = np.arange(math.prod(self.knots.shape)) % self.knots.shape[1] < self.knots.shape[1] // 2
        odd = np.array(self.data.scenes) % 2 == 1
        halves = [self._clean.take(half) for half in (odd, ~odd)]
        return _difference(self._noisy, self._clean, flat), _difference(halves[0], halves[1], flat)


def _stratified_normals(count: int, seed: Sequence[int]) -> list[float]:
    """Standard normals at evenly spread quantiles, in random order: their mean is 0."""
    order = np.random.default_rng(seed).permutation(count)
    return [NormalDist().inv_cdf((place + 0.5) / count) for place in order.tolist()]


def _least_squares(error_qrcb: Array, share_qcb: Array) -> tuple[Array, Array]:
    """Weights of quantiles (Q x C x bins) in the estimate of x from share * x + errors, and its variance."""
    covariance, share = error_qrcb.transpose(2, 3, 0, 1), share_qcb.transpose(1, 2, 0)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(covariance).all((-1, -2)))
    inverse = np.linalg.inv(np.where(known[..., None, None], covariance, np.eye(len(share_qcb))))
    weight = np.einsum("cbqr,cbr->cbq", inverse, share)
    information = (weight * share).sum(-1)
    weight = np.where(known[..., None], weight / information[..., None], 0.0)
    return weight.transpose(2, 0, 1), np.where(known, 1.0 / information, _UNKNOWN**2)


def _difference(one: Levels, other: Levels, chosen: NDArray[np.bool_]) -> float:
    """Root mean square difference of log levels over the chosen bins that both have."""
    (mean, _, count), (other_mean, _, other_count) = one.mean(), other.mean()
    weights = chosen * np.minimum(one.weights.sum(0), other.weights.sum(0))
    weights = weights * (np.minimum(count, other_count) >= 2)
    squares = ((mean - other_mean)[0] ** 2).mean(0)
    return float(np.sqrt(np.average(squares, weights=weights))) if weights.sum() else 0.0


def _knots(features: Sequence[tuple[Tensor, Tensor]]) -> Knots:
    """Quantiles of the features, so that bins hold about as many pixels each."""
    axes = []
    for axis, count in enumerate((BRIGHTNESS_KNOTS, TEXTURE_KNOTS)):
        values = torch.cat([seen[axis][:, ::2, ::2].flatten() for seen in features])
        shares = (torch.arange(count) + 0.5) / count
        knots = torch.quantile(values[:: max(1, len(values) // 1_000_000)], shares)
        axes.append(knots + 1e-3 * torch.arange(count))  # rising even where a feature hardly varies
    return Knots(*axes)


def _prior(shape: tuple[int, int, int]) -> Array:
    """Covariance of the log gain, C x B x T values each way."""
    channels, *axes = (each.ravel() for each in np.indices(shape))
    distance = sum(
        ((axis[:, None] - axis[None]) / reach) ** 2 for axis, reach in zip(axes, _PRIOR_REACH, strict=True)
    )
    same = channels[:, None] == channels[None]
    alike = np.where(same, 1.0, _PRIOR_ALIKE) * _PRIOR_DEVIATION**2
    return np.asarray(same + alike * np.exp(-0.5 * distance))
