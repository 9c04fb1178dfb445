"""All degraders: a result belongs to its picture and draw, and temperature scales the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.config.translation import CycleGeneratorConfig, ResidualGeneratorConfig
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.noise.patches import NoisePatchDegrader, NoisePatches
from deflow_cli.degraders.noise.spectral import SPECTRUM_SIDE, SpectralDegrader, SpectralNoise
from deflow_cli.degraders.noise.white import WhiteNoiseDegrader
from deflow_cli.degraders.registry import configuration, degrader_names
from deflow_cli.degraders.simple import NoDegradation
from deflow_cli.degraders.translator.degrader import TranslatorDegrader
from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.models.translation.generators import CycleGenerator, ResidualGenerator
from deflow_cli.runtime.seeding import generator as seeded
from tests.inference.small import small_model, smooth_images


def spectral():
    """Noise that is smooth along x, of std 0.05, green half of red, no blue."""
    kernel = torch.zeros(3, 3, SPECTRUM_SIDE, SPECTRUM_SIDE, dtype=torch.float64)
    kernel[0, 0, 32, 31:33] = 0.05 / 2**0.5
    kernel[1, 0, 32, 31:33] = 0.025 / 2**0.5
    return SpectralNoise(kernel)


def patches():
    rng = np.random.default_rng(0)
    return NoisePatches(tuple(rng.integers(90, 130, (40, 40, 3), dtype=np.uint8) for _ in range(5)))


def residual(scale=1):
    config = ResidualGeneratorConfig(channels=4, blocks=1, scale=scale)
    return TranslatorDegrader(ResidualGenerator(config, seeded(0, "residual")).eval())


def cycle():
    generator = CycleGenerator(CycleGeneratorConfig(channels=4, blocks=1), seeded(0, "cycle"))
    return TranslatorDegrader(generator.eval())


BUILT = {
    "deflow": lambda: FlowDegrader(small_model()),
    "white-noise": lambda: WhiteNoiseDegrader(0.04),
    "spectral": lambda: SpectralDegrader(spectral()),
    "noise-patches": lambda: NoisePatchDegrader.at_scale(patches(), 8),
    "none": NoDegradation,
    "dsgan": residual,
    "dasr": lambda: residual(4),
    "cyclegan": cycle,
}


DEGRADERS = degrader_names()
RANDOM = [name for name in DEGRADERS if configuration(name).is_random]


def built(name):
    return BUILT[name]()


@pytest.mark.parametrize("name", DEGRADERS)
def test_a_result_does_not_depend_on_the_batch_or_the_order(name):
    images = smooth_images(3, 40, 44)
    draws = [Draw(5, "a", 0, 0.7), Draw(5, "b", 2, 1.0), Draw(5, "a", 1, 1.0)]
    together = built(name).degrade(images, draws)
    shrinks = 4 if name == "dasr" else 1
    assert together.shape == (3, 3, 40 // shrinks, 44 // shrinks)
    assert together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1
    other = built(name)
    for i in (2, 0, 1):
        alone = other.degrade(images[i : i + 1], [draws[i]])
        assert torch.allclose(alone[0], together[i], atol=1e-5)
        assert torch.equal(built(name).degrade(images[i : i + 1], [draws[i]]), alone)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_key_and_sample_each_make_another_result(name):
    image = smooth_images(1, 32, 32)
    draws = [Draw(0, "a"), Draw(1, "a"), Draw(0, "b"), Draw(0, "a", 1)]
    results = [built(name).degrade(image, [draw]) for draw in draws]
    for i in range(4):
        for j in range(i):
            assert (results[i] - results[j]).abs().mean() > 1e-3


@pytest.mark.parametrize("name", sorted(set(DEGRADERS) - set(RANDOM)))
def test_what_is_not_random_gives_one_result_whatever_the_draw(name):
    """A known failing of networks without noise at their input: they know one degradation of a picture."""
    image = smooth_images(1, 32, 32)
    first = built(name).degrade(image, [Draw(0, "a")])
    for draw in (Draw(1, "a"), Draw(0, "b"), Draw(0, "a", 1), Draw(0, "a", 0, 0.5)):
        assert torch.equal(built(name).degrade(image, [draw]), first)


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "deflow"])
def test_temperature_scales_the_noise(name):
    image = torch.full((1, 3, 48, 48), 0.5)
    noise = [built(name).degrade(image, [Draw(0, "a", 0, t)]) - image for t in (0.0, 0.5, 1.0)]
    assert torch.equal(noise[0], torch.zeros_like(image))
    assert torch.allclose(2 * noise[1], noise[2], atol=1e-5)


def test_none_is_the_picture():
    image = smooth_images(1, 20, 20)
    assert torch.equal(built("none").degrade(image, [Draw(0, "a")]), image)


def test_spectral_noise_has_its_spectrum():
    image = torch.full((1, 3, 200, 300), 0.5)
    noise = (SpectralDegrader(spectral()).degrade(image, [Draw(0, "a")]) - image)[0].numpy()
    assert noise[0].std() == pytest.approx(0.05, rel=0.03)
    assert noise[1] == pytest.approx(noise[0] / 2, abs=1e-6)
    assert not noise[2].any()
    assert np.corrcoef(noise[0][:, 1:].ravel(), noise[0][:, :-1].ravel())[0, 1] == pytest.approx(
        0.5, abs=0.03
    )
    assert abs(np.corrcoef(noise[0][1:].ravel(), noise[0][:-1].ravel())[0, 1]) < 0.03


def test_what_cannot_be_is_told():
    with pytest.raises(ConfigError, match="unknown"):
        configuration("blur")
    with pytest.raises(ConfigError, match="40 px are smaller than the 64 px"):
        NoisePatchDegrader.at_scale(patches(), 2)
    with pytest.raises(ShapeError, match="2 draws for 1 images"):
        built("white-noise").degrade(smooth_images(1, 8, 8), [Draw(0, "a")] * 2)
    with pytest.raises(ShapeError, match="B x 3"):
        built("none").degrade(torch.zeros(1, 1, 8, 8), [Draw(0, "a")])
