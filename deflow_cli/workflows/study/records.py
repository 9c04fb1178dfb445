"""Records of a study: the key, which names what participants saw, and their files of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deflow_cli.data.images.listing import name_some
from deflow_cli.errors import DataError
from deflow_cli.metrics.study.rankings import Ranking

KEY_FORMAT = "deflow-study-key"
ANSWERS_FORMAT = "deflow-study-answers"
STUDY_VERSION = 1
CATCH = "(catch item)"


@dataclass(frozen=True)
class KeyTrial:
    """A trial. candidates: by token, the method's name, or `CATCH`. left, top: of the crop, output pixels."""

    id: str
    image: str
    left: int
    top: int
    practice: bool
    candidates: Mapping[str, str]


@dataclass(frozen=True)
class StudyKey:
    """What the answers' tokens mean. study: a hash of the page. kind: ``reference`` or ``source``: the catch
    item, which must be first or last."""

    study: str
    mode: str
    kind: str
    methods: tuple[str, ...]
    folders: tuple[str, ...]
    crop: int
    zoom: int
    seed: int
    trials: tuple[KeyTrial, ...]

    def text(self) -> str:
        """The file's text."""
        return json.dumps({"format": KEY_FORMAT, "version": STUDY_VERSION, **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class Answer:
    """One trial of one participant. ranking: of the methods by number; their count is the catch item."""

    participant: str
    trial: KeyTrial
    ranking: Ranking
    seconds: float


@dataclass(frozen=True)
class AnswerSet:
    """Answers of all files, practice left out, each (participant, trial) once. repeated: those dropped."""

    answers: tuple[Answer, ...]
    files: int
    repeated: int
    practice: int


def read_key(path: Path) -> StudyKey:
    """The key of a study. Raises DataError naming the file."""
    found = _read_document(path, KEY_FORMAT, "pass the key.json that `deflow study make` wrote as --key")
    try:
        trials = tuple(KeyTrial(**trial) for trial in found.pop("trials"))
        methods, folders = tuple(found.pop("methods")), tuple(found.pop("folders"))
        return StudyKey(**found, methods=methods, folders=folders, trials=trials)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a whole key ({error})", next_step="use the key as it was written"
        ) from error


def answer_files(paths: Sequence[Path]) -> list[Path]:
    """The files given, and the .json files of the folders given. Raises DataError where there are none."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise DataError(
                f"{path}: holds no .json file", next_step="pass the participants' files of answers"
            )
        files += inside
    return files


def read_answers(paths: Sequence[Path], key: StudyKey) -> AnswerSet:
    """All answers to the key's study.

    Raises DataError naming every file of another study, or the first that is broken.
    """
    documents = [
        (path, _read_document(path, ANSWERS_FORMAT, "pass files that the study's page saved"))
        for path in paths
    ]
    others = [
        f"{path} ({found.get('study')})" for path, found in documents if found.get("study") != key.study
    ]
    if others:
        raise DataError(
            f"{len(others)} of {len(documents)} files answer another study than {key.study}:"
            f" {name_some(others)}",
            next_step="score them with their key, or leave them out",
        )
    trials = {trial.id: trial for trial in key.trials}
    items = {name: number for number, name in enumerate((*key.methods, CATCH))}
    found: dict[tuple[str, str], Answer] = {}
    total = practice = 0
    for path, document in documents:
        for answer in _answers(path, document, trials, items):
            if answer.trial.practice:
                practice += 1
                continue
            total += 1
            found.setdefault((answer.participant, answer.trial.id), answer)
    return AnswerSet(tuple(found.values()), len(documents), total - len(found), practice)


def _read_document(path: Path, kind: str, next_step: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})", next_step=next_step) from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})", next_step=next_step) from error
    if not isinstance(found, dict) or found.pop("format", None) != kind:
        raise DataError(f"{path}: no file of format {kind}", next_step=next_step)
    if (version := found.pop("version", None)) != STUDY_VERSION:
        raise DataError(
            f"{path}: version {version!r}, not {STUDY_VERSION}", next_step="use the deflow that made it"
        )
    return found


def _answers(
    path: Path, document: Mapping[str, Any], trials: Mapping[str, KeyTrial], items: Mapping[str, int]
) -> list[Answer]:
    """The answers of a file. Raises DataError for what its page cannot have written."""
    made = []
    for number, row in enumerate(document.get("answers", ()), start=1):
        try:
            trial = trials[row["trial"]]
            groups = [[items[trial.candidates[token]] for token in group] for group in row["ranking"]]
            seconds, participant = float(row["seconds"]), str(document["participant"])
            ranked = [item for group in groups for item in group]
            if sorted(ranked) != sorted(items[name] for name in trial.candidates.values()) or not all(groups):
                raise ValueError("each candidate must be ranked once")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: answer {number} does not fit the study ({error})",
                next_step="use the file as the page saved it, or leave it out",
            ) from error
        made.append(Answer(participant, trial, tuple(map(tuple, groups)), seconds))
    return made
