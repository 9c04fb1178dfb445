"""Spectral noise has the spectrum that its folders show."""

import numpy as np
import pytest
import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.noise.spectral import SpectralDegrader, SpectralNoise, mean_spectrum
from deflow_cli.errors import DataError, ShapeError
from tests.bench.drawn_noise import DrawnSpectralNoise, WhiteNoise

MIX = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.5, 0.8]])


def coloured(generator, height, width):
    """Noise of 12 grey levels, smoothed along x, differenced along y, channels mixed."""
    white = generator.standard_normal((height, width, 3)) @ MIX.T
    along = (np.roll(white, 1, 1) + 2 * white + np.roll(white, -1, 1)) / np.sqrt(6)
    return 12 / 255 * (along - 0.5 * np.roll(along, 1, 0)) / np.sqrt(1.25)


def smooth_scene(generator, height, width):
    """A soft random picture between 0.3 and 0.7."""
    y, x = np.mgrid[0:height, 0:width]
    phase = generator.uniform(0, 6, 4)
    value = np.sin(x / 40 + phase[0]) * np.sin(y / 30 + phase[1]) + np.sin(x / 15 + y / 60 + phase[2])
    return 0.5 + 0.1 * value[..., None] * np.array([1.0, 0.9, 0.8])


def to_uint8(image):
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def lagged(noise, dy, dx):
    """3 x 3 covariance of noise H x W x 3 with itself displaced."""
    height, width, _ = noise.shape
    here = noise[dy:, dx:]
    there = noise[: height - dy, : width - dx]
    return np.einsum("yxa,yxb->ab", here, there) / (here.shape[0] * here.shape[1])


def test_known_noise_is_recovered_from_unpaired_sets():
    generator = np.random.default_rng(0)
    clean = [to_uint8(smooth_scene(generator, 160, 192)) for _ in range(16)]
    noisy = [to_uint8(smooth_scene(generator, 160, 192) + coloured(generator, 160, 192)) for _ in range(16)]
    drawn = DrawnSpectralNoise(SpectralNoise.from_images(clean, noisy))
    sample = drawn.sample((1, 300, 333), torch.Generator().manual_seed(0))[0].numpy().transpose(1, 2, 0)
    truth = coloured(generator, 300, 333)
    scale = np.trace(lagged(truth, 0, 0)) / 3
    for lag in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (3, 3)):
        assert lagged(sample, *lag) / scale == pytest.approx(lagged(truth, *lag) / scale, abs=0.06), lag


def test_quiet_patches_and_matched_content_see_through_unlike_scenes():
    """Stronger scenes in the noisy set: the plain difference takes content for noise, the other not."""
    generator = np.random.default_rng(1)

    def scene(strength):
        picture = 0.5 + strength * (smooth_scene(generator, 160, 192) - 0.5)
        picture[:, :96] = picture[:, :96].mean(axis=(0, 1))
        return picture

    clean = [to_uint8(scene(0.7)) for _ in range(12)]
    noisy = [to_uint8(scene(1.4) + coloured(generator, 160, 192)) for _ in range(12)]
    truth = np.trace(lagged(coloured(generator, 300, 300), 0, 0))

    def power(**options):
        drawn = DrawnSpectralNoise(SpectralNoise.from_images(clean, noisy, **options))
        sample = drawn.sample((1, 300, 300), torch.Generator().manual_seed(0))[0].numpy()
        return np.trace(lagged(sample.transpose(1, 2, 0), 0, 0)) / truth

    assert power() > 1.5
    assert power(quiet=0.25, match_content=True) == pytest.approx(1, abs=0.1)


def test_equal_sets_give_almost_no_noise():
    generator = np.random.default_rng(0)
    images = [to_uint8(smooth_scene(generator, 96, 96)) for _ in range(4)]
    drawn = DrawnSpectralNoise(SpectralNoise.from_images(images, images))
    assert drawn.sample((1, 64, 64), torch.Generator().manual_seed(0)).abs().max() < 1e-6


def test_white_spectrum_gives_white_noise_of_any_size():
    white = SpectralNoise.from_spectrum(np.tile(np.eye(3) * 0.01, (64, 64, 1, 1)).astype(np.complex128))
    drawn = DrawnSpectralNoise(white)
    noise = drawn.sample((2, 37, 301), torch.Generator().manual_seed(0))
    assert noise.shape == (2, 3, 37, 301)
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert (noise[..., 1:] * noise[..., :-1]).mean().abs() < 2e-4


def test_noise_is_stationary_to_the_border():
    generator = np.random.default_rng(0)
    drawn = DrawnSpectralNoise(
        SpectralNoise.from_images(
            [np.full((64, 64, 3), 128, np.uint8)], [to_uint8(0.5 + coloured(generator, 512, 512))]
        )
    )
    noise = drawn.sample((60, 24, 24), torch.Generator().manual_seed(1))
    spread = noise.std(dim=(0, 1))
    assert spread[0, :].mean() == pytest.approx(spread[8:16, 8:16].mean().item(), rel=0.08)
    assert spread[:, -1].mean() == pytest.approx(spread[8:16, 8:16].mean().item(), rel=0.08)


def test_mean_spectrum_of_white_noise_is_its_covariance():
    noise = np.random.default_rng(0).standard_normal((512, 512, 3)) @ MIX.T * 10 / 255
    spectrum = mean_spectrum([to_uint8(0.5 + noise)])
    mean = spectrum[4:-4, 4:-4].mean(axis=(0, 1)).real * 255**2
    assert mean == pytest.approx(100 * MIX @ MIX.T, abs=3)


@pytest.mark.parametrize(
    "drawn",
    [WhiteNoise(0.1), DrawnSpectralNoise(SpectralNoise(torch.randn(3, 3, 64, 64).double() / 600))],
)
def test_degrade_is_seeded_clamped_and_keeps_shape(drawn):
    image = torch.linspace(0, 1, 2 * 3 * 20 * 24).reshape(2, 3, 20, 24)
    first = drawn.degrade(image, torch.Generator().manual_seed(3))
    assert first.shape == image.shape
    assert first.dtype == image.dtype
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, drawn.degrade(image, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, drawn.degrade(image, torch.Generator().manual_seed(4)))


def test_white_noise_has_its_sigma():
    grey = torch.full((1, 3, 128, 128), 0.5)
    noisy = WhiteNoise(0.07).degrade(grey, torch.Generator().manual_seed(0))
    assert (noisy - grey).std() == pytest.approx(0.07, rel=0.02)


def test_errors_name_the_set_and_the_shape():
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(DataError, match="clean set"):
        SpectralNoise.from_images([picture[:40]], [picture])
    with pytest.raises(ShapeError, match=r"\(1, 1, 8, 8\)"):
        SpectralDegrader(SpectralNoise(torch.zeros(3, 3, 64, 64))).degrade(
            torch.zeros(1, 1, 8, 8), [Draw(0, "a")]
        )
