"""Matching finds a known noise: its strength by brightness, its spread of levels, and none in the null."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from deflow_cli.arrays import Pixels
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.photos import packaged_photos
from deflow_cli.metrics.noise.local_levels import features_of
from deflow_cli.models.deflow.grain import (
    KERNEL_SIDE,
    correlated,
    full_size,
    kernel_of,
    opponent_basis,
    strengthened,
)
from deflow_cli.workflows.fit.grain import GrainData, GrainMatcher

SIDE = 160
STRENGTH = 6.0  # grey levels of the true noise at black, twice that at white


@functools.cache
def crops() -> tuple[list[Pixels], list[Pixels]]:
    """Three crops of each of some photographs to stay clean, and of others to be degraded."""
    random = np.random.default_rng(0)
    sides: tuple[list[Pixels], list[Pixels]] = ([], [])
    for crops_of, paths in zip(sides, packaged_photos(), strict=True):
        for path in paths:
            image = read_rgb8(path)
            for _ in range(3):
                top, left = (int(random.integers(0, n - SIDE + 1)) for n in image.shape[:2])
                crops_of.append(np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE]))
    return sides


def kernel():
    frequency = torch.fft.fftfreq(KERNEL_SIDE, dtype=torch.float64)
    low_pass = torch.exp(-6 * (frequency[:, None] ** 2 + frequency[None] ** 2))
    return kernel_of(
        (low_pass[..., None, None] / low_pass.mean() * torch.eye(3)).to(torch.complex128)
    ).float()


def pattern(number: int, round_number: int) -> torch.Tensor:
    """Coloured noise of one grey level."""
    random = torch.Generator().manual_seed(1000 * round_number + number)
    white = torch.randn(1, 3, SIDE + KERNEL_SIDE - 1, SIDE + KERNEL_SIDE - 1, generator=random)
    return correlated(kernel(), white)[0] / 255.0


def falling(texture: torch.Tensor) -> torch.Tensor:
    return 1 - 0.1 * texture.clamp(0, 6)


def rising(texture: torch.Tensor) -> torch.Tensor:
    return 1 + 0.25 * texture.clamp(0, 6)


def degraded(
    image: Pixels, number: int, spread: float = 0.0, colours: float = 1.0, by_texture=None
) -> Pixels:
    """colours: strength of the colour differences, of the luminance's; by_texture: what multiplies both."""
    level = np.exp(spread * np.random.default_rng(number).standard_normal())
    strength = level * STRENGTH * (1 + image.mean(-1, keepdims=True) / 255.0)
    if by_texture is not None:
        factor = by_texture(features_of(image, 5000 + number)[1])
        strength = strength * full_size(factor[None], *image.shape[:2])[0, 0, ..., None].numpy()
    gain = torch.tensor([1.0, colours, colours])[None, :, None, None]
    noise = strengthened(pattern(number, 77)[None], gain, opponent_basis(3))[0]
    noise = noise.permute(1, 2, 0).numpy() * 255.0
    return np.clip(np.rint(image + strength * noise), 0, 255).astype(np.uint8)


def matched(noisy: list[Pixels]):
    clean = crops()[0]
    bases = [torch.from_numpy(x / np.float32(255)).permute(2, 0, 1) for x in clean]
    scenes = [[n // 3 for n in range(len(images))] for images in (clean, noisy)]
    return GrainMatcher(GrainData(clean, scenes[0], bases, noisy, scenes[1])).match(pattern)


@pytest.mark.slow(seconds=6)
def test_the_strength_follows_brightness():
    found = matched([degraded(y, n) for n, y in enumerate(crops()[1])])
    expected = STRENGTH * (1 + found.knots.brightness.numpy() / 255.0)
    by_brightness = found.gain_cbt[:, :, :5].mean((0, 2))
    assert np.all(np.abs(by_brightness / expected - 1)[1:-1] < 0.15)
    assert by_brightness[-1] > 1.35 * by_brightness[0]
    assert found.spread < 0.2
    assert found.found > 4 * found.null


@pytest.mark.slow(seconds=7)
def test_the_strength_of_colours_is_found():
    """Colour differences of half the luminance's strength, on all textures."""
    found = matched([degraded(y, n, colours=0.5) for n, y in enumerate(crops()[1])])
    expected = STRENGTH * (1 + found.knots.brightness.numpy() / 255.0)
    # scenes differ in colour too where there is most texture
    luminance, *differences = (found.gain_cbt / expected[:, None])[:, 1:-1, :6].mean(2)
    assert np.all(np.abs(np.array(differences) / 0.5 - 1) < 0.25)
    assert np.all(luminance > 0.9)


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("by_texture", [rising, falling])
def test_the_strength_follows_texture(by_texture):
    """Although scenes outweigh the noise there, and the degraded photographs' have more contrast."""
    found = matched([degraded(y, n, by_texture=by_texture) for n, y in enumerate(crops()[1])])
    expected = STRENGTH * (1 + found.knots.brightness.numpy() / 255.0)
    luminance, *differences = np.exp(np.log(found.gain_cbt / expected[:, None]).mean(1))
    true = by_texture(found.knots.texture).numpy()
    assert np.abs(np.log(luminance / true)[:5]).max() < np.log(1.6)
    assert np.abs(np.log(np.array(differences) / true))[:, :6].max() < np.log(1.6)


@pytest.mark.slow(seconds=8)
def test_the_spread_of_levels_is_found():
    found = matched([degraded(y, n, spread=0.4) for n, y in enumerate(crops()[1])])
    assert 0.25 < found.spread < 0.55
    assert matched([degraded(y, n) for n, y in enumerate(crops()[1])]).spread < 0.15


@pytest.mark.slow(seconds=7)
def test_the_null_is_told():
    """No noise: what is found between two sets of photographs is as much as between two halves of one."""
    found = matched(crops()[1])
    assert found.found < 2 * found.null
    assert np.sqrt((found.gain_cbt**2).mean(0))[:, :3].max() < 0.65 * STRENGTH
