"""The model around the flow: pair likelihood, bits per dimension, colour statistics, padding, translation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.layers.invertible.actnorm import ActNorm
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.deflow.conditioning import DomainStatistics
from deflow_cli.models.deflow.model import CLEAN, DEGRADED, DeFlow
from tests.golden.tolerances import tolerance
from tests.layers.invertible.bijection import randomise


def small(**flow: object) -> DeFlow:
    defaults: dict[str, object] = {"levels": 2, "steps": 1, "hidden_channels": 4, "splits": "all"}
    encoder = EncoderConfig(channels=3, growth_channels=2, blocks=1, stacked_blocks=(0,))
    model = DeFlow(ModelConfig(FlowConfig(**defaults | flow), encoder))  # type: ignore[arg-type]
    randomise(model, torch.Generator().manual_seed(5))
    return model.eval()


def draw(*shape: int, seed: int = 8) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latents_of(seed: int, batch: int = 2) -> list[Tensor]:
    return [draw(batch, 6, 4, 2, seed=seed), draw(batch, 24, 2, 1, seed=seed + 1)]


@pytest.mark.parametrize("shift", ["correlated", "diagonal", "mixture:3"])
@pytest.mark.parametrize("jitter", [1e-3, 0.1])
def test_pair_likelihood(shift: str, jitter: float) -> None:
    model = small(shift=shift)
    z_x, z_y, log_det = latents_of(1), latents_of(3), draw(2)
    joint = torch.zeros(2, model.prior.components, dtype=torch.float64)
    for latent, a, b in zip(model.prior.shared(), z_x, z_y, strict=True):
        u = (b - a).permute(0, 2, 3, 1)
        for k in range(model.prior.components):
            covariance = latent.covariance()[k] + jitter * torch.eye(latent.channels, dtype=torch.float64)
            joint[:, k] += MultivariateNormal(latent.mean[k], covariance).log_prob(u).sum((1, 2))
    expected = torch.logsumexp(joint + model.prior.log_weights(), dim=1) + log_det
    actual = model.pair_log_prob(z_x, z_y, log_det, jitter)
    torch.testing.assert_close(actual, expected, rtol=tolerance("latent"), atol=0)


def test_pair_likelihood_survives_a_singular_shift() -> None:
    model = small()
    with torch.no_grad():
        for latent in model.prior.shared():
            latent.root.zero_()
    value = model.pair_log_prob(latents_of(1), latents_of(3), draw(2))
    value.sum().backward()
    assert torch.isfinite(value).all()


def test_bits_per_dimension() -> None:
    """A uniform density over [0, 1]^d is log2(levels) bits per dimension; a nat more is a nat less."""
    model, shape = small(), torch.Size((2, 3, 8, 4))
    zero = torch.zeros(2, dtype=torch.float64)
    assert model.nats_to_bits_per_dim(zero, shape).tolist() == pytest.approx([5.0, 5.0])
    assert model.nats_to_bits_per_dim(zero, shape, levels=256).tolist() == pytest.approx([8.0, 8.0])
    bits = model.nats_to_bits_per_dim(torch.tensor([96.0, -96.0]), shape)
    assert bits.tolist() == pytest.approx([5 - 1 / math.log(2), 5 + 1 / math.log(2)])


def test_statistics_are_the_identity_until_set() -> None:
    statistics, x = DomainStatistics(), torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    assert not statistics.active
    for function in (statistics.to_clean, statistics.to_clean_h, statistics.to_degraded):
        assert function(x) is x


def test_statistics_bring_one_domain_to_the_other() -> None:
    statistics = DomainStatistics().double()
    mean = torch.tensor([[0.5, 0.4, 0.3], [0.45, 0.5, 0.4], [0.5, 0.4, 0.3], [0.4, 0.45, 0.5]])
    std = torch.tensor([[0.05, 0.04, 0.03], [0.03, 0.05, 0.04], [0.04, 0.03, 0.02], [0.02, 0.03, 0.03]])
    statistics.set(mean, std)
    assert statistics.active
    y = 0.45 + 0.03 * draw(2, 3, 16, 16).clamp(-3, 3)
    mapped = statistics.to_clean(y)
    for c in range(3):
        expected = (y[:, c] - mean[1, c]) / std[1, c] * std[0, c] + mean[0, c]
        torch.testing.assert_close(mapped[:, c], expected.double(), rtol=1e-6, atol=1e-6)
        h = (y[:, c] - mean[3, c]) / std[3, c] * std[2, c] + mean[2, c]
        torch.testing.assert_close(
            statistics.to_clean_h(y)[:, c], h.double().clamp(0, 1), rtol=1e-6, atol=1e-6
        )
    torch.testing.assert_close(statistics.to_degraded(mapped), y)
    assert statistics.to_clean(10 * y).max() == 1


def test_saturation_is_part_of_the_map_between_the_domains() -> None:
    """y = S a x + c, S about the mean of the channels; back by the inverse, with its log-determinant."""
    statistics = DomainStatistics().double()
    mean = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.05, 0.02]]).repeat(2, 1)
    std = torch.tensor([[1.0, 1.0, 1.0], [0.8, 0.85, 0.9]]).repeat(2, 1)
    statistics.set(mean, std, 0.7)
    x = torch.rand((2, 3, 4, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scaled = x * std[1][:, None, None].double()
    grey = scaled.mean(1, keepdim=True)
    y = statistics.to_degraded(x)
    torch.testing.assert_close(
        y, grey + 0.7 * (scaled - grey) + mean[1][:, None, None].double(), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(statistics.to_clean(y), x)
    torch.testing.assert_close(statistics.to_clean_h(y), x)

    def of_pixel(pixel: torch.Tensor) -> torch.Tensor:
        return statistics.to_clean(pixel.view(1, 3, 1, 1)).flatten()

    jacobian = torch.autograd.functional.jacobian(of_pixel, y[0, :, 0, 0])
    assert torch.linalg.slogdet(jacobian)[1] == pytest.approx(float(statistics.log_det))
    statistics.set(torch.zeros(4, 3), torch.ones(4, 3), 0.9)
    assert statistics.active


def test_statistics_from_before_there_was_a_saturation() -> None:
    old = {key: value for key, value in DomainStatistics().state_dict().items() if key != "saturation"}
    old["std"] = torch.full((4, 3), 0.3)
    statistics = DomainStatistics()
    statistics.set(old["mean"], old["std"], 0.5)
    statistics.load_state_dict(old)
    assert float(statistics.saturation) == 1


def test_condition_image_is_of_its_domain() -> None:
    model = small(downsample=4)
    x = torch.rand((1, 3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    clean = model.condition_image(x)
    assert clean.shape == (1, 3, 2, 2)
    torch.testing.assert_close(model.condition_image(x, DEGRADED), clean)
    model.statistics.mean[3] += 0.1
    moved = (clean - 0.1).clamp(0, 1)
    torch.testing.assert_close(model.condition_image(x, DEGRADED), moved)
    torch.testing.assert_close(model.condition_image(x, CLEAN), clean)


def test_whether_statistics_differ_is_asked_once_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = DomainStatistics._differ
    monkeypatch.setattr(DomainStatistics, "_differ", lambda self: asked.append(1) or plain(self))
    ours, other = DomainStatistics(), DomainStatistics()
    mean, std = torch.rand(4, 3), torch.rand(4, 3)
    assert [ours.active, ours.active] == [False, False]
    assert len(asked) == 1
    ours.set(mean, std)
    assert ours.active
    assert ours.active
    assert len(asked) == 2
    assert not other.active
    other.load_state_dict(ours.state_dict())
    assert other.active
    other.load_state_dict(DomainStatistics().state_dict(), assign=True)
    assert not other.active
    other.mean[1] += 1  # as any change in place
    assert other.active
    assert other.double().active
    with torch.inference_mode():
        fresh = DomainStatistics()
        assert not fresh.active
        fresh.set(mean, std)
        assert fresh.active


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 15), (3, 20), (1, 1)])
def test_padding_keeps_the_image_and_mirrors_its_edge(height: int, width: int) -> None:
    image = draw(1, 3, height, width)
    padded = pad_to_multiple(image, 8)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert padded.shape[-2] - height < 8
    assert torch.equal(padded[..., :height, :width], image)
    assert set(padded.flatten().tolist()) <= set(image.flatten().tolist())


def test_every_actnorm_starts_from_the_next_batch() -> None:
    model = small().float()
    x = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(3))
    norms = [m for m in model.modules() if isinstance(m, ActNorm)]
    before = [m.bias.detach().clone() for m in norms]
    model.start_from_next_batch()
    model.encode_conditioned(x, model.prepare(model.condition_image(x)))
    assert not any(m.pending for m in norms)
    assert all(not torch.equal(m.bias, b) for m, b in zip(norms, before, strict=True))


def test_one_preparation_serves_encoding_decoding_and_samples() -> None:
    model = small()
    x = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        conditions = model.prepare(model.condition_image(x))
        latents, first = model.encode_conditioned(x, conditions)
        model.decode_conditioned(latents, conditions)
        _, second = model.encode_conditioned(x, conditions)
    assert torch.equal(first, second)
