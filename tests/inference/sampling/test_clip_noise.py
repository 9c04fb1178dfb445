"""Clip noise: what frames share, what they do not, and how much their noise is correlated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.arrays import Window
from deflow_cli.errors import ConfigError
from deflow_cli.inference.sampling.clip_noise import ClipNoise
from deflow_cli.inference.sampling.image_noise import ImageNoise

WINDOW = Window(0, 0, 64, 64)


def frames(correlation, seed=3):
    return [ClipNoise(seed, "clip a", f"a/{index}.png", correlation) for index in range(2)]


def test_frames_share_the_level_and_all_that_a_sample_does_not_draw():
    first, second = frames(0.0)
    assert first.level(0) == second.level(0)
    assert torch.equal(first.h(3, WINDOW), second.h(3, WINDOW))
    assert torch.equal(first.dequantisation(3, WINDOW), second.dequantisation(3, WINDOW))
    assert torch.equal(first.guide(WINDOW), second.guide(WINDOW))
    other = ClipNoise(3, "clip b", "a/0.png", 0.0)
    assert other.level(0) != first.level(0)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["latent", "grain"])
def test_noise_of_two_frames_has_the_correlation_and_unit_variance(correlation, kind):
    fields = [
        each.latent(1, 0, 6, WINDOW) if kind == "latent" else each.grain(0, 3, WINDOW)
        for each in frames(correlation)
    ]
    a, b = (field.numpy().ravel() for field in fields)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(correlation, abs=0.03)
    assert [a.var(), b.var()] == pytest.approx([1, 1], abs=0.05)
    if correlation == 1:
        assert torch.equal(*fields)


def test_independent_frames_have_the_noise_of_single_images():
    frame = frames(0.0)[0]
    assert torch.equal(frame.latent(0, 1, 6, WINDOW), ImageNoise(3, "a/0.png").latent(0, 1, 6, WINDOW))


@pytest.mark.parametrize("correlation", [-0.1, 1.1, float("nan")])
def test_what_is_no_correlation_is_refused(correlation):
    with pytest.raises(ConfigError, match="correlated by"):
        frames(correlation)
