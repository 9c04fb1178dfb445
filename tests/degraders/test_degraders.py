"""Degraders: a result belongs to its picture and draw, and each adds the noise it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.noise.patches import NoisePatchDegrader, NoisePatches
from deflow_cli.degraders.noise.spectral import SPECTRUM_SIDE, SpectralDegrader, SpectralNoise
from deflow_cli.degraders.noise.white import WhiteNoiseDegrader
from deflow_cli.degraders.registry import configuration, degrader_names
from deflow_cli.degraders.simple import NoDegradation
from deflow_cli.errors import ConfigError, DataError, ShapeError
from deflow_cli.inference.sampling import ImageNoise, Job, Translator
from deflow_cli.inference.shift import ShiftLaw
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


BUILT = {
    "deflow": lambda: FlowDegrader(small_model()),
    "white-noise": lambda: WhiteNoiseDegrader(0.04),
    "spectral": lambda: SpectralDegrader(spectral()),
    "noise-patches": lambda: NoisePatchDegrader.at_scale(patches(), 8),
    "none": NoDegradation,
}
DEGRADERS = degrader_names()


def built(name):
    return BUILT[name]()


@pytest.mark.parametrize("name", DEGRADERS)
def test_a_result_does_not_depend_on_the_batch_or_the_order(name):
    images = smooth_images(3, 40, 44)
    draws = [Draw(5, "a", 0, 0.7), Draw(5, "b", 2, 1.0), Draw(5, "a", 1, 1.0)]
    together = built(name).degrade(images, draws)
    assert together.shape == images.shape
    assert together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1
    other = built(name)
    for i in (2, 0, 1):
        alone = other.degrade(images[i : i + 1], [draws[i]])
        assert torch.allclose(alone[0], together[i], atol=1e-5)
        assert torch.equal(built(name).degrade(images[i : i + 1], [draws[i]]), alone)


@pytest.mark.parametrize("name", [name for name in DEGRADERS if name != "none"])
def test_seed_key_and_sample_each_make_another_result(name):
    image = smooth_images(1, 32, 32)
    draws = [Draw(0, "a"), Draw(1, "a"), Draw(0, "b"), Draw(0, "a", 1)]
    results = [built(name).degrade(image, [draw]) for draw in draws]
    for i in range(4):
        for j in range(i):
            assert (results[i] - results[j]).abs().mean() > 1e-3


@pytest.mark.parametrize("name", [name for name in DEGRADERS if name not in ("none", "deflow")])
def test_temperature_scales_the_noise(name):
    image = torch.full((1, 3, 48, 48), 0.5)
    noise = [built(name).degrade(image, [Draw(0, "a", 0, t)]) - image for t in (0.0, 0.5, 1.0)]
    assert torch.equal(noise[0], torch.zeros_like(image))
    assert torch.allclose(2 * noise[1], noise[2], atol=1e-5)


def test_none_is_the_picture():
    image = smooth_images(1, 20, 20)
    assert torch.equal(built("none").degrade(image, [Draw(0, "a")]), image)


def test_white_noise_has_its_std_everywhere():
    image = torch.full((1, 3, 300, 300), 0.5)
    noise = (WhiteNoiseDegrader(0.04).degrade(image, [Draw(0, "a")]) - image)[0]
    assert noise.std(dim=(1, 2)).numpy() == pytest.approx(0.04, rel=0.02)
    assert abs(np.corrcoef(noise[0, :, 1:].ravel(), noise[0, :, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


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


def test_flow_gives_what_degrade_gives_whatever_the_tiles():
    model, image = small_model(), smooth_images(1, 70, 90)
    law, expected = ShiftLaw(model.prior), torch.empty(2, 3, 70, 90)

    def write(sample, window, piece):
        expected[sample][(..., *window.slices)] = piece[0].clamp(0, 1)

    components = law.components(3, "photo.png", 2)
    job = Job(law, [ImageNoise(3, "photo.png")], [components], [0.8])
    Translator(model).translate(image, job, [0, 1], write)
    for tile in (None, 32):
        degrader = FlowDegrader(model, tile=tile)
        for sample in (0, 1):
            result = degrader.degrade(image, [Draw(3, "photo.png", sample, 0.8)])
            assert torch.allclose(result[0], expected[sample], atol=2e-3 if tile else 1e-6)


# -- noise patches --------------------------------------------------------------------------------------


def picture(height, width, level=100, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, noise, (height, width, 1))
    return np.clip(np.rint(level + grain + np.zeros((1, 1, 3))), 0, 255).astype(np.uint8)


def test_tiles_that_end_at_the_border_are_not_looked_at():
    assert len(NoisePatches.collect([picture(512, 512)]).tiles) == 1
    assert len(NoisePatches.collect([picture(513, 800)]).tiles) == 6
    tiles = NoisePatches.collect([picture(65, 65)], side=32).tiles
    assert len(tiles) == 4
    assert np.array_equal(tiles[1], picture(65, 65)[:32, 32:64])


def test_flat_and_bright_tiles_count_alone():
    dark, bright, rough = picture(33, 33, 20), picture(33, 33, 100), picture(33, 33, 100, noise=5)
    options = {"side": 32}
    assert len(NoisePatches.collect([dark, bright, rough], **options).tiles) == 2
    assert len(NoisePatches.collect([dark, bright, rough], min_mean=50, **options).tiles) == 1
    assert len(NoisePatches.collect([dark, bright, rough], max_variance=40, **options).tiles) == 3
    # BT.601, in whole numbers: red noise weighs little
    red = np.concatenate([rough[..., :1], np.full((33, 33, 2), 100, np.uint8)], -1)
    assert len(NoisePatches.collect([red], **options).tiles) == 1


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (picture(64, 64), {}, ["64 px", "more than 256"]),
        (picture(64, 64, noise=20), {"side": 32}, ["none of 1", "variance below 20", "least is"]),
        (picture(64, 64, level=10), {"side": 32, "min_mean": 50}, ["above 50"]),
    ],
)
def test_without_a_patch_the_error_says_what_there_is(image, options, words):
    with pytest.raises(DataError) as caught:
        NoisePatches.collect([image], **options)
    assert all(word in str(caught.value) for word in words)
    assert "--patch-" in caught.value.next_step


def test_patches_are_put_side_by_side_without_their_mean():
    pool = patches()
    degrader = NoisePatchDegrader(pool, 16)
    image = torch.full((1, 3, 40, 48), 0.5)
    noise = (degrader.degrade(image, [Draw(0, "a")]) - image)[0].double().numpy()
    cells = [noise[:, y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16, 32)]
    for cell in cells:
        assert cell.mean(axis=(1, 2)) == pytest.approx(0, abs=1e-6)
    # every cell is a crop of some tile, mean removed
    views = [
        np.lib.stride_tricks.sliding_window_view(tile / 255.0, (16, 16), axis=(0, 1)) for tile in pool.tiles
    ]
    for cell in cells:
        gaps = [np.abs(v - v.mean((-2, -1), keepdims=True) - cell).max((-3, -2, -1)).min() for v in views]
        assert min(gaps) < 1e-6
    assert len({cell.tobytes() for cell in cells}) == len(cells)
    small = degrader.degrade(torch.full((1, 3, 16, 16), 0.5), [Draw(0, "a")])  # as in training: one patch
    assert small[0].double().numpy() - 0.5 == pytest.approx(cells[0], abs=1e-6)


def test_what_cannot_be_is_told():
    with pytest.raises(ConfigError, match="unknown"):
        configuration("blur")
    with pytest.raises(ConfigError, match="40 px are smaller than the 64 px"):
        NoisePatchDegrader.at_scale(patches(), 2)
    with pytest.raises(ShapeError, match="2 draws for 1 images"):
        built("white-noise").degrade(smooth_images(1, 8, 8), [Draw(0, "a")] * 2)
    with pytest.raises(ShapeError, match="B x 3"):
        built("none").degrade(torch.zeros(1, 1, 8, 8), [Draw(0, "a")])
