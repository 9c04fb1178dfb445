"""Plan: which crops are judged, which methods stand in each trial, and in which orders they are shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from deflow_cli.data.images.listing import name_some
from deflow_cli.errors import ConfigError, DataError

Mode = Literal["rank", "2afc", "best"]
MODES: tuple[Mode, ...] = ("rank", "2afc", "best")
LEAST_CATCHES = 5  # fewer say too little of a participant
CATCH_SHARE = 0.1
LEAST_FORMS = 24
PRACTICE = 1
Size = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class PlannedTrial:
    """A crop and what is judged on it.

    left, top: of the crop, pixels of the outputs. items: methods by number; their count is the catch item.
    """

    image: str
    left: int
    top: int
    items: tuple[int, ...]
    practice: bool = False


@dataclass(frozen=True)
class Form:
    """What one participant sees: the trials in order, and for each the order of its items."""

    trials: tuple[int, ...]
    shown: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class PlanRequest:
    """What to plan. catch_first: the catch item is the reference, and must win; otherwise it must lose.

    trials: that are judged; those of catch items alone come on top. every_pair: of a 2afc study, all pairs of
    each crop. multiple: crops begin at multiples of it.
    """

    mode: Mode
    methods: int
    catch_first: bool
    trials: int
    crop: int
    multiple: int = 1
    every_pair: bool = False


def plan_trials(
    request: PlanRequest, sizes: dict[str, Size], rng: np.random.Generator
) -> tuple[PlannedTrial, ...]:
    """The practice trial, then the trials; images take turns, and so do the pairs of a 2afc study.

    In ``rank`` the catch item stands in every trial, as in DeFlow's study. In the other modes it would tell
    nothing of the methods there, so trials for it are added: a tenth of all, at least five.
    sizes: of every image, (width, height). Raises ConfigError or DataError for what cannot be planned.
    """
    _check(request, sizes)
    images = _turns(sorted(sizes), rng)
    catch = request.methods

    def trial(items: Sequence[int], practice: bool = False, at: PlannedTrial | None = None) -> PlannedTrial:
        if at is not None:
            return PlannedTrial(at.image, at.left, at.top, tuple(items))
        image = next(images)
        left, top = (
            request.multiple * int(rng.integers(0, (side - request.crop) // request.multiple + 1))
            for side in sizes[image]
        )
        return PlannedTrial(image, left, top, tuple(items), practice)

    everyone = tuple(range(request.methods))
    if request.mode == "rank":
        return tuple(trial((*everyone, catch), practice=number == 0) for number in range(request.trials + 1))
    catches = _turns([(*everyone, catch)], rng)
    if request.mode == "2afc" or not request.catch_first:
        catches = _turns([(method, catch) for method in everyone], rng)
    planned = [trial(next(catches), practice=True)]
    if request.mode == "best":
        planned += [trial(everyone) for _ in range(request.trials)]
    else:
        pairs = list(itertools.combinations(everyone, 2))
        turns = _turns(pairs, rng)
        for number in range(request.trials):
            same_crop = request.every_pair and number % len(pairs) > 0
            planned.append(trial(next(turns), at=planned[-1] if same_crop else None))
    added = max(LEAST_CATCHES, math.ceil(request.trials * CATCH_SHARE / (1 - CATCH_SHARE)))
    return (*planned, *(trial(next(catches)) for _ in range(added)))


def plan_forms(trials: Sequence[PlannedTrial], rng: np.random.Generator) -> tuple[Form, ...]:
    """Orders in Latin squares, so that places are fair to methods.

    Over the forms of a square each item of a trial is shown in each place equally often, and over the trials
    of a form each method is, as far as their number allows.
    """
    most = max(len(trial.items) for trial in trials)
    count = most * math.ceil(LEAST_FORMS / most)
    shown: list[dict[int, tuple[int, ...]]] = [{} for _ in range(count)]
    for size in sorted({len(trial.items) for trial in trials}):
        alike = [number for number, trial in enumerate(trials) if len(trial.items) == size]
        for first in range(0, count, size):
            _fill_squares(trials, alike, shown[first : first + size], rng)
    forms = []
    for orders in shown:
        shuffled = rng.permutation(np.arange(PRACTICE, len(trials)))
        order = (*range(PRACTICE), *(int(number) for number in shuffled))
        forms.append(Form(order, tuple(orders[number] for number in order)))
    return tuple(forms)


def _fill_squares(
    trials: Sequence[PlannedTrial],
    alike: Sequence[int],
    forms: Sequence[dict[int, tuple[int, ...]]],
    rng: np.random.Generator,
) -> None:
    """Give trials of equally many items their orders in up to so many forms."""
    size = len(trials[alike[0]].items)
    mixed = [alike[k] for k in rng.permutation(len(alike))]
    for start in range(0, len(mixed), size):
        columns = rng.permutation(size)
        for row, number in enumerate(mixed[start : start + size]):
            for turn, form in enumerate(forms):
                places = np.roll(columns, row + turn)
                form[number] = tuple(trials[number].items[place] for place in places)


def _turns(values: Sequence[T], rng: np.random.Generator) -> Iterator[T]:
    """The values without end: all of them in a random order, then all in another one."""
    while True:
        for number in rng.permutation(len(values)):
            yield values[number]


def _check(request: PlanRequest, sizes: dict[str, Size]) -> None:
    if request.methods < 2:
        raise ConfigError(
            f"a study of {request.methods} method: two or more are compared", next_step="pass more folders"
        )
    if request.trials < LEAST_CATCHES:
        raise ConfigError(
            f"--trials is {request.trials}: with fewer than {LEAST_CATCHES} nobody's attention can be judged",
            next_step="use 15 to 30",
        )
    if request.every_pair and request.mode != "2afc":
        raise ConfigError("--every-pair goes with --mode 2afc only", next_step="leave it out")
    if request.crop < 16 or request.crop % request.multiple:
        raise ConfigError(
            f"--crop is {request.crop}: a multiple of {request.multiple} of at least 16 is expected",
            next_step=f"use {max(2, round(request.crop / request.multiple)) * request.multiple}"
            if request.crop >= 16
            else "use 128",
        )
    small = [f"{name} ({w}x{h})" for name, (w, h) in sorted(sizes.items()) if min(w, h) < request.crop]
    if small:
        least = min(min(size) for size in sizes.values()) // request.multiple * request.multiple
        raise DataError(
            f"{len(small)} of {len(sizes)} images are smaller than a crop of {request.crop} px:"
            f" {name_some(small)}",
            next_step=f"use --crop {least} or less, or leave these images out",
        )
