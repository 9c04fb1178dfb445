"""What `deflow sr-train` is asked for, how long it runs, and what comes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deflow_cli.config.restorer import SrConfig, TrainingConfig
from deflow_cli.data.contents import contents_digest
from deflow_cli.paths import RESTORER_FILE
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.run_data import compare_data
from deflow_cli.workflows.restorer.data import SrData, SrSource


@dataclass(frozen=True)
class SrRequest:
    """What `deflow sr-train` was asked to do. out: the run's folder. arch: where it was named.

    accepts_changed_data: a run that is resumed may go on with other data than it began with.
    """

    source: SrSource
    out: Path
    config: SrConfig
    init: Path | None = None
    arch: str | None = None
    device: str = "auto"
    resume: bool = False
    accepts_changed_data: bool = False


@dataclass(frozen=True)
class SrResult:
    """What came of it. model_path: the best by ``select`` (of the last stage), of ``best_step``.

    scores: of that step on held-out pairs, by metric; input_scores: of the degraded pictures themselves.
    last_path: the weights of ``step``, whether they are the best or not.
    """

    run_dir: Path
    model_path: Path
    last_path: Path
    step: int
    best_step: int
    interrupted: bool
    select: str
    scores: dict[str, float]
    input_scores: dict[str, float]
    seconds: float


def kept_restorer(run_dir: Path, step: int) -> Path:
    """The file of the weights that ``sr.keep_at`` keeps of a step.

    >>> kept_restorer(Path("runs/sr"), 10_000).name
    'restorer-0010000.safetensors'
    """
    stem, _, suffix = RESTORER_FILE.partition(".")
    return run_dir / f"{stem}-{step:07d}.{suffix}"


class TrainingRequest(Protocol):
    """What the requests of all restorers have."""

    @property
    def out(self) -> Path: ...

    @property
    def accepts_changed_data(self) -> bool: ...


def open_alike(data: SrData, request: TrainingRequest, resumes: bool, reporter: Reporter) -> None:
    """Raise DataError or ConfigError unless all ranks have the same data, which a resumed run began with."""
    ranks, contents = data.ranks, data.contents
    ranks.check_same(contents_digest(contents), "the images", "give all machines the same folders")
    if resumes:
        ranks.on_main(lambda: compare_data(request.out, contents, request.accepts_changed_data, reporter))


class StagedConfig(Protocol):
    """A configuration with stages, whose lengths are in sections of their names."""

    @property
    def sr(self) -> TrainingConfig: ...

    @property
    def stages(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class StagePace:
    """The engine's view of a run of one or two stages."""

    iterations: int
    time_budget: float
    ema: float
    log_every: int
    checkpoint_every: int
    max_bad_steps: int
    tensorboard: bool

    @classmethod
    def of(cls, config: StagedConfig) -> StagePace:
        names = [field.name for field in dataclasses.fields(cls)][1:]
        total = 0 if config.sr.time_budget else sum(getattr(config, s).iterations for s in config.stages)
        return cls(total, **{name: getattr(config.sr, name) for name in names})
