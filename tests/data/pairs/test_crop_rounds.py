"""Rounds: every crop comes as often as it should, in company of its own, as a function of the step alone."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from deflow_cli.data.pairs.crop_rounds import ONCE, Rounds

COUNT, SEED = 3, 5


def test_used_once_crops_come_in_order():
    for rounds in (ONCE, Rounds(1, 4)):
        numbers = [rounds.numbers(step, COUNT, SEED) for step in range(9)]
        assert numbers == [[step * COUNT + row for row in range(COUNT)] for step in range(9)]


def test_each_crop_of_a_round_comes_as_often_as_it_should():
    rounds = Rounds(uses=4, steps=5)
    for past in range(2):
        steps = [rounds.numbers(step, COUNT, SEED) for step in range(past * 20, past * 20 + 20)]
        own = range(past * 15, past * 15 + 15)
        assert steps[:5] == [list(own)[place : place + COUNT] for place in range(0, 15, COUNT)]
        for first in range(0, 20, 5):  # each pass has all of them
            assert sorted(chain(*steps[first : first + 5])) == list(own)
        assert Counter(chain(*steps)) == dict.fromkeys(own, 4)
        assert len({tuple(sorted(numbers)) for numbers in steps}) == 20  # no batch twice


def test_orders_belong_to_seed_and_round():
    rounds = Rounds(uses=2, steps=8)
    orders = [rounds.numbers(step, COUNT, seed) for step, seed in ((8, 0), (8, 1), (24, 0))]
    orders[2] = [number - 8 * COUNT for number in orders[2]]
    assert len({tuple(order) for order in orders}) == 3
    assert rounds.numbers(8, COUNT, 0) == orders[0]
