"""Make a study: crops of all methods on one page for participants, and the key that says what they saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.images.remarks import hears_remarks
from deflow_cli.errors import ConfigError
from deflow_cli.reports.pages.pictures import data_uri
from deflow_cli.reports.pages.study_form import study_form
from deflow_cli.runtime.progress import Reporter
from deflow_cli.runtime.seeding import derived_seed
from deflow_cli.texts import encoded
from deflow_cli.workflows.study.plan import (
    MODES,
    PRACTICE,
    Form,
    Mode,
    PlannedTrial,
    PlanRequest,
    plan_forms,
    plan_trials,
)
from deflow_cli.workflows.study.records import CATCH, KeyTrial, StudyKey
from deflow_cli.workflows.study.sources import StudySources, match_sources

PAGE_FOLDER = "page"  # what participants get; the key lies beside it
PAGE_FILE = "study.html"
KEY_FILE = "key.json"
LARGE_PAGE = 40_000_000  # bytes; phones load more only slowly
MANY_TO_RANK = 7


@dataclass(frozen=True)
class MakeStudyRequest:
    """What `deflow study make` was asked for. reference, low: one of them.

    trials: for each participant. crop: side in pixels of the outputs. zoom: screen pixels for each of them.
    every_pair: of 2afc, all pairs of each crop. contact: whom participants may ask.
    """

    methods: tuple[Path, ...]
    target: Path
    reference: Path | None = None
    low: Path | None = None
    mode: Mode = "rank"
    trials: int = 30
    crop: int = 128
    zoom: int = 2
    every_pair: bool = False
    title: str = "Image quality study"
    contact: str = ""
    seed: int = 0


@dataclass(frozen=True)
class MakeStudyRecord:
    """What was made. catch_trials: trials with a catch item. bytes: of the page. images: with a crop."""

    page: Path
    key: Path
    study: str
    mode: str
    methods: tuple[str, ...]
    images: int
    trials: int
    catch_trials: int
    forms: int
    bytes: int
    seed: int


@hears_remarks
def make_study(request: MakeStudyRequest, reporter: Reporter) -> MakeStudyRecord:
    """Write the page and the key. Raises DeflowError for images that do not fit, or a target that is used."""
    _check(request)
    sources = match_sources(request.methods, request.reference, request.low)
    if request.mode == "rank" and len(sources.methods) > MANY_TO_RANK:
        reporter.warn(f"{len(sources.methods)} methods are many to rank at once; consider --mode 2afc")
    rng = np.random.default_rng(derived_seed(request.seed, "study"))
    asked = PlanRequest(
        request.mode,
        len(sources.methods),
        sources.is_reference,
        request.trials,
        request.crop,
        sources.scale,
        request.every_pair,
    )
    planned = plan_trials(asked, sources.sizes, rng)
    forms = plan_forms(planned, rng)
    draft = _draft(planned, sources, rng)
    images = _pictures(request, planned, draft, sources, reporter)
    page_data = _page_data(request, planned, forms, draft, images)
    kind = "reference" if sources.is_reference else "source"
    page = encoded(study_form(page_data, kind, request.title, request.contact))
    key = StudyKey(
        page_data["study"],
        request.mode,
        kind,
        sources.methods,
        tuple(str(folder) for folder in sources.folders),
        request.crop,
        request.zoom,
        request.seed,
        tuple(drafted.trial for drafted in draft),
    )
    page_path, key_path = request.target / PAGE_FOLDER / PAGE_FILE, request.target / KEY_FILE
    write_atomically(page_path, page)
    write_atomically(key_path, encoded(key.text()))
    if len(page) > LARGE_PAGE:
        reporter.warn(
            f"{page_path}: {len(page) / 1e6:.0f} MB load slowly on a phone; fewer --trials or a smaller"
            " --crop make it smaller"
        )
    return MakeStudyRecord(
        page_path,
        key_path,
        key.study,
        key.mode,
        key.methods,
        len({trial.image for trial in planned}),
        len(planned) - PRACTICE,
        sum(len(sources.methods) in trial.items for trial in planned[PRACTICE:]),
        len(forms),
        len(page),
        request.seed,
    )


@dataclass(frozen=True)
class _Drafted:
    """A trial as the key names it, with the tokens of its items and of its reference."""

    trial: KeyTrial
    tokens: dict[int, str]
    anchor: str


def _check(request: MakeStudyRequest) -> None:
    if request.mode not in MODES:
        raise ConfigError(f"--mode is {request.mode!r}", next_step=f"use one of {', '.join(MODES)}")
    if (request.reference is None) == (request.low is None):
        raise ConfigError(
            "a study shows references or low-resolution sources", next_step="pass either --ref GT or --lq LQ"
        )
    if not 1 <= request.zoom <= 8:
        raise ConfigError(f"--zoom is {request.zoom}", next_step="use 1 to 8; 2 is usual")
    if request.target.exists() and (not request.target.is_dir() or any(request.target.iterdir())):
        raise ConfigError(
            f"{request.target}: is there already and not an empty folder",
            next_step="pass a new folder as the last argument, OUT; answers fit only the study they are of",
        )


def _draft(
    planned: Sequence[PlannedTrial], sources: StudySources, rng: np.random.Generator
) -> list[_Drafted]:
    """Give trials, items and references their tokens, in an order that says nothing."""
    names = (*sources.methods, CATCH)
    drafted = []
    for trial in planned:
        trial_id, anchor = _token(rng), _token(rng)
        tokens = {item: _token(rng) for item in trial.items}
        candidates = {tokens[item]: names[item] for item in sorted(trial.items, key=tokens.__getitem__)}
        key = KeyTrial(trial_id, trial.image, trial.left, trial.top, trial.practice, candidates)
        drafted.append(_Drafted(key, tokens, anchor))
    return drafted


def _token(rng: np.random.Generator) -> str:
    return rng.bytes(6).hex()


def _pictures(
    request: MakeStudyRequest,
    planned: Sequence[PlannedTrial],
    draft: Sequence[_Drafted],
    sources: StudySources,
    reporter: Reporter,
) -> dict[str, str]:
    """The crops as data URIs by token, sorted by token. Each image is read once."""
    images: dict[str, str] = {}
    names = sorted({trial.image for trial in planned})
    reporter.start("cut", len(names))
    for done, name in enumerate(names, start=1):
        pictures = sources.pictures(name)
        for trial, drafted in zip(planned, draft, strict=True):
            if trial.image != name:
                continue
            rows = slice(trial.top, trial.top + request.crop)
            columns = slice(trial.left, trial.left + request.crop)
            for item in trial.items:
                images[drafted.tokens[item]] = data_uri(pictures[item][rows, columns])
            images[drafted.anchor] = data_uri(pictures[-1][rows, columns])
        reporter.update(done)
    reporter.finish()
    return dict(sorted(images.items()))


def _page_data(
    request: MakeStudyRequest,
    planned: Sequence[PlannedTrial],
    forms: Sequence[Form],
    draft: Sequence[_Drafted],
    images: dict[str, str],
) -> dict[str, Any]:
    """What the page's script reads; ``study`` is a hash of all the rest."""
    places = [
        {item: list(drafted.trial.candidates).index(token) for item, token in drafted.tokens.items()}
        for drafted in draft
    ]
    data = {
        "mode": request.mode,
        "crop": request.crop,
        "zoom": request.zoom,
        "practice": PRACTICE,
        "trials": [
            {
                "id": drafted.trial.id,
                "reference": drafted.anchor,
                "candidates": list(drafted.trial.candidates),
            }
            for drafted in draft
        ],
        "forms": [
            {
                "order": form.trials,
                "shown": [
                    [places[number][item] for item in items]
                    for number, items in zip(form.trials, form.shown, strict=True)
                ],
            }
            for form in forms
        ],
        "images": images,
    }
    return {"study": hashlib.sha256(json.dumps(data).encode("ascii")).hexdigest()[:16], **data}
