"""Noise of a graph: ours, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deflow_cli.arrays import Window
from deflow_cli.checkpoints.onnx.graph import GraphInput, whole
from deflow_cli.checkpoints.onnx.noise import CONTENT_SEED, LONGEST_KEY, NoiseField, SeededNoise
from deflow_cli.errors import ConfigError
from deflow_cli.inference.positional_noise import stable_generator
from deflow_cli.inference.sampling.image_noise import ImageNoise
from tests.checkpoints.onnx.running import computed, floats_out
from tests.golden.tolerances import tolerance

KEY = "folder/a.png"
TOLERANCE = tolerance("onnx.noise")


def drawn(tmp_path, field, output, images, seed, default=CONTENT_SEED):
    def build(graph):
        image = graph.input(GraphInput("image", np.float32, ("N", 3, "H", "W")))
        sized = NoiseField(
            field.name,
            field.kind,
            field.stream,
            field.of_sample,
            field.channels,
            graph("Identity", whole(field.height)) if field.is_plane else "",
            graph("Identity", whole(field.width)) if field.is_plane else "",
        )
        result = SeededNoise(KEY, default).draw(graph, image, [sized])[field.name]
        return graph("Cast", result, to=1)

    feed = {"image": images} | ({} if seed is None else {"seed": np.array([seed], np.int64)})
    return computed(tmp_path, build, output, feed)


IMAGES = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 6, 7), (12, 5, 9), (1, 1, 1)])
def test_planes_are_those_of_deflow_degrade(tmp_path, channels, height, width):
    latent = NoiseField("z", "normal", "latent 1 sample 0", True, channels, height, width)
    found = drawn(tmp_path, latent, floats_out("N", channels, "H", "W"), IMAGES, 12345)
    window = Window(0, 0, height, width)
    for index in range(2):  # image n of a batch has the seed that is n higher
        wanted = ImageNoise(12345 + index, KEY).latent(1, 0, channels, window)
        np.testing.assert_allclose(found[index], wanted[0], atol=TOLERANCE)

    uniform = NoiseField("u", "uniform", "dequantisation", False, channels, height, width)
    found = drawn(tmp_path, uniform, floats_out("N", channels, "H", "W"), IMAGES, 12345)
    wanted = ImageNoise(0, KEY).dequantisation(channels, window).numpy()
    assert np.array_equal(found, np.concatenate([wanted, wanted]))  # the image's, whatever the seed


def test_single_numbers_are_numpys(tmp_path):
    """The level takes the first proposals of the ziggurat, of which a few in a hundred are refused."""
    count = 3000
    images = np.zeros((count, 3, 1, 1), np.float32)
    level = drawn(tmp_path, NoiseField("l", "level", of_sample=True), floats_out("N"), images, 0)
    wanted = [ImageNoise(seed, KEY).level(0) for seed in range(count)]
    np.testing.assert_allclose(level, wanted, atol=1e-6)
    component = drawn(tmp_path, NoiseField("c", "component", of_sample=True), floats_out("N"), images, 0)
    uniforms = [stable_generator(seed, KEY, "component", 0).random() for seed in range(count)]
    np.testing.assert_allclose(component, uniforms, atol=1e-7)


def test_without_a_seed_it_follows_from_the_pixels(tmp_path):
    field = NoiseField("z", "normal", "latent 0 sample 0", True, 3, 16, 16)
    pair = np.concatenate([IMAGES, IMAGES[:1]])
    pair[2, 0, 3, 3] += 1 / 255  # one pixel by one grey level
    first, second, nearly = drawn(tmp_path, field, floats_out("N", 3, "H", "W"), pair, None)
    again = drawn(tmp_path, field, floats_out("N", 3, "H", "W"), pair[[0, 0]], None)
    assert np.array_equal(again[0], first)
    assert np.array_equal(again[1], first)  # an image is not the place that it has in a batch
    for other in (second, nearly):
        assert abs(np.corrcoef(first.flatten(), other.flatten())[0, 1]) < 0.15
    assert 0.9 < torch.from_numpy(first).std() < 1.1
    given = drawn(tmp_path, field, floats_out("N", 3, "H", "W"), pair, None, default=4)
    wanted = ImageNoise(4, KEY).latent(0, 0, 3, Window(0, 0, 16, 16))
    np.testing.assert_allclose(given[0], wanted[0], atol=TOLERANCE)


def test_a_name_that_is_too_long():
    SeededNoise("é" * (LONGEST_KEY // 2))
    with pytest.raises(ConfigError, match="64 bytes"):
        SeededNoise("é" * (LONGEST_KEY // 2) + "a")
