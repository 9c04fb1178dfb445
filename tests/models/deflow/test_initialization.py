"""Where training begins: the flow at what h does not explain, the shift off the stationary point M = 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import TrainingError
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.invertible.coupling import FlowStep
from deflow_cli.models.deflow.initialization import start_constant, start_flow
from deflow_cli.models.deflow.latent import LatentPrior
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.moments import LatentSample, start_from_moments

MEAN = torch.tensor([0.5, -0.3, 0.0])
ROOT = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 0.0]])


def sample(generator: torch.Generator, degraded: bool, images: int = 24) -> LatentSample:
    """Latents of images: N(0, I), and with the shift where degraded."""
    result = LatentSample()
    for index in range(images):
        z, e = torch.randn((2, 1, 3, 40, 40), generator=generator).unbind()
        if degraded:
            z = z + MEAN[:, None, None] + torch.einsum("ij,bjhw->bihw", ROOT, e)
        result.add(f"{index}.png", [z], torch.rand((1, 3, 20, 20), generator=generator))
    return result


def root_gradient(prior: LatentPrior, sample: LatentSample) -> Tensor:
    latents = [torch.cat([z[0][None, :, :, None] for z in sample.latents])]
    prior.zero_grad()
    prior.log_prob_degraded(latents).mean().backward()
    gradient = prior.shared()[0].root.grad
    assert gradient is not None
    return gradient


def test_moments_recover_the_shift() -> None:
    generator = torch.Generator().manual_seed(1)
    clean, degraded = sample(generator, False), sample(generator, True)
    prior = LatentPrior([3])
    assert not root_gradient(prior, degraded).any()  # the published start stays where it is
    start_from_moments(prior, clean, degraded, generator)
    latent = prior.shared()[0]
    torch.testing.assert_close(latent.mean[0].detach(), MEAN, rtol=0, atol=0.03)
    torch.testing.assert_close(latent.covariance()[0].detach(), ROOT @ ROOT.T, rtol=0, atol=0.05)
    assert latent.spectrum()[0, 0] > 0.3
    assert root_gradient(prior, degraded).any()


@pytest.mark.parametrize("components", [1, 3])
def test_constant_start_is_off_the_stationary_point(components: int) -> None:
    prior = LatentPrior([3], components)
    start_constant(prior)
    assert (prior.shared()[0].spectrum() > 1e-4).all()
    assert root_gradient(prior, sample(torch.Generator().manual_seed(2), True, images=2)).any()


def test_moments_need_images_of_both_domains() -> None:
    generator = torch.Generator().manual_seed(3)
    some = sample(generator, True, images=1)
    for clean, degraded in ((LatentSample(), some), (some, LatentSample())):
        with pytest.raises(TrainingError, match="both domains"):
            start_from_moments(LatentPrior([3]), clean, degraded, generator)


def started(whiten: bool, precision: torch.dtype | None) -> tuple[DeFlow, torch.Tensor, torch.Tensor]:
    """A small model started on pictures whose detail follows h in part: (model, x, noisy h)."""
    flow = FlowConfig(
        levels=2, steps=2, hidden_channels=8, condition_channels=8, splits="none", scale="bounded"
    )
    model = DeFlow(ModelConfig(flow, EncoderConfig(8, 4, 1, (0,))))
    model.set_net_precision(precision)
    random = torch.Generator().manual_seed(4)
    x = 0.5 + 0.2 * torch.randn(6, 3, 4, 4, generator=random).repeat_interleave(8, 2).repeat_interleave(8, 3)
    x = x + 0.02 * torch.randn(x.shape, generator=random)
    h = model.condition_image(x)
    h = h + 0.03 * torch.randn(h.shape, generator=random)
    start_flow(model, x, h, whiten=whiten)
    return model, x, h


@torch.no_grad()
@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=str)
def test_start_leaves_what_h_does_not_explain(precision: torch.dtype | None) -> None:
    bits = {}
    for whiten in (False, True):
        model, x, h = started(whiten, precision)
        assert not any(module.pending for module in model.modules() if isinstance(module, ActNorm))
        latents, log_det = model.encode_conditioned(x, model.prepare(h))
        log_prob = model.prior.log_prob_clean(latents) + log_det
        bits[whiten] = float(model.nats_to_bits_per_dim(log_prob, x.shape).mean())
        couplings = [layer.coupling for layer in model.flow.layers if isinstance(layer, FlowStep)]
        assert not any(net.conv_out.weight.any() for net in couplings)
    assert bits[True] < bits[False] - 0.3


@torch.no_grad()
def test_conditions_of_a_start_serve_further_passes() -> None:
    model, x, h = started(whiten=False, precision=None)
    for layer in model.flow.layers:
        if isinstance(layer, FlowStep):
            layer.coupling.conv_out.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(2))
    model.start_from_next_batch()
    conditions = model.prepare(h)
    _, starting = model.encode_conditioned(x, conditions)
    _, again = model.encode_conditioned(x, conditions)
    torch.testing.assert_close(again, starting)
