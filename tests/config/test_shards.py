"""Shard: as a user writes it, or as a scheduler's variables say it."""

from __future__ import annotations

import pytest

from deflow_cli.config.shards import Shard
from deflow_cli.errors import ConfigError


def test_parts_are_disjoint_and_whole() -> None:
    parts = [Shard(number, 4).of(range(11)) for number in range(1, 5)]
    assert sorted(place for part in parts for place in part) == list(range(11))
    assert max(map(len, parts)) - min(map(len, parts)) == 1


def test_parsing() -> None:
    assert Shard.parse("3/10", {}) == Shard(3, 10)
    assert str(Shard(3, 10)) == "3/10"
    for text in ("0/4", "5/4", "1", "a/b", "1/0"):
        with pytest.raises(ConfigError, match="--shard"):
            Shard.parse(text, {})


def test_auto_asks_the_scheduler() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
    assert Shard.parse("auto", array) == Shard(3, 4)
    assert Shard.parse("auto", {**array, "RANK": "0", "WORLD_SIZE": "2"}) == Shard(3, 4)
    assert Shard.parse("auto", {"RANK": "1", "WORLD_SIZE": "2"}) == Shard(2, 2)
    with pytest.raises(ConfigError, match="do not follow one another"):
        Shard.parse("auto", {**array, "SLURM_ARRAY_TASK_STEP": "2"})
    with pytest.raises(ConfigError, match="say which part this is"):
        Shard.parse("auto", {})


def test_without_being_asked_the_scheduler_says_nothing() -> None:
    assert Shard.parse("1/2", {"SLURM_ARRAY_TASK_ID": "7"}) == Shard(1, 2)
