"""Judging: whether what a command made of an animal is what must come of it."""

from __future__ import annotations

import re

import numpy as np

from tests.zoo.animals import Animal, Refused, Right
from tests.zoo.commands import LEAST_SIDE, Outcome, Visit, read


def outcomes(visit: Visit, animal: Animal) -> dict[str, Outcome]:
    """By command. Of ``read`` also the pixels are judged here; the other commands' are in the visit."""
    outcome, found = read(visit.all / animal.path)
    problem = outcome.problem or (_pixels_problem(animal, found) if found is not None else "")
    key = animal.path
    return {
        "read": Outcome(outcome.refused, problem),
        "degrade": visit.degraded[key],
        "restore": visit.restored[key],
        "score": visit.scored[key],
        "make-pairs": visit.paired[key],
        "fit": visit.scanned[key],
    }


def problems(visit: Visit, animal: Animal) -> dict[str, str]:
    """What is wrong, by command; empty where all is as expected."""
    found = {command: _problem(animal, command, each) for command, each in outcomes(visit, animal).items()}
    return {command: text for command, text in found.items() if text}


def _problem(animal: Animal, command: str, outcome: Outcome) -> str:
    if outcome.problem:
        return outcome.problem
    expected = animal.expected
    if isinstance(expected, Right):
        small = command in ("make-pairs", "fit") and min(expected.pixels.shape[:2]) < LEAST_SIDE
        return f"refused: {outcome.refused}" if bool(outcome.refused) != small else ""
    if not isinstance(expected, Refused):
        return ""
    if not outcome.refused:  # a scan reads headers alone; a training drops what it cannot decode
        return "" if command == "fit" else "it was not refused"
    if not re.search(expected.reason, outcome.refused):
        return f"refused for another reason than {expected.reason!r}: {outcome.refused}"
    return ""


def _pixels_problem(animal: Animal, found: Right) -> str:
    expected = animal.expected
    if isinstance(expected, Refused):
        return ""
    if found.pixels.dtype != expected.pixels.dtype or not np.array_equal(found.pixels, expected.pixels):
        return "wrong pixels"
    if (found.alpha is None) != (expected.alpha is None) or (
        found.alpha is not None and not np.array_equal(found.alpha, expected.alpha)
    ):
        return "wrong transparency"
    if isinstance(expected, Right) and not _as_said(expected.said, found.said):
        return f"said {found.said!r}, expected {expected.said!r}"
    return ""


def _as_said(pattern: str, said: str) -> bool:
    return bool(re.search(pattern, said)) if pattern else not said
