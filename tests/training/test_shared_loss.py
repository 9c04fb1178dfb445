"""Shared loss: averaged gradients are those of the whole batch, however the layers are computed."""

from __future__ import annotations

import pytest

from tests.rank_processes import ends, start_ranks

GRADIENTS = """
import copy
import torch
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.objective import Objective, TrainingNoise, draw_training_noise, part_of_noise
from deflow_cli.runtime.joining import joined_ranks
from deflow_cli.training.shared_loss import SharedLoss, mean_figures
from tests.inference.small import small_model
torch.set_num_threads(1)

def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

with joined_ranks("cpu") as (ranks, device):
    random = torch.Generator().manual_seed(0)
    model = small_model().train()
    clean, noisy = torch.rand(2, 4, 3, 32, 32, generator=random)
    noise = draw_training_noise(model, (8, 3, 32, 32), random)
    whole, figures = Objective(model)(clean, noisy, noise)
    whole.backward()
    expected = gradients(model)
    part = ranks.part(4)
    ours = clean[part.start:part.stop], noisy[part.start:part.stop], *part_of_noise(noise, part)
    for name in ("plain", "recomputed", "in runs", "in runs, recomputed"):
        trained = copy.deepcopy(model)
        trained.zero_grad()
        if "runs" in name:
            trained.train_in_runs()
        objective = Objective(trained, low_memory="recomputed" in name)
        loss_of = lambda c, n, u, z: objective(c, n, TrainingNoise(u, z))
        shared = SharedLoss(loss_of, [trained])
        for _ in range(3):  # the first learns the graph, which the others take as known
            trained.zero_grad(set_to_none=True)
            loss, parts = shared(*ours)
            loss.backward()
        found = gradients(trained)
        assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
        scale = max(float(value.abs().max()) for value in expected.values())
        worst = max(float((found[key] - expected[key]).abs().max()) for key in expected) / scale
        means = mean_figures(parts)
        assert abs(float(means["clean"]) - float(figures["clean"])) < 1e-5
        print(name, "agrees" if worst < 1e-5 else worst)
"""


@pytest.mark.slow(seconds=24)
def test_gradients_are_those_of_the_whole_batch() -> None:
    for code, output in ends(start_ranks(2, GRADIENTS)):
        assert code == 0, output
        ways = ["plain", "recomputed", "in runs", "in runs, recomputed"]
        assert [line for line in output.splitlines() if "agrees" in line] == [f"{way} agrees" for way in ways]
