"""Super-resolving: tiles that do not show, samples that depend on seed and place alone, latents and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.errors import DeflowError, ShapeError
from deflow_cli.inference.positional_noise import LatentNoise
from deflow_cli.inference.super_resolving import SampleRequest, SuperResolver, strayed_share
from deflow_cli.layers.networks.resize import bicubic_downsample
from tests.golden.tolerances import tolerance
from tests.inference.small_srflow import images, started_srflow


@pytest.fixture(scope="module")
def sampler() -> SuperResolver:
    return SuperResolver(started_srflow(), tile=0)


def sample(sampler: SuperResolver, x: Tensor, temperature: float = 0.8, seed: int = 0) -> Tensor:
    found = torch.empty(x.shape[0], 3, x.shape[2] * 4, x.shape[3] * 4)

    def write(index: int, window, piece: Tensor) -> None:
        found[(..., *window.slices)] = piece

    noise = [LatentNoise(seed, str(row)) for row in range(len(x))]
    sampler.restore(x, SampleRequest(noise, [temperature]), write)
    return found


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (10, 13)])
def test_any_size(sampler: SuperResolver, size: tuple[int, int]) -> None:
    y = sampler.sample(images(2, *size), samples=3)
    assert y.shape == (2, 3, 3, size[0] * 4, size[1] * 4)
    assert torch.isfinite(y).all()
    assert (y.min(), y.max()) >= (0, 0)
    assert y.max() <= 1


def test_samples_differ_and_repeat(sampler: SuperResolver) -> None:
    x = images(1, 12, 14)
    first, second = sampler.sample(x, samples=2)[0]
    assert (first - second).abs().mean() > 1e-3
    assert torch.equal(sampler.sample(x, samples=2), sampler.sample(x, samples=2))
    assert torch.equal(sampler.sample(x, samples=1)[0], first)
    assert not torch.equal(sampler.sample(x, seed=1)[0], first)
    assert torch.equal(sampler.sample(x, 0.0, seed=1), sampler.sample(x, 0.0, seed=2))
    assert torch.equal(sampler(x), sampler.sample(x, 0.8))


def test_an_image_does_not_depend_on_its_batch(sampler: SuperResolver) -> None:
    x = images(3, 10, 12)
    torch.testing.assert_close(sample(sampler, x)[:1], sample(sampler, x[:1]), rtol=0, atol=1e-5)


def test_tiles_do_not_show() -> None:
    model, x = started_srflow(), images(1, 96, 82)
    whole = sample(SuperResolver(model, tile=0), x)
    deviation = {}
    for pad in (0, 4, 16):
        tiled = sample(SuperResolver(model, tile=32, tile_pad=pad), x)
        deviation[pad] = float((tiled - whole).abs().max())
    assert deviation[16] < 0.1 / 255
    assert deviation[0] > 10 * deviation[16]
    assert deviation[0] > deviation[4] >= deviation[16]


def test_latents_and_back(sampler: SuperResolver) -> None:
    x = images(1, 9, 11)
    y = sampler.sample(x, 0.8)
    latents = sampler.encode(y, x)
    assert [tuple(z.shape[1:]) for z in latents] == sampler.model.latent_shapes(10, 12)
    torch.testing.assert_close(sampler.decode(latents, x), y, rtol=0, atol=tolerance("golden.image"))
    with pytest.raises(ShapeError, match="x enlarged has 36x44"):
        sampler.encode(y[..., :-1], x)
    with pytest.raises(ShapeError, match="expected B x 3 x H x W"):
        sampler.sample(x[:, :1])


def test_a_consistent_sample_shrinks_to_x(sampler: SuperResolver) -> None:
    x = images(1, 16, 16) * 0.6 + 0.2

    def error(y: Tensor) -> float:
        return float((bicubic_downsample(y, 4) - x).square().mean().sqrt())

    assert error(sampler.sample(x, consistent=True)) < error(sampler.sample(x)) / 5


def test_values_that_are_not_finite_are_an_error_with_a_way_out() -> None:
    model = started_srflow()
    with torch.no_grad():
        model.flow.layers[1].actnorm.logs.fill_(-200.0)
    with pytest.raises(DeflowError, match="not finite, at temperature 1") as caught:
        SuperResolver(model).sample(images(1, 8, 8), 1.0)
    assert "lower --temperature" in caught.value.next_step
    with pytest.raises(DeflowError, match="temperature 3"):
        SuperResolver(model).sample(images(1, 8, 8), 3.0)


def test_truncated_latents() -> None:
    x, seen = images(1, 16, 16), []
    model = started_srflow()
    model.flow.decode, decode = (  # type: ignore[method-assign]
        lambda latents, conditions: seen.extend(latents) or decode(latents, conditions),
        model.flow.decode,
    )
    SuperResolver(model).restore(
        x, SampleRequest([LatentNoise(0, "a")], [0.5], truncation=2.0), lambda *_: None
    )
    assert max(float(z.abs().max()) for z in seen) == pytest.approx(1.0)


def test_what_strays() -> None:
    assert strayed_share(torch.tensor([-0.1, -0.04, 0.5, 1.04, 1.2])) == pytest.approx(0.4)


def test_latents_in_tiles_are_those_of_the_whole() -> None:
    """Encoded, decoded, and both: within what lies beyond the overlap."""
    model, x = started_srflow(), images(1, 90, 82)
    whole, tiled = SuperResolver(model, tile=0), SuperResolver(model, tile=32)
    y = whole.sample(x, 0.8)
    latents = whole.encode(y, x)
    for found, expected in zip(tiled.encode(y, x), latents, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    for resolver, z in ((whole, tiled.encode(y, x)), (tiled, latents), (tiled, tiled.encode(y, x))):
        assert float((resolver.decode(z, x) - y).abs().max()) < 0.1 / 255
