"""Analysis: what the answers that are kept say of methods: mean ranks, strengths, and which pairs differ."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deflow_cli.metrics.study.agreement import kendalls_w
from deflow_cli.metrics.study.bootstrap import pair_p_values, percentile_interval, two_way_weights
from deflow_cli.metrics.study.bradley_terry import pair_contests
from deflow_cli.metrics.study.choices import ChoiceData, fit_choices
from deflow_cli.metrics.study.letters import holm, letter_display
from deflow_cli.metrics.study.plackett_luce import ranking_choices
from deflow_cli.metrics.study.rankings import (
    Reals,
    mean_ranks_of,
    places_of,
    says_something,
    without_item,
)
from deflow_cli.workflows.study.records import Answer

SIGNIFICANT = 0.05
_DRAW_TOLERANCE = 1e-6
_ELO = 400 / math.log(10)


@dataclass(frozen=True)
class IntervalEstimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> IntervalEstimate:
        return IntervalEstimate(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class MethodFigures:
    """One method. mean_rank: the catch item counted, as published; corrected: without it; both None unless
    all are ranked at once. strength: Plackett-Luce log strength. bradley_terry: from all pairs; elo: the same
    times 400 / ln 10. firsts: share of the trials with the method that it won among the methods. letters: of
    the display.
    """

    name: str
    mean_rank: IntervalEstimate | None
    corrected: IntervalEstimate | None
    strength: IntervalEstimate
    bradley_terry: IntervalEstimate
    elo: IntervalEstimate
    firsts: float
    letters: str


@dataclass(frozen=True)
class PairFigures:
    """Two methods, the better first: the difference of their strengths, and p before and after Holm."""

    first: str
    second: str
    difference: IntervalEstimate
    p: float
    p_holm: float


@dataclass(frozen=True)
class Agreement:
    """Kendall's W of the people who ranked one crop."""

    image: str
    trial: str
    raters: int
    w: float


@dataclass(frozen=True)
class StudyFigures:
    """All figures; methods are sorted from the best.

    separated: models whose likelihood has no finite maximum. catch_rank: mean rank of the catch item.
    rank_sd: standard deviation of ranks without the catch item. draws: of the bootstrap, that hold trials.
    """

    methods: tuple[MethodFigures, ...]
    pairs: tuple[PairFigures, ...]
    agreement: tuple[Agreement, ...]
    separated: tuple[str, ...]
    catch_rank: float | None
    rank_sd: float | None
    draws: int


def analyse(
    answers: Sequence[Answer], names: Sequence[str], is_full: bool, draws: int, rng: np.random.Generator
) -> StudyFigures:
    """Figures of answers (at least one that tells methods apart). is_full: all items stand in every trial."""
    count = len(names)
    weights = two_way_weights(
        [answer.participant for answer in answers], [answer.trial.image for answer in answers], draws, rng
    )
    rankings = [without_item(answer.ranking, count) for answer in answers]
    telling = np.array([says_something(ranking) for ranking in rankings])
    weights = weights[weights[:, telling].sum(1) > 0]
    models: dict[str, ChoiceData] = {
        "Plackett-Luce": ranking_choices(rankings, count),
        "Bradley-Terry": pair_contests(rankings, count),
    }
    fits = {model: fit_choices(data) for model, data in models.items()}
    drawn = {model: fit_choices(data, weights, _DRAW_TOLERANCE) for model, data in models.items()}
    strengths = fits["Plackett-Luce"].log_strengths_dm[0]
    strength_draws = drawn["Plackett-Luce"].log_strengths_dm
    order = [int(k) for k in np.argsort(-strengths, kind="stable")]
    pairs = _pairs(order, names, strengths, strength_draws)
    letters = _letters(order, names, pairs)
    ranks = corrected = None
    catch_rank = rank_sd = None
    if is_full:
        places = np.stack([places_of(answer.ranking, count + 1) for answer in answers])
        alone = np.stack([places_of(ranking, count) for ranking in rankings])
        ranks, corrected = (_estimates(mean_ranks_of(p), mean_ranks_of(p, weights)) for p in (places, alone))
        catch_rank, rank_sd = float(places[:, count].mean()), float(np.sqrt(alone.var(0).mean()))
    by_strength = _estimates(strengths, strength_draws)
    terry = _estimates(fits["Bradley-Terry"].log_strengths_dm[0], drawn["Bradley-Terry"].log_strengths_dm)
    methods = tuple(
        MethodFigures(
            names[k],
            None if ranks is None else ranks[k],
            None if corrected is None else corrected[k],
            by_strength[k],
            terry[k],
            terry[k].times(_ELO),
            _firsts(rankings, k),
            letters[names[k]],
        )
        for k in order
    )
    separated = tuple(model for model, fit in fits.items() if fit.separated_d[0])
    agreement = _agreement(answers, rankings, count) if is_full else ()
    return StudyFigures(methods, pairs, agreement, separated, catch_rank, rank_sd, len(weights))


def _estimates(values: Reals, draws_dm: Reals) -> list[IntervalEstimate]:
    low, high = percentile_interval(draws_dm)
    return [
        IntervalEstimate(*(float(part) for part in parts)) for parts in zip(values, low, high, strict=True)
    ]


def _pairs(
    order: Sequence[int], names: Sequence[str], strengths: Reals, draws_dm: Reals
) -> tuple[PairFigures, ...]:
    pairs = list(itertools.combinations(order, 2))
    p_values = pair_p_values(draws_dm, pairs)
    corrected = holm(p_values)
    differences = np.stack([draws_dm[:, i] - draws_dm[:, j] for i, j in pairs], 1)
    estimates = _estimates(np.array([strengths[i] - strengths[j] for i, j in pairs]), differences)
    return tuple(
        PairFigures(names[i], names[j], estimate, float(p), float(p_holm))
        for (i, j), estimate, p, p_holm in zip(pairs, estimates, p_values, corrected, strict=True)
    )


def _letters(order: Sequence[int], names: Sequence[str], pairs: Sequence[PairFigures]) -> dict[str, str]:
    place = {names[item]: number for number, item in enumerate(order)}
    different = {(place[pair.first], place[pair.second]) for pair in pairs if pair.p_holm < SIGNIFICANT}
    return dict(zip(place, letter_display(len(order), different), strict=True))


def _firsts(rankings: Sequence[tuple[tuple[int, ...], ...]], method: int) -> float:
    """How often a method stood alone above the others, of the rankings that tell and hold it."""
    told = [ranking for ranking in rankings if says_something(ranking) and any(method in g for g in ranking)]
    return sum(ranking[0] == (method,) for ranking in told) / len(told) if told else math.nan


def _agreement(
    answers: Sequence[Answer], rankings: Sequence[tuple[tuple[int, ...], ...]], count: int
) -> tuple[Agreement, ...]:
    """Of crops that two or more people ranked."""
    by_trial = defaultdict(list)
    images = {}
    for answer, ranking in zip(answers, rankings, strict=True):
        by_trial[answer.trial.id].append(places_of(ranking, count))
        images[answer.trial.id] = answer.trial.image
    return tuple(
        Agreement(images[trial], trial, len(places), kendalls_w(np.stack(places)))
        for trial, places in sorted(by_trial.items(), key=lambda item: (images[item[0]], item[0]))
        if len(places) > 1
    )
