"""Figures of sets of residuals that tests compare with known values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deflow_cli.arrays import Array
from deflow_cli.metrics.noise.residual import (
    SPECTRUM_BINS,
    aligned_bins,
    decibel,
    kl_divergence,
    radial_psd,
    sum_histograms,
)


def residual_kl(real: Sequence[Array], fake: Sequence[Array], bins: int = 64, limit: float = 0.1) -> float:
    """Forward KL of the pooled residual histograms, bins aligned with 8-bit levels (see `aligned_bins`).

    For 8-bit residuals at the defaults it equals KLD-NeCA: its 64 bins are narrower
    than a level, so each holds one level or none, and the empty ones drop out. Lower is better.
    """
    counts = [aligned_bins(sum_histograms(residuals), bins, limit) for residuals in (real, fake)]
    return kl_divergence(counts[0], counts[1])


def radial_psd_db(residuals: Sequence[Array], bins: int = SPECTRUM_BINS) -> Array:
    """Set's mean radial power spectrum in dB over one grey level squared, C x ``bins``."""
    return decibel(np.nanmean([radial_psd(residual, bins) for residual in residuals], axis=0))
