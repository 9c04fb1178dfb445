"""Bootstrap: draws of participants and of images, since trials that share one of them are not independent.

Participants are drawn with replacement, then images; a trial is in a draw as often as its participant times
its image (the pigeonhole bootstrap: Owen, "The pigeonhole bootstrap", 2007). A bootstrap over trials gives
intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deflow_cli.metrics.study.rankings import Reals

DRAWS = 2000
CONFIDENCE_LEVEL = 0.95


def two_way_weights(
    participants: Sequence[str], images: Sequence[str], draws: int, rng: np.random.Generator
) -> Reals:
    """How often each draw holds each trial: draws x trials. Trials name their participant and image."""
    weights = np.ones((draws, len(participants)))
    for names in (participants, images):
        levels, where = np.unique(np.asarray(names), return_inverse=True)
        weights *= rng.multinomial(len(levels), np.full(len(levels), 1 / len(levels)), draws)[:, where]
    return weights


def percentile_interval(draws_dm: Reals) -> Reals:
    """The 95 % percentile interval over draws, 2 x items. Draws without a value (NaN) are left out."""
    tail = (1 - CONFIDENCE_LEVEL) / 2
    known = draws_dm[np.isfinite(draws_dm).all(1)]
    if not len(known):
        return np.full((2, draws_dm.shape[1]), np.nan)
    return np.asarray(np.quantile(known, (tail, 1 - tail), axis=0))


def pair_p_values(draws_dm: Reals, pairs: Sequence[tuple[int, int]]) -> Reals:
    """Two-sided p for each pair: twice the smaller share of draws in which the difference has either sign.

    One is added to both counts, so that no p is 0 (Davison and Hinkley 1997, eq. 4.11).
    """
    if not pairs:
        return np.zeros(0)
    differences = np.stack([draws_dm[:, i] - draws_dm[:, j] for i, j in pairs], 1)
    fewer = np.minimum((differences <= 0).sum(0), (differences >= 0).sum(0))
    return np.asarray(np.minimum(1.0, 2 * (fewer + 1) / (len(draws_dm) + 1)))
