"""A space whose posterior is known: SRFlow learns p(y | x) of a Gaussian field given noisy block means."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.models.srflow.model import SRFlow, log_standard_normal

FIELD_STD, X_STD = 1.0, 0.3  # of the field's independent pixels, and of the noise on the block means
ENCODER = EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,))


def draw(count: int, random: torch.Generator, side: int = 8) -> tuple[Tensor, Tensor]:
    """Pixels of unit variance that share half of it within a 2 x 2 block, and the blocks' noisy means."""
    block = torch.randn((count, 3, side // 2, side // 2), generator=random)
    own = torch.randn((count, 3, side, side), generator=random)
    y = FIELD_STD * (0.5**0.5) * (block.repeat_interleave(2, 2).repeat_interleave(2, 3) + own)
    x = torch.nn.functional.avg_pool2d(y, 2)
    return y, x + X_STD * torch.randn(x.shape, generator=random)


def posterior() -> tuple[Tensor, Tensor]:
    """Gain and covariance of a block's four pixels given their noisy mean."""
    prior = FIELD_STD**2 * 0.5 * (torch.eye(4) + torch.ones(4, 4))
    mean = torch.full((4,), 0.25)
    variance = mean @ prior @ mean + X_STD**2
    gain = prior @ mean / variance
    return gain, prior - torch.outer(gain, prior @ mean)


@pytest.mark.slow(seconds=17)
@pytest.mark.parametrize("form", ["direct", "inverted"])
def test_covariance_and_calibration_of_samples(form: str) -> None:
    config = SRFlowConfig(
        scale=2, levels=1, steps=2, hidden_channels=16, form=form, pointwise="lu", affine="bounded"
    )
    model = SRFlow(SRFlowModelConfig(config, ENCODER), seed=1)
    random = torch.Generator().manual_seed(2)
    y, x = draw(128, random)
    model.start(y, x, None, regression=form == "inverted")
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / 300)
        y, x = draw(48, random)
        latents, log_det = model.encode_for_training(y, x)
        loss = -(log_standard_normal(latents) + log_det).mean() / y[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    y, x = draw(200, random)
    samples = sampled(model.eval(), x, 60, random)
    gain, covariance = posterior()

    centred = blocks(samples - samples.mean(0))  # samples x blocks x 4
    found = torch.einsum("snb,snc->bc", centred, centred) / (centred.shape[1] * (len(samples) - 1))
    assert (found - covariance).norm() < 0.1 * covariance.norm()

    means, expected = blocks(samples.mean(0)[None])[0], x.permute(0, 2, 3, 1).reshape(-1, 1) * gain
    error = (means - expected).square().mean().sqrt()
    allowed = (covariance.diagonal().mean() / len(samples)).sqrt()  # of a mean of so many samples
    assert error < 0.15 * FIELD_STD + allowed

    low, high = torch.quantile(samples, torch.tensor([0.1, 0.9]), dim=0)
    inside = ((y >= low) & (y <= high)).float().mean().item()
    assert inside == pytest.approx(0.8, abs=0.03)


@torch.no_grad()
def sampled(model: SRFlow, x: Tensor, count: int, random: torch.Generator) -> Tensor:
    conditions = model.prepare(x)
    draws = []
    for _ in range(count):
        shapes = model.latent_shapes(*x.shape[-2:])
        latents = [torch.randn((len(x), *shape), generator=random) for shape in shapes]
        draws.append(model.decode(latents, x, conditions))
    return torch.stack(draws)


def blocks(images_sbchw: Tensor) -> Tensor:
    """S B C H W as S x all blocks x their four pixels."""
    s, b, c, h, w = images_sbchw.shape
    cells = images_sbchw.reshape(s, b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return cells.reshape(s, -1, 4)
