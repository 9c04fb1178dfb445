"""Loop: what all trainings share: a start or a resume, batches made ahead, and steps to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deflow_cli.training.batches import BatchStream
from deflow_cli.training.engine import Engine, Hooks


def run_training(
    engine: Engine,
    batches: BatchStream[Any],
    hooks: Hooks,
    *,
    begin: Callable[[], None] | None,
    resumed: Callable[[], None] = lambda: None,
) -> bool:
    """Train from the start or from the state on disk, to the end. Returns False where it was interrupted.

    begin: called before a run's first step, to initialise the networks from data; None: the run resumes.
    resumed: called once the state is back.
    """
    if begin is None:
        engine.restore()
        engine.reporter.note(f"resumed at step {engine.progress.step}")
        resumed()
    else:
        begin()
        engine.begin()
    with batches.prefetching(engine.progress.step):
        return engine.run(hooks)
