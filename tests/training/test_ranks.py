"""Ranks: two processes of one training agree on which steps count, and one of them writes."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from deflow_cli.presets.reader import FIT
from deflow_cli.runtime.distributed import Ranks
from deflow_cli.runtime.progress import Silent
from deflow_cli.training.engine import Engine
from deflow_cli.workflows.fit.step import LossStep
from tests.forking import FORKING
from tests.rank_processes import free_port

SIZE = 2
POISONED = 3  # the step that is not finite on the last rank alone


def train(rank: int, port: int, root: Path) -> None:
    """What each process does; leaves the weights and the number of skipped steps."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=SIZE)
    settings = {"iterations": 6, "ema": 0.9, "log_every": 2, "checkpoint_every": 2, "learning_rate": 0.01}
    fit = dataclasses.replace(FIT.load("tiny").fit, **settings)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = nn.Linear(4, 2)

    def inputs_of(step: int) -> tuple[Tensor, ...]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        part = Ranks.current().part(len(x))
        assert list(part) == list(range(4 * rank, 4 * rank + 4))
        bad = step == POISONED and rank == SIZE - 1
        return x, torch.tensor(float("nan") if bad else 1.0)

    def loss_of(x: Tensor, factor: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = model(x).square().mean() * factor
        return loss, {"loss": loss}

    step = LossStep(model, fit, inputs_of, loss_of)
    out = root / f"rank{rank}"
    out.mkdir()
    engine = Engine([step.network], step, fit, out, Silent(), time.monotonic())
    engine.begin()
    engine.run({})
    torch.save(model.state_dict(), root / f"weights{rank}.pt")
    (root / f"progress{rank}.json").write_text(json.dumps(dataclasses.asdict(engine.progress)))
    distributed.destroy_process_group()


def test_two_ranks_skip_together_and_one_writes(tmp_path: Path) -> None:
    port = free_port()
    ranks = [FORKING.Process(target=train, args=(rank, port, tmp_path)) for rank in range(SIZE)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
        assert rank.exitcode == 0
    first, last = (torch.load(tmp_path / f"weights{rank}.pt") for rank in range(SIZE))
    assert all(torch.equal(first[key], last[key]) for key in first)
    for rank in range(SIZE):
        progress = json.loads((tmp_path / f"progress{rank}.json").read_text())
        assert (progress["step"], progress["bad_total"]) == (6, 1)
    assert {path.name for path in (tmp_path / "rank0").iterdir()} == {"state.safetensors", "log.jsonl"}
    assert not list((tmp_path / "rank1").iterdir())


def test_one_process_is_the_only_rank() -> None:
    assert Ranks.current() == Ranks(0, 1)
    flag = torch.tensor(False)
    assert Ranks.current().all_true(flag) is flag
