"""Studies for tests: small folders of outputs, and participants that answer as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.workflows.study.records import CATCH, KeyTrial, StudyKey

METHODS = ("method-p", "method-q", "method-r")
SIDE = 48


def lay_out(root: Path, images: int = 3, methods: tuple[str, ...] = METHODS) -> None:
    """gt/, lq/ (a quarter of the side) and a folder for each method, each worse than the one before."""
    rng = np.random.default_rng(0)
    for number in range(images):
        truth = rng.integers(60, 190, (SIDE, SIDE + 16, 3)).astype(float)
        pictures = {"gt": truth, "lq": truth[::4, ::4]}
        for worse, method in enumerate(methods, start=1):
            pictures[method] = truth + rng.normal(0, 8 * worse, truth.shape)
        for folder, pixels in pictures.items():
            whole = np.clip(pixels, 0, 255).astype(np.uint8)
            write_image(root / folder / f"i{number}.png", Image(whole))


Choose = Callable[[KeyTrial, list[str]], list[list[str]]]  # names shown in, groups of names out, best first


def write_answers(
    path: Path, key: StudyKey, participant: str, choose: Choose, seconds: float = 6.0, repeat: int = 1
) -> None:
    """A file as the page saves it: every trial, practice too, ``repeat`` times."""
    rows = []
    for trial in key.trials * repeat:
        tokens = {name: token for token, name in trial.candidates.items()}
        ranking = [[tokens[name] for name in group] for group in choose(trial, list(tokens))]
        rows.append(
            {"trial": trial.id, "shown": list(tokens.values()), "ranking": ranking, "seconds": seconds}
        )
    document = {
        "format": "deflow-study-answers",
        "version": 1,
        "study": key.study,
        "participant": participant,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**document, "answers": rows}), encoding="utf-8")


def by_strength(strengths: dict[str, float], rng: np.random.Generator, firsts: bool = False) -> Choose:
    """Rankings of Plackett-Luce; the catch item is always found. firsts: the best, then all others tied."""

    def choose(trial: KeyTrial, names: list[str]) -> list[list[str]]:
        noisy = {name: strengths[name] + rng.gumbel() for name in names if name != CATCH}
        order = sorted(noisy, key=lambda name: -noisy[name])
        order = [CATCH, *order] if CATCH in names else order
        return [order[:1], order[1:]] if firsts else [[name] for name in order]

    return choose
