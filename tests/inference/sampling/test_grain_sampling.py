"""Sampling with grain: tiles and batches do not show, and the temperature means what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.models.deflow.grain import KERNEL_SIDE
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from tests.inference.small import build, smooth_images


def grained(stationary: bool, spread: float = 0.3) -> DeFlow:
    model = build(grain="matched")
    kernel = None
    if stationary:
        kernel = torch.zeros(3, 3, KERNEL_SIDE, KERNEL_SIDE)
        kernel[:, :, 30:35, 30:35] = 0.01 * torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    grain = model.grain
    assert grain is not None
    gain = 0.5 + torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(2))
    grain.set(gain, grain.brightness.clone(), grain.texture.clone(), spread, kernel)
    return model


def samples(
    model: DeFlow,
    image: Tensor,
    temperature: float = 1.0,
    tile: int | None = 0,
    names: tuple[str, ...] = ("a",),
    count: int = 2,
    reverse: bool = False,
) -> Tensor:
    """B S C H W."""
    noises = [ImageNoise(1, name) for name in names]
    components = [[0] * count] * len(names)
    job = Job(ShiftDistribution(model.prior), noises, components, [temperature] * len(names), reverse)
    result = torch.full((len(names), count, *image.shape[1:]), torch.nan)

    def write(sample, window, piece):
        result[:, sample][(..., *window.slices)] = piece

    Translator(model, tile=tile).translate(image, job, range(count), write)
    assert not bool(result.isnan().any())
    return result


both = pytest.mark.parametrize("stationary", [True, False], ids=["stationary", "latent"])


@pytest.mark.slow(seconds=8)
@both
def test_tiles_do_not_show(stationary):
    model, image = grained(stationary), smooth_images(1, 150, 203)
    whole = samples(model, image)
    for tile in (16, 56):
        assert float((samples(model, image, tile=tile) - whole).abs().max()) < 0.05 / 255


@both
def test_temperature_zero_has_no_grain_and_the_noise_is_proportional(stationary):
    model, image = grained(stationary), smooth_images(1, 64, 80)
    none = samples(model, image, temperature=0.0)
    assert torch.equal(none[:, 0], none[:, 1])
    mean, probabilities = samples(model, image, 1e-4), ShiftDistribution(model.prior).probabilities
    assert torch.allclose(mean, none, atol=1e-3)
    # the component's mean moves with the temperature too, by as much in every sample
    half, full = (samples(model, image, t, count=4) for t in (0.5, 1.0))
    spread = [s.sub(s.mean(1, keepdim=True)).std() for s in (half, full)]
    assert float(spread[0] / spread[1]) == pytest.approx(0.5, abs=0.02)
    assert len(probabilities) == 2


@both
def test_batches_do_not_show(stationary):
    model, images = grained(stationary), smooth_images(2, 48, 56)
    together = samples(model, images, names=("a", "b"))
    for index, name in enumerate(("a", "b")):
        alone = samples(model, images[index : index + 1], names=(name,))
        assert torch.allclose(together[index], alone[0], atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


@both
def test_an_encoding_gives_the_same_sample(stationary):
    model, image = grained(stationary), smooth_images(1, 50, 60)
    translator = Translator(model, tile=0)
    job = Job(ShiftDistribution(model.prior), [ImageNoise(1, "a")], [[0, 0]], [1.0])
    sampled = translator.sample(translator.encode(image, job), (50, 60), job, 1)
    assert torch.allclose(sampled, samples(model, image)[:, 1], atol=1e-6)


def test_strength_follows_the_table():
    """Twice the gain in bright places gives twice the noise there."""
    model = grained(True, spread=0.0)
    grain = model.grain
    assert grain is not None
    grain.gain_cbt.copy_(torch.where(torch.arange(6) < 3, 1.0, 2.0)[:, None].expand(3, 6, 8))
    image = torch.full((1, 3, 64, 128), 0.2)
    image[..., 64:] = 0.8
    found = samples(model, image, count=24)
    spread = found.std(1)[0]
    ratio = float(spread[..., 80:].mean() / spread[..., :48].mean())
    assert ratio == pytest.approx(2.0, rel=0.05)


def test_a_model_that_was_not_matched_samples_as_one_without_grain():
    plain, model, image = build(), build(grain="matched"), smooth_images(1, 40, 48)
    assert torch.equal(samples(model, image), samples(plain, image))


def test_restoring_knows_no_grain():
    image = smooth_images(1, 40, 48)
    assert torch.equal(samples(grained(True), image, reverse=True), samples(build(), image, reverse=True))
