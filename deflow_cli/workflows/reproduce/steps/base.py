"""Base: what the steps of an experiment have in common, and the place where they find what they work on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import DataError
from deflow_cli.runtime.progress import Reporter
from deflow_cli.workflows.reproduce.experiments import Experiment
from deflow_cli.workflows.reproduce.layouts import ChallengeLayout
from deflow_cli.workflows.reproduce.methods import Method
from deflow_cli.workflows.reproduce.recipes import Recipe
from deflow_cli.workflows.reproduce.steps.ledger import Facts, Ledger

Stage = Literal["prepare", "degraders", "pairs", "restorers", "score", "table"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PREPARED = "prepare"  # the step, and its folder
CLEAN_SMALL, CLEAN_PLAIN, VALID_SMALL = "clean", "clean-plain", "valid-clean"  # below it
# Settings of trainings that change what they record, what they hold in memory and how fast they are, no more.
WITHOUT_EFFECT = frozenset(
    ("cache_mib", "checkpoint_every", "crop_pool_mib", "log_every", "preview_every", "report", "tensorboard")
)
KERNELS = "kernels"  # the step that estimates blur kernels, and its folder
TUNED = "tune/white-noise/choice"  # the step that chooses the std of white noise


@dataclass(frozen=True)
class Cost:
    """What a step takes, estimated: seconds on one GPU with 16 cores, and bytes on disk."""

    seconds: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Bench:
    """An experiment at work. init: the restorer that all others start from; None: one is trained.

    kernels: a folder of blur kernels that was given; None: they are estimated where the experiment blurs.
    """

    experiment: Experiment
    layout: ChallengeLayout
    recipe: Recipe
    ledger: Ledger
    device: str
    reporter: Reporter
    init: Path | None = None
    kernels: Path | None = None

    @property
    def hr(self) -> Path:
        """Clean images at full size, which the restorers are to give."""
        parts = self.layout.parts
        return parts["noisy" if self.experiment.clean_is_noisy else "clean"].folder

    @property
    def kernels_folder(self) -> Path | None:
        """Where the blur kernels are; None for an experiment that does not blur."""
        if not self.experiment.blurs:
            return None
        return self.kernels or self.ledger.folder(KERNELS)

    def folder_of(self, role: str) -> Path:
        """The folder of a role: a part of the data, or ``clean_small`` and others that `prepare` made."""
        made = {"clean_small": CLEAN_SMALL, "clean_plain": CLEAN_PLAIN, "valid_small": VALID_SMALL}
        if role in made:
            return self.ledger.folder(PREPARED) / made[role]
        return self.layout.parts[role].folder


@dataclass(frozen=True)
class ExperimentStep:
    """One step. needs: steps whose outputs it reads. settings: all else that its outputs depend on.

    trains: whether it shares a budget of time. needs_features: whether it trains a restorer by a perceptual
    loss, whose weights must be here. what: for people. inputs: what it reads, in words.
    cost: an estimate.
    """

    trains: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    name: str
    stage: Stage
    needs: tuple[str, ...]
    settings: Facts
    what: str
    inputs: tuple[str, ...]
    cost: Cost

    @property
    def method_of(self) -> str:
        """The method that it is of; empty for steps that all methods need."""
        return self.name.split("/")[1] if "/" in self.name else ""

    def run(self, bench: Bench) -> Facts:
        """Do it, or go on where it was interrupted; returns what the later steps want to know.

        Raises DeflowError as the command does that this step stands for, KeyboardInterrupt where that was
        interrupted.
        """
        raise NotImplementedError


def fit_name(method: str, seed: int) -> str:
    """The step that fits a method's model."""
    return f"fit/{method}/seed{seed}"


def degrader_for(method: Method, seed: int, bench: Bench) -> DegraderChoice:
    """A method's degrader as it was fitted for a seed, ready to be named to a command."""
    options: dict[str, Any] = method.options_for(bench.experiment.name, bench.recipe.small)
    options |= {option: bench.folder_of(role) for option, role in method.folders.items()}
    if method.fit in ("flow", "network"):
        options["model"] = bench.ledger.folder(fit_name(method.name, seed))
    elif method.fit == "sigma":
        options["sigma"] = bench.ledger.result(TUNED)["sigma"]
    return DegraderChoice(method.degrader, **options)


def config_facts(config: Any) -> dict[str, Any]:
    """A configuration as nested settings, with tuples as lists, but for what no output depends on."""
    facts: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    for part in facts.values():
        if isinstance(part, dict):
            for name in part.keys() & WITHOUT_EFFECT:
                del part[name]
    return facts


def went_on(interrupted: bool) -> None:
    """Raise KeyboardInterrupt where a training was interrupted: its state is saved, nothing may follow."""
    if interrupted:
        raise KeyboardInterrupt


def require_all(failed: list[tuple[Path, str]]) -> None:
    """Raise DataError naming the first image that could not be done: a table without it would be another."""
    if failed:
        path, reason = failed[0]
        rest = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise DataError(f"{path}: {reason}{rest}", next_step="mend the image, and run the same command again")
