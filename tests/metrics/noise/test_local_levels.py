"""Local levels of pictures whose noise is known."""

from __future__ import annotations

import numpy as np
import torch

from deflow_cli.metrics.noise.local_levels import Knots, Levels, features_of

KNOTS = Knots(torch.tensor([40.0, 128.0, 215.0]), torch.tensor([-1.0, 2.0, 6.0]))


def pictures(sigmas, count=5, level=128.0, side=128):
    random = np.random.default_rng(3)
    noise = [
        level + sigma * random.standard_normal((side, side, 3)) for sigma in sigmas for _ in range(count)
    ]
    return [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in noise]


def levels(images):
    return Levels.of(images, [features_of(image, n) for n, image in enumerate(images)], KNOTS)


def test_levels_are_proportional_to_the_noise_and_kept_apart_by_brightness():
    weak, strong = levels(pictures([4.0])), levels(pictures([8.0]))
    together = (weak.weights.sum(0) > 0) & (strong.weights.sum(0) > 0)
    ratio = np.exp(strong.mean()[0] - weak.mean()[0])[..., together]
    assert together.any()
    assert np.all(np.abs(ratio - 2.0) < 0.12)
    # of Gaussian noise both quantiles say the same, that of the deviation
    assert np.all(np.abs(np.exp(strong.mean()[0][0] - strong.mean()[0][1])[:, together] - 1) < 0.06)
    assert np.flatnonzero(levels(pictures([4.0], level=215.0)).weights.sum(0)).min() >= 6


def test_levels_of_luminance_and_of_colours_are_kept_apart():
    grey = [image[..., :1].repeat(3, -1) for image in pictures([8.0])]
    log_levels = levels(grey).mean()[0][..., levels(grey).weights.sum(0) > 0]
    assert np.all(log_levels[:, 0] > np.log(8.0))
    assert np.all(log_levels[:, 1:] < np.log(0.25))  # nothing but what is added before a logarithm


def test_an_image_s_own_level_is_found():
    mixed = levels(pictures([5.0, 7.0]))
    all_noise = np.ones((2, 3, 9))
    own, precision = mixed.of_images(all_noise)
    assert np.all(np.abs(own[5:] - own[:5].mean() - np.log(7 / 5)) < 0.08)
    assert np.all(precision > 0)


def test_a_scene_of_more_contrast_does_not_pass_for_a_noisier_one():
    """Noise is half of the levels at the low quantile and a tenth at the high one; contrasts differ."""
    share = np.array([0.5, 0.1])[:, None, None] * np.ones((3, 9))
    contrast, noise = np.array([-0.3, 0.3, -0.3, 0.3]), np.array([0.2, -0.2, -0.2, 0.2])
    log_levels = share[:, :, None] * noise[:, None] + (1 - share)[:, :, None] * contrast[:, None]
    seen = Levels(log_levels, np.full((4, 9), 500.0), np.arange(4))
    own, _ = seen.of_images(share)
    assert np.all(np.abs(own - noise) < 0.06)
    assert np.corrcoef(own, contrast)[0, 1] < 0.2


def test_images_of_one_scene_count_as_one():
    """The standard error is that of the scenes' means, whatever the number of crops of each."""
    random = np.random.default_rng(4)
    own = np.log(6.0) + 0.2 * random.standard_normal(8)
    once = Levels(np.tile(own[None, None, :, None], (2, 3, 1, 9)), np.ones((8, 9)), np.arange(8))
    thrice = Levels(np.repeat(once.log_levels, 3, 2), np.ones((24, 9)), np.arange(24) // 3)
    for one, other in zip(once.mean(), thrice.mean(), strict=True):
        assert np.allclose(one, other)
    assert np.all(thrice.mean()[2] == 8)
