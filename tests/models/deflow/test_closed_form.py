"""The one-dimensional closed form: an affine flow and a shift find the two sets' moments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.models.deflow.latent import LatentPrior
from tests.golden.tolerances import tolerance


def two_sets(std_y: float) -> tuple[Tensor, Tensor]:
    """x of N(0.4, 0.2^2) and y of N(0.7, std_y^2), 500 values each, unpaired."""
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn((2, 500, 1, 1, 1), generator=generator, dtype=torch.float64).unbind()
    return 0.4 + 0.2 * x, 0.7 + std_y * y


def closed_form(x: Tensor, y: Tensor) -> dict[str, float]:
    """The optimum (DeFlow, appendix A, B), from population moments; sets weigh equally."""
    var_x, var_y = float(x.var(correction=0)), float(y.var(correction=0))
    shared = var_x if var_y > var_x else (var_x + var_y) / 2
    return {
        "mu_x": float(x.mean()),
        "s_x": shared**0.5,
        "mu_u": float(y.mean() - x.mean()),
        "s_u": max(var_y - var_x, 0.0) ** 0.5,
    }


def figures(flow: ActNorm, prior: LatentPrior) -> dict[str, float]:
    """What a fitted flow z = (x + bias) e^logs and shift say in units of the images."""
    latent, scale = prior.shared()[0], float(torch.exp(-flow.logs.detach()))
    return {
        "mu_x": -float(flow.bias.detach()),
        "s_x": scale,
        "mu_u": float(latent.mean.detach()) * scale,
        "s_u": float(latent.covariance().detach().sqrt()) * scale,
    }


@pytest.mark.parametrize("std_y", [0.5, 0.21, 0.1], ids=["wider", "barely-wider", "narrower"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_gradient_finds_the_closed_form(std_y: float, diagonal: bool) -> None:
    x, y = two_sets(std_y)
    flow, prior = ActNorm(1).double(), LatentPrior([1], diagonal=diagonal).double()
    with torch.no_grad():
        prior.shared()[0].root.fill_(0.3)  # off the stationary point
    parameters = [*flow.parameters(), *prior.shared()[0].parameters()]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for images, log_prob in ((x, prior.log_prob_clean), (y, prior.log_prob_degraded)):
            z, log_det = flow(images)
            total = total - (log_prob([z]) + log_det).mean()
        return total

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(3):
        optimiser.step(closure)
    found, expected = figures(flow, prior), closed_form(x, y)
    if expected["s_u"] == 0.0:
        assert found.pop("s_u") < 1e-4
        del expected["s_u"]
    assert found == pytest.approx(expected, rel=tolerance("closed_form"))


def test_started_without_randomness_it_never_learns_any() -> None:
    """The published start M = 0: the flow takes what the shift should have."""
    x, y = two_sets(0.5)
    flow, prior = ActNorm(1).double(), LatentPrior([1]).double()
    parameters = [*flow.parameters(), *prior.shared()[0].parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(200):
        loss = torch.zeros((), dtype=torch.float64)
        for images, log_prob in ((x, prior.log_prob_clean), (y, prior.log_prob_degraded)):
            z, log_det = flow(images)
            loss = loss - (log_prob([z]) + log_det).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert not prior.shared()[0].root.detach().any()
    assert figures(flow, prior)["s_x"] > 1.5 * closed_form(x, y)["s_x"]


@pytest.mark.parametrize("std_y", [0.5, 0.1])
def test_moments_are_the_closed_form(std_y: float) -> None:
    x, y = two_sets(std_y)
    flow, prior = ActNorm(1).double(), LatentPrior([1]).double()
    with torch.no_grad():
        std, mean = torch.std_mean(x, correction=0)
        flow.bias.fill_(-float(mean))
        flow.logs.fill_(-float(std.log()))
        z_x, z_y = flow(x)[0], flow(y)[0]
        excess = (z_y.var(correction=0) - z_x.var(correction=0)).reshape(1, 1)
        prior.shared()[0].set_moments(0, (z_y.mean() - z_x.mean()).reshape(1), excess)
    expected = closed_form(x, y) | {"s_x": float(x.std(correction=0))}  # the pooled one takes a gradient
    assert figures(flow, prior) == pytest.approx(expected, rel=1e-9, abs=1e-12)
