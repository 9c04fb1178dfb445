"""Spread: mean, standard deviation and rank of the truth over samples, of a space of super-resolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deflow_cli.arrays import Array
from deflow_cli.errors import ShapeError

CENTRAL = 0.8  # share of the probability that the central interval should hold
FEWEST_SAMPLES = 9  # with fewer, the central 80 % reach beyond the outermost samples


@dataclass(frozen=True)
class TruthRanks:
    """Where the true values lie among n samples.

    shares: of all values, for each rank 0 (below all samples) to n (above all of them); they sum to 1. Equal
    for a calibrated space, high at both ends where samples vary too little, in the middle where they vary
    too much, at one end where they are biased.
    """

    shares: Array

    @property
    def coverage(self) -> float:
        """The share of true values in the central 80 % interval of the samples: 0.8 where calibrated.

        Rank r of n samples stands for the probabilities r / (n + 1) to (r + 1) / (n + 1), whose part between
        0.1 and 0.9 counts. A calibrated space thus scores 0.8 for any n. NaN for fewer than nine samples,
        where the interval would reach beyond the outermost samples and nothing could be told.

        >>> TruthRanks(np.full(11, 1 / 11)).coverage  # ten samples, every rank as often as any other
        0.8
        >>> TruthRanks(np.eye(11)[5]).coverage  # always in the middle: the samples vary too much
        1.0
        """
        count = len(self.shares) - 1
        if count < FEWEST_SAMPLES:
            return math.nan
        edges = np.arange(count + 2) / (count + 1)
        low, high = (1 - CENTRAL) / 2, (1 + CENTRAL) / 2
        inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        return round(float((self.shares * inside.clip(0)).sum() * (count + 1)), 12)


class SampleSpread:
    """Statistics over samples at every value of an image; samples are added one after the other.

    truth_chw: uint8, the true image. Only sums and counts are stored, so that many large samples fit.
    """

    def __init__(self, truth_chw: Tensor) -> None:
        self._truth = truth_chw
        self._sum = torch.zeros(truth_chw.shape, dtype=torch.int32, device=truth_chw.device)
        self._squares = torch.zeros_like(self._sum)
        self._below = torch.zeros(truth_chw.shape, dtype=torch.int16, device=truth_chw.device)
        self._equal = torch.zeros_like(self._below)
        self.samples = 0

    def add(self, sample_chw: Tensor) -> None:
        """The next sample, uint8. Raises ShapeError where it is not of the truth's shape."""
        if sample_chw.shape != self._truth.shape or sample_chw.dtype != torch.uint8:
            found = f"{sample_chw.dtype} {tuple(sample_chw.shape)}"
            raise ShapeError(f"sample: {found}, not uint8 {tuple(self._truth.shape)} as its truth")
        values = sample_chw.to(torch.int32)
        self._sum += values
        self._squares += values.square()
        self._below += sample_chw < self._truth
        self._equal += sample_chw == self._truth
        self.samples += 1

    @property
    def mean_chw(self) -> Tensor:
        """The mean of the samples, float64, not rounded."""
        return self._sum.to(torch.float64) / self.samples

    @property
    def std_chw(self) -> Tensor:
        """The standard deviation over samples (divisor n - 1), float64; NaN for a single sample."""
        if self.samples < 2:
            return torch.full(self._sum.shape, math.nan, dtype=torch.float64, device=self._sum.device)
        # Whole numbers: n times the sum of squares minus the squared sum loses nothing to rounding.
        scaled = self.samples * self._squares.to(torch.int64) - self._sum.to(torch.int64).square()
        return (scaled.to(torch.float64) / (self.samples * (self.samples - 1))).sqrt()

    def ranks(self) -> TruthRanks:
        """The histogram of the truth's ranks over all pixels and channels.

        A true value that equals e samples could have e + 1 ranks; it counts for each of them by the same
        part, which is the expectation of drawing one of them at random.
        """
        totals = np.zeros(self.samples + 1)
        pairs = self._below.to(torch.int64) * (self.samples + 1) + self._equal
        counts = torch.bincount(pairs.flatten(), minlength=(self.samples + 1) ** 2).cpu().numpy()
        for pair in np.flatnonzero(counts):
            below, equal = divmod(int(pair), self.samples + 1)
            totals[below : below + equal + 1] += counts[pair] / (equal + 1)
        return TruthRanks(totals / totals.sum())
