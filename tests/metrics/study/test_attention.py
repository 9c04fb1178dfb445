"""Attention: fast trials go first, then whoever misses catch items or saw too few."""

from __future__ import annotations

import math

from deflow_cli.metrics.study.attention import Attempt, AttentionRule, judge_attention, passes


def attempts(name: str, checks: str, seconds: float = 5.0) -> list[Attempt]:
    """A trial a letter: + passed, - missed, . without a catch item."""
    found = {"+": True, "-": False, ".": None}
    return [Attempt(name, seconds, found[one]) for one in checks]


def test_who_is_kept():
    given = [*attempts("good", "++++-"), *attempts("bad", "+++--"), *attempts("new", "++++.")]
    kept, people = judge_attention(given, AttentionRule())
    assert kept == [True] * 5 + [False] * 10
    assert [person.reason for person in people] == [
        "",
        "3 of 5 catch items found, fewer than 80%",
        "4 catch items seen, fewer than 5",
    ]
    assert people[0].accuracy == 0.8


def test_fast_trials_are_dropped_and_no_check():
    given = [*attempts("a", "+++++."), *attempts("a", "--", 1.99), *attempts("b", "+++++", 0.5)]
    kept, people = judge_attention(given, AttentionRule())
    assert kept == [True] * 6 + [False] * 7
    assert (people[0].too_fast, people[0].checks, people[0].reason) == (2, 5, "")
    assert people[1].reason == "0 catch items seen, fewer than 5"
    assert math.isnan(people[1].accuracy)


def test_where_the_catch_item_must_stand():
    assert passes(((2,), (0,), (1,)), 2, first=True)
    assert not passes(((0,), (2,), (1,)), 2, first=True)
    assert passes(((0,), (1,), (2,)), 2, first=False)
    assert not passes(((0,), (1, 2)), 2, first=False)
