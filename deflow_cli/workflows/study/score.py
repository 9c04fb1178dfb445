"""Score a study: files of answers become figures, with all that was left out on the way."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli import __version__
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.metrics.study.agreement import trials_needed
from deflow_cli.metrics.study.attention import (
    Attempt,
    Attention,
    AttentionRule,
    judge_attention,
    passes,
)
from deflow_cli.metrics.study.bootstrap import DRAWS
from deflow_cli.metrics.study.rankings import catch_mean_rank, says_something, without_item
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.workflows.study.analysis import SIGNIFICANT, StudyFigures, analyse
from deflow_cli.workflows.study.metric_orders import MetricOrder, metric_orders
from deflow_cli.workflows.study.records import (
    Answer,
    AnswerSet,
    StudyKey,
    answer_files,
    read_answers,
    read_key,
)

FEW_RATERS = 15  # a crop is judged by at least so many people in standard practice
FEW_PEOPLE = 10  # a bootstrap over fewer gives intervals that are too narrow
RANK_GAP = 0.1  # of mean ranks, for which the trials needed are told


@dataclass(frozen=True)
class ScoreStudyRequest:
    """What `deflow study score` was asked for. answers: files, or folders of them. metrics: scores of
    ``deflow score`` of the same methods. seed: of the bootstrap."""

    answers: tuple[Path, ...]
    key: Path
    metrics: Path | None = None
    rule: AttentionRule = dataclasses.field(default_factory=AttentionRule)
    draws: int = DRAWS
    seed: int = 0


@dataclass(frozen=True)
class StudyReport:
    """All figures, who was kept, and what a reader must know."""

    request: ScoreStudyRequest
    key: StudyKey
    found: AnswerSet
    people: tuple[Attention, ...]
    kept: tuple[Answer, ...]
    figures: StudyFigures
    orders: tuple[MetricOrder, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The whole report as plain values; NaN where a figure is not defined."""
        kept = {person.participant for person in self.people if not person.reason}
        too_fast = sum(person.too_fast for person in self.people)
        return {
            "version": __version__,
            "study": self.key.study,
            "mode": self.key.mode,
            "kind": self.key.kind,
            "crop": self.key.crop,
            "seed": self.request.seed,
            "draws": self.figures.draws,
            "rule": dataclasses.asdict(self.request.rule),
            "participants": {
                "recruited": len(self.people),
                "kept": len(kept),
                "people": [
                    {**dataclasses.asdict(person), "accuracy": person.accuracy} for person in self.people
                ],
            },
            "trials": {
                "files": self.found.files,
                "practice": self.found.practice,
                "repeated": self.found.repeated,
                "answered": len(self.found.answers),
                "too_fast": too_fast,
                "of_people_left_out": len(self.found.answers) - too_fast - len(self.kept),
                "kept": len(self.kept),
            },
            "methods": [dataclasses.asdict(method) for method in self.figures.methods],
            "pairs": [dataclasses.asdict(pair) for pair in self.figures.pairs],
            "separated": list(self.figures.separated),
            "identity": self._identity(),
            "agreement": self._agreement(),
            "power": self._power(),
            "metrics": [dataclasses.asdict(order) for order in self.orders],
            "notes": list(self.notes),
        }

    def _identity(self) -> dict[str, float] | None:
        """The sum of all mean ranks, and the catch item's twice: from the sum, and counted."""
        means = [method.mean_rank.value for method in self.figures.methods if method.mean_rank is not None]
        if self.figures.catch_rank is None:
            return None
        items = len(means) + 1
        return {
            "items": items,
            "expected_sum": items * (items + 1) / 2,
            "sum_of_methods": sum(means),
            "catch_from_sum": catch_mean_rank(means),
            "catch_counted": self.figures.catch_rank,
        }

    def _agreement(self) -> dict[str, Any] | None:
        if not self.figures.agreement:
            return None
        found = [dataclasses.asdict(one) for one in self.figures.agreement]
        values = [one["w"] for one in found if math.isfinite(one["w"])]
        return {"mean_w": sum(values) / len(values) if values else math.nan, "crops": found}

    def _power(self) -> dict[str, float] | None:
        sd = self.figures.rank_sd
        if sd is None:
            return None
        visible = sd * math.sqrt(trials_needed(1.0, 1.0) / len(self.kept))
        return {
            "rank_sd": sd,
            "gap": RANK_GAP,
            "trials_for_gap": trials_needed(RANK_GAP, sd),
            "visible_gap": visible,
        }


