"""Attention: whose answers count. A hidden item whose place is known tells who looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deflow_cli.errors import ConfigError
from deflow_cli.metrics.study.rankings import Ranking

LEAST_ACCURACY = 0.8
LEAST_CHECKS = 5
LEAST_SECONDS = 2.0


@dataclass(frozen=True)
class Attempt:
    """A trial of a participant. passed: whether the catch item stood where it must; None: there was none."""

    participant: str
    seconds: float
    passed: bool | None


@dataclass(frozen=True)
class Attention:
    """What is known of a participant. checks, passed: of trials that were not too fast. reason: why the
    answers are left out, empty where they are kept."""

    participant: str
    trials: int
    too_fast: int
    checks: int
    passed: int
    reason: str

    @property
    def accuracy(self) -> float:
        """Share of passed checks; NaN without any."""
        return self.passed / self.checks if self.checks else float("nan")


@dataclass(frozen=True)
class AttentionRule:
    """What is asked of a participant, and of a trial. Raises ConfigError for an accuracy that is no share."""

    accuracy: float = LEAST_ACCURACY
    checks: int = LEAST_CHECKS
    seconds: float = LEAST_SECONDS

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise ConfigError(
                f"the least accuracy is {self.accuracy:g}", next_step="use a share from 0 to 1, such as 0.8"
            )


def passes(ranking: Ranking, catch: int, first: bool) -> bool:
    """Whether the catch item alone stands in the first place, or where it must be last, in the last one."""
    return ranking[0 if first else -1] == (catch,)


def judge_attention(attempts: Sequence[Attempt], rule: AttentionRule) -> tuple[list[bool], list[Attention]]:
    """For each attempt whether it is kept, and for each participant why or why not, in order of appearance.

    Trials under ``rule.seconds`` are dropped first; then participants with fewer than ``rule.checks`` catch
    items left, or who passed less than ``rule.accuracy`` of them.
    """
    people = []
    for name in dict.fromkeys(attempt.participant for attempt in attempts):
        own = [attempt for attempt in attempts if attempt.participant == name]
        seen = [attempt for attempt in own if attempt.seconds >= rule.seconds]
        checks = [attempt.passed for attempt in seen if attempt.passed is not None]
        reason = ""
        if len(checks) < rule.checks:
            reason = f"{len(checks)} catch items seen, fewer than {rule.checks}"
        elif sum(checks) < rule.accuracy * len(checks):
            reason = f"{sum(checks)} of {len(checks)} catch items found, fewer than {rule.accuracy:.0%}"
        people.append(Attention(name, len(own), len(own) - len(seen), len(checks), sum(checks), reason))
    kept = {person.participant for person in people if not person.reason}
    return [a.participant in kept and a.seconds >= rule.seconds for a in attempts], people
