"""Loop: what all trainings share: a start or a resume, batches made ahead, and steps to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.batches import BatchStream
from deflow_cli.training.engine import Engine, Hooks


def describe_ranks(ranks: Ranks, batch_size: int, device: torch.device, reporter: Reporter) -> None:
    """Say how a batch is divided among several ranks, and what is left off for them."""
    if ranks.size == 1:
        return
    reporter.note(f"ranks: {ranks.size} processes, each {batch_size // ranks.size} of a batch")
    if device.type == "cuda":
        reporter.note(
            "steps are computed without CUDA graphs, which cannot hold what the GPUs send each other"
        )


def run_training(
    engine: Engine,
    batches: BatchStream[Any],
    hooks: Hooks,
    *,
    begin: Callable[[], None] | None,
    resumed: Callable[[], object] = lambda: None,
) -> bool:
    """Train from the start or from the state on disk, to the end. Returns False where it was interrupted.

    begin: called before a run's first step, to initialise the networks from data; None: the run resumes.
    resumed: called once the state is back. Of several ranks the main one calls them, and the others get its
    weights and its facts.
    """
    if begin is None:
        engine.restore()
        engine.reporter.note(f"resumed at step {engine.progress.step}")
        engine.on_main(resumed)
    else:
        engine.on_main(begin)
        engine.state.share_weights()
        engine.begin()
    with batches.prefetching(engine.progress.step):
        return engine.run(hooks)
