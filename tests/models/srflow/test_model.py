"""SRFlow: a bijection of y given x in all forms, its likelihood, and what it refuses."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.errors import ShapeError
from deflow_cli.models.srflow.model import SRFlow
from tests.golden.tolerances import tolerance
from tests.layers.invertible.bijection import randomise

ENCODER = EncoderConfig(channels=3, growth_channels=2, blocks=1, stacked_blocks=(0,))


def small(**srflow: object) -> SRFlow:
    defaults: dict[str, object] = {"scale": 2, "levels": 2, "steps": 1, "hidden_channels": 4}
    config = SRFlowConfig(**defaults | srflow)  # type: ignore[arg-type]
    model = SRFlow(SRFlowModelConfig(config, ENCODER))
    randomise(model, torch.Generator().manual_seed(5))
    return model.eval()


def images(height: int = 2, width: int = 4, scale: int = 2, batch: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(6)
    x = torch.rand((batch, 3, height, width), generator=random, dtype=torch.float64)
    y = torch.rand((batch, 3, height * scale, width * scale), generator=random, dtype=torch.float64)
    return y, x


@pytest.mark.parametrize(
    ("form", "splits", "residual", "noise"),
    [
        *product(("direct", "inverted"), ("published", "all"), ("none", "consistent"), ("strength",)),
        ("direct", "all", "bicubic", "uniform"),
    ],
)
def test_likelihood_by_the_jacobian(form: str, splits: str, residual: str, noise: str) -> None:
    model = small(form=form, splits=splits, residual=residual, noise=noise)
    y, x = images(height=2, width=2, batch=1)
    strength = torch.tensor([0.3], dtype=torch.float64)
    conditions = model.prepare(x, strength)

    def latents_of(image: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in model.encode(image, x, conditions)[0]])

    jacobian = torch.autograd.functional.jacobian(latents_of, y).reshape(y.numel(), y.numel())
    expected = Normal(0.0, 1.0).log_prob(latents_of(y)).sum() + torch.linalg.slogdet(jacobian)[1]
    actual = model.log_prob(y, x, conditions)[0]
    assert abs((actual - expected).item()) < tolerance("bijection") * y.numel()
    back = model.decode(model.encode(y, x, conditions)[0], x, conditions)
    torch.testing.assert_close(back, y, rtol=0, atol=tolerance("bijection") * 10)


def test_the_strength_of_the_noise_is_seen_where_it_is_told() -> None:
    y, x = images()
    told, strength = small(noise="strength"), torch.tensor([0.0, 1.0], dtype=torch.float64)
    without, with_strength = told.prepare(x), told.prepare(x, strength)
    assert not torch.equal(told.log_prob(y, x, without), told.log_prob(y, x, with_strength))
    assert torch.equal(told.log_prob(y, x, without)[0], told.log_prob(y, x, with_strength)[0])
    assert small(noise="uniform").encoder.conv_first.weight.shape[1] == 3


@pytest.mark.parametrize("low_memory", [False, True])
def test_training_and_plain_encoding_agree(low_memory: bool) -> None:
    model = small(noise="strength", residual="consistent")
    y, x = images()
    strength = torch.tensor([0.2, 0.7], dtype=torch.float64)
    plain, log_det = model.encode(y, x, model.prepare(x, strength))
    for in_runs in (False, True):
        if in_runs:
            model.train_in_runs()
        latents, other = model.encode_for_training(y, x, strength, low_memory=low_memory)
        for a, b in zip(latents, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance("bijection") * 100)
        torch.testing.assert_close(other, log_det, rtol=1e-9, atol=0)


def test_bits_per_dimension() -> None:
    model = small(noise="uniform", noise_levels=32)
    log_prob = torch.tensor([-12.0 * math.log(2.0)])
    assert model.bits_per_dim(log_prob, 12).item() == pytest.approx(1.0 + 5.0)
    assert model.bits_per_dim(log_prob, 12, levels=256).item() == pytest.approx(1.0 + 8.0)
    assert small(noise="gaussian").bits_per_dim(log_prob, 12).item() == pytest.approx(1.0 + 8.0)


def test_sides_that_do_not_fit() -> None:
    model = small(scale=2, levels=2)
    assert model.size_multiple == 2
    y, x = images(height=3, width=4)
    with pytest.raises(ShapeError, match="3x4 of x are not multiples of 2"):
        model.encode(y, x, [])
    y, x = images()
    with pytest.raises(ShapeError, match="not 2 times those of x"):
        model.encode(y[..., :4], x, [])


@pytest.mark.parametrize(
    ("scale", "levels", "expected"),
    [
        (4, 3, [(6, 16, 24), (96, 4, 6)]),
        (8, 4, [(6, 32, 48), (12, 16, 24), (192, 4, 6)]),
    ],
)
def test_latents_of_the_published_sizes(scale: int, levels: int, expected: list[tuple[int, ...]]) -> None:
    model = SRFlow(SRFlowModelConfig(SRFlowConfig(scale=scale, levels=levels, steps=1), ENCODER))
    assert model.latent_shapes(8, 12) == expected
