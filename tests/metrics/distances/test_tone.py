"""Tone: a known fading found between folders of other scenes, and none where scenes or noise differ alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from deflow_cli.metrics.distances.tone import (
    LEAST_COMPARED,
    NoiseLevel,
    ToneChange,
    block_means,
    tone_change,
    with_means,
    with_saturation,
)
from tests.metrics.distances.generators import Field, scene, to_pixels

Means = NDArray[np.float32]
SCENES = [scene(seed) for seed in range(160)]


def means(
    scenes: Sequence[Field],
    contrast: Sequence[float] = (1, 1, 1),
    offset: Sequence[float] = (0, 0, 0),
    noise: float = 0.0,
) -> list[Means]:
    rng = np.random.default_rng(5)
    return [
        block_means(
            to_pixels(pixels * contrast + 255 * np.array(offset) + noise * rng.standard_normal(pixels.shape))
        )
        for pixels in scenes
    ]


def test_a_known_fading_is_found() -> None:
    contrast, offset = (0.85, 0.8, 0.9), (0.1, 0.08, 0.03)
    found = tone_change(means(SCENES[:80]), means(SCENES[80:], contrast, offset))
    assert found.found
    np.testing.assert_allclose(found.contrast, contrast, atol=0.03)
    np.testing.assert_allclose(found.offset, offset, atol=0.02)
    assert "beyond sampling error" in found.text


def test_other_scenes_alone_are_no_change() -> None:
    rng = np.random.default_rng(0)
    alike = means(SCENES)
    hits = 0
    for _ in range(20):
        order = rng.permutation(len(alike))
        change = tone_change([alike[i] for i in order[:80]], [alike[i] for i in order[80:]])
        hits += change.found
        if not change.found:
            assert (change.contrast, change.offset) == ((1.0,) * 3, (0.0,) * 3)
            assert "within sampling error" in change.text
    assert hits <= 1


def test_clipped_noise_is_no_loss_of_contrast() -> None:
    """Noise of 20 grey levels leaves of black and white means that are 8 levels off."""
    clean, noisy = means(SCENES[:80]), means(SCENES[80:], noise=20)
    assert tone_change(clean, noisy).found
    told = tone_change(clean, noisy, [NoiseLevel(20 / 255, 5 / 255)] * 3)
    assert not told.found, told.text


def test_crops_have_the_tone_of_their_pictures() -> None:
    rng = np.random.default_rng(1)
    places = [rng.integers(0, 64, 2) for _ in SCENES[80:]]
    crops = [pixels[y : y + 48, x : x + 48] for pixels, (y, x) in zip(SCENES[80:], places, strict=True)]
    change = tone_change(means(SCENES[:80]), means(crops))
    assert not change.found, change.text


def test_few_images_say_nothing() -> None:
    faded = means(SCENES[80:], (0.5, 0.5, 0.5))
    few = tone_change(means(SCENES[: LEAST_COMPARED - 1]), faded)
    assert not few.found
    assert f"fewer than {LEAST_COMPARED} images" in few.text


def test_what_is_no_tone_is_left_alone() -> None:
    grey = tone_change(means(SCENES[:80]), means(SCENES[80:], (0.05, 0.05, 0.05)))
    assert not grey.found
    assert "no change of tone" in grey.text


def test_blocks_have_their_means() -> None:
    pixels = np.zeros((9, 8, 3), np.uint8)
    pixels[:4, :4] = 255
    pixels[4:8, :, 0] = 51
    np.testing.assert_allclose(
        block_means(pixels), [[1, 1, 1], [0, 0, 0], [0.2, 0, 0], [0.2, 0, 0]], atol=1e-6
    )
    assert block_means(pixels[:3]).shape == (0, 3)
    assert len(block_means(np.zeros((3000, 2000, 3), np.uint8))) < 20_000


def test_blocks_keep_of_noise_what_its_spectrum_has_there() -> None:
    """White noise falls to a quarter in 4 x 4 blocks, coarse noise hardly."""
    white = NoiseLevel.of_power(np.full((64, 64), 0.01))
    assert white == pytest.approx((0.1, 0.025))
    coarse = np.zeros((64, 64))
    coarse[1, 0] = coarse[-1, 0] = 0.01 * 64 * 64 / 2
    assert NoiseLevel.of_power(coarse) == pytest.approx((0.1, 0.1), rel=0.01)


def coloured(scenes: Sequence[Field], saturation: float, contrast: float = 1.0) -> list[Means]:
    """Scenes that lose colour and contrast."""
    result = []
    for pixels in scenes:
        grey = pixels.mean(2, keepdims=True)
        result.append(block_means(to_pixels(contrast * (grey + saturation * (pixels - grey)))))
    return result


def test_saturation_is_what_is_left_beside_contrast() -> None:
    faded = ToneChange((0.8, 0.8, 0.8), (0.0, 0.0, 0.0), True, "contrast")
    told = with_saturation(faded, means(SCENES[:80]), coloured(SCENES[80:], 0.6, 0.8))
    assert told.saturation == pytest.approx(0.6, abs=0.08)
    assert told.text.startswith("saturation 0.")
    assert told.contrast == faded.contrast
    assert with_saturation(faded, means(SCENES[:80]), coloured(SCENES[80:], 1.0, 0.8)) == faded


def test_offsets_have_a_part_of_the_difference_of_means() -> None:
    """All of it where images tell their mean exactly, half where its error is 4 grey levels."""
    line = ToneChange((1.0, 1.0, 1.0), (0.02, 0.0, 0.0), True, "line")
    alike = [np.full((4, 3), 0.4, np.float32)] * 64
    lifted = [image + np.float32(0.05) for image in alike]
    np.testing.assert_allclose(with_means(line, alike, lifted).offset, 0.05, atol=1e-6)
    rng = np.random.default_rng(0)
    spread = 4 / 255 * 64**0.5
    draws = [rng.normal(0, spread, (64, 1, 1)) for _ in range(200)]
    taken = []
    for draw in draws:
        told = with_means(
            line, alike, [image + one.astype(np.float32) for image, one in zip(lifted, draw, strict=True)]
        )
        taken.append((told.offset[1]) / (0.05 + draw.mean()))
    assert np.median(taken) == pytest.approx(0.5, abs=0.03)


def test_the_means_are_those_of_the_change() -> None:
    change = ToneChange((0.8, 0.9, 0.7), (0.1, 0.05, 0.0), True, "line", 0.6)
    rng = np.random.default_rng(1)
    clean = [rng.uniform(0, 1, (9, 3)).astype(np.float32) for _ in range(64)]
    degraded = []
    for image in clean:
        scaled = image * np.array(change.contrast)
        grey = scaled.mean(1, keepdims=True)
        degraded.append((grey + 0.6 * (scaled - grey) + change.offset).astype(np.float32))
    np.testing.assert_allclose(with_means(change, clean, degraded).offset, change.offset, atol=1e-6)


def test_a_change_is_done_to_colours() -> None:
    change = ToneChange((0.5, 0.5, 0.5), (0.1, 0.0, 0.0), True, "", saturation=0.5)
    told = change.of(np.array([[0.8, 0.4, 0.6], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(told, [[0.45, 0.25, 0.3], [0.6, 0.5, 0.5]])