def score_study(request: ScoreStudyRequest, reporter: Reporter) -> StudyReport:
    """Score the answers. Raises DeflowError for files that do not fit, or where no answer is left."""
    if request.draws < 100:
        raise ConfigError(f"--draws is {request.draws}", next_step="use at least 100; 2000 are usual")
    key = read_key(request.key)
    found = read_answers(answer_files(request.answers), key)
    catch = len(key.methods)
    kept_flags, people = judge_attention([_attempt(a, catch, key.kind) for a in found.answers], request.rule)
    kept = [answer for answer, is_kept in zip(found.answers, kept_flags, strict=True) if is_kept]
    if not any(says_something(without_item(answer.ranking, catch)) for answer in kept):
        raise DataError(
            _nothing_left(found, people), next_step="collect more answers, or ask for less attention"
        )
    reporter.note(f"kept {len(kept)} of {len(found.answers)} answers")
    rng = np.random.default_rng(derived_seed(request.seed, "study", "bootstrap"))
    figures = analyse(kept, key.methods, key.mode == "rank", request.draws, rng)
    strengths = {method.name: method.strength.value for method in figures.methods}
    orders = metric_orders(request.metrics, strengths) if request.metrics is not None else ()
    notes = _notes(found, people, kept, figures)
    return StudyReport(request, key, found, tuple(people), tuple(kept), figures, orders, notes)


def _attempt(answer: Answer, catch: int, kind: str) -> Attempt:
    is_check = any(catch in group for group in answer.ranking)
    passed = passes(answer.ranking, catch, kind == "reference") if is_check else None
    return Attempt(answer.participant, answer.seconds, passed)


def _nothing_left(found: AnswerSet, people: Sequence[Attention]) -> str:
    reasons = [f"{person.participant}: {person.reason}" for person in people if person.reason]
    why = (
        f"; {len(reasons)} of {len(people)} participants are left out (first: {reasons[0]})"
        if reasons
        else ""
    )
    return f"no answer of {len(found.answers)} in {found.files} files tells methods apart{why}"


def _notes(
    found: AnswerSet, people: Sequence[Attention], kept: Sequence[Answer], figures: StudyFigures
) -> tuple[str, ...]:
    """What a reader of the figures must know."""
    notes = []
    if found.repeated:
        notes.append(f"{found.repeated} answers were there twice (same participant and trial) and dropped")
    for model in figures.separated:
        notes.append(
            f"{model} is separated: some methods always stand above others, and their strengths have no"
            " finite value; half a virtual win of each method over each other one was added, cut at 10"
        )
    remaining = sum(not person.reason for person in people)
    if remaining < FEW_PEOPLE:
        notes.append(
            f"intervals from {remaining} participants are too narrow; they want {FEW_PEOPLE} or more"
        )
    raters = Counter(answer.trial.id for answer in kept)
    few = sum(count < FEW_RATERS for count in raters.values())
    if few:
        notes.append(f"{few} of {len(raters)} crops were judged by fewer than {FEW_RATERS} people")
    least = 2 / (figures.draws + 1) * len(figures.pairs)
    if least >= SIGNIFICANT:
        notes.append(f"{figures.draws} draws cannot tell {len(figures.pairs)} pairs apart; raise --draws")
    return tuple(notes)
