"""Plan: turns of images and pairs, catch trials, and orders that are fair to methods."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from deflow_cli.errors import ConfigError, DataError
from deflow_cli.workflows.study.plan import PlanRequest, plan_forms, plan_trials

SIZES = {f"i{k}": (200 + 10 * k, 160) for k in range(4)}


def planned(mode="rank", methods=5, trials=20, catch_first=True, crop=128, **options):
    request = PlanRequest(mode, methods, catch_first, trials, crop, **options)
    return plan_trials(request, SIZES, np.random.default_rng(3))


def test_a_ranking_holds_the_catch_item_in_every_trial():
    trials = planned()
    assert [trial.practice for trial in trials] == [True] + [False] * 20
    assert {trial.items for trial in trials} == {(0, 1, 2, 3, 4, 5)}
    assert set(Counter(trial.image for trial in trials[:20]).values()) == {5}
    for trial in trials:
        width, height = SIZES[trial.image]
        assert 0 <= trial.left <= width - 128
        assert 0 <= trial.top <= height - 128


def test_crops_begin_at_multiples_and_reach_the_last_one():
    trials = planned(trials=400, multiple=4)
    assert {trial.left % 4 for trial in trials} == {trial.top % 4 for trial in trials} == {0}
    assert max(trial.left for trial in trials if trial.image == "i0") == 72
    assert {trial.top for trial in trials} == set(range(0, 33, 4))


@pytest.mark.parametrize(("trials", "catches"), [(20, 5), (90, 10)])
@pytest.mark.parametrize("mode", ["2afc", "best"])
def test_a_tenth_of_other_trials_are_catch_trials(mode: str, trials: int, catches: int):
    found = planned(mode, 4, trials)
    with_catch = [trial for trial in found[1:] if 4 in trial.items]
    assert (len(found) - 1, len(with_catch)) == (trials + catches, catches)
    assert len(with_catch) >= 0.1 * (len(found) - 1)
    assert {len(trial.items) for trial in with_catch} == {2 if mode == "2afc" else 5}


def test_a_source_that_must_lose_stands_beside_one_method_alone():
    catches = [trial.items for trial in planned("best", 3, 20, False) if 3 in trial.items]
    assert set(catches) == {(0, 3), (1, 3), (2, 3)}


def test_pairs_take_turns():
    pairs = [trial.items for trial in planned("2afc", 4, 30)[1:31]]
    assert Counter(pairs) == dict.fromkeys(itertools.combinations(range(4), 2), 5)


def test_every_pair_of_a_crop():
    trials = planned("2afc", 4, 20, every_pair=True)[1:21]
    for first in (0, 6, 12):
        block = trials[first : first + 6]
        assert len({(trial.image, trial.left, trial.top) for trial in block}) == 1
        assert {trial.items for trial in block} == set(itertools.combinations(range(4), 2))


@pytest.mark.parametrize("mode", ["rank", "2afc", "best"])
def test_each_place_is_fair(mode: str):
    trials = planned(mode, 3, 24)
    forms = plan_forms(trials, np.random.default_rng(0))
    most = max(len(trial.items) for trial in trials)
    assert len(forms) >= 24
    for form in forms:
        assert form.trials[0] == 0
        assert sorted(form.trials) == list(range(len(trials)))
    for number, trial in enumerate(trials):
        orders = [form.shown[form.trials.index(number)] for form in forms]
        assert {tuple(sorted(order)) for order in orders} == {trial.items}
        if len(trial.items) == most:  # exactly, over the forms of whole squares
            for place in range(most):
                assert set(Counter(order[place] for order in orders).values()) == {len(forms) // most}
    if mode == "rank":  # and within a form, as far as 25 trials divide by 4
        for form in forms:
            for place in range(4):
                counts = Counter(order[place] for order in form.shown)
                assert max(counts.values()) - min(counts.values()) <= 1


def test_same_seed_same_plan():
    assert planned() == planned()
    assert planned("best") != planned("best", crop=120)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": 1}, "1 method"),
        ({"trials": 4}, "--trials is 4"),
        ({"crop": 130, "multiple": 4}, "--crop is 130"),
        ({"crop": 8}, "--crop is 8"),
        ({"every_pair": True}, "--mode 2afc only"),
    ],
)
def test_what_cannot_be_planned(options, message: str):
    with pytest.raises(ConfigError, match=message):
        planned(**options)


def test_small_images_are_named():
    with pytest.raises(DataError, match=r"4 of 4 images .*i0 \(200x160\), i1") as raised:
        planned(crop=161)
    assert "--crop 160 or less" in raised.value.next_step
