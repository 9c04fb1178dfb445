"""Translator: tiles, batches and order do not show; temperature and components mean what they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.errors import DeflowError, DeviceError, ShapeError
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job, draw_components
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.inference.windows import WindowFlow
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from tests.inference.small import SHIFT_MEAN, build, small_model, smooth_images


def translate(
    image: Tensor,
    model: DeFlow | None = None,
    *,
    components: list[list[int]] | None = None,
    temperature: float = 1.0,
    tile: int | None = 0,
    seed: int = 1,
    names: tuple[str, ...] = ("a",),
    reverse: bool = False,
    order: list[int] | None = None,
) -> Tensor:
    """B S C H W."""
    model = small_model() if model is None else model
    components = components or [[0]] * len(names)
    count = len(components[0])
    noises = [ImageNoise(seed, name) for name in names]
    job = Job(ShiftDistribution(model.prior), noises, components, [temperature] * len(names), reverse)
    result = torch.full((image.shape[0], count, *image.shape[1:]), torch.nan)

    def write(sample, window, piece):
        result[:, sample][(..., *window.slices)] = piece

    Translator(model, tile=tile).translate(image, job, order or range(count), write)
    assert not bool(result.isnan().any())
    return result


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [(150, 203), (64, 90)])
def test_tiles_do_not_show(size, reverse):
    image = smooth_images(1, *size)
    whole = translate(image, reverse=reverse)
    for tile in (16, 50):
        tiled = translate(image, tile=tile, reverse=reverse)
        assert float((tiled - whole).abs().max()) < 0.05 / 255


def test_tiles_do_not_show_beyond_the_overlap_limits(monkeypatch):
    """A flow whose radius is larger than the limits, by far less than half a gray level."""
    model = build(levels=3, steps=6)
    monkeypatch.setattr("deflow_cli.inference.tiling.FLOW_OVERLAP_LIMIT", 64)
    monkeypatch.setattr("deflow_cli.inference.tiling.ENCODER_OVERLAP_LIMIT", 32)
    image = smooth_images(1, 96, 288)
    difference = (translate(image, model, tile=96) - translate(image, model)).abs().max()
    assert 0 < float(difference) < 0.5 / 255


@pytest.mark.parametrize("reverse", [False, True])
def test_windows_of_one_size_do_not_show(monkeypatch, reverse):
    """As on a GPU: the outer windows are moved inwards."""
    image = smooth_images(1, 150, 203)
    whole = translate(image, reverse=reverse)
    shapes = set()
    encode = WindowFlow.encode

    def watched(self, x, *rest):
        shapes.add(x.shape)
        return encode(self, x, *rest)

    monkeypatch.setattr(WindowFlow, "encode", watched)
    translator = Translator(small_model(), tile=16)
    translator._one_size = True
    tiled = torch.full_like(image, torch.nan)
    job = Job(ShiftDistribution(small_model().prior), [ImageNoise(1, "a")], [[0]], [1.0], reverse)
    translator.translate(image, job, [0], lambda _, window, piece: tiled[(..., *window.slices)].copy_(piece))
    assert len(shapes) == 1
    assert float((tiled - whole[0]).abs().max()) < 0.05 / 255


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 33), (17, 31)])
def test_any_size(size):
    image = smooth_images(1, *size)
    assert translate(image).shape == (1, 1, 3, *size)
    # nothing shifted, nothing changed but by the dequantisation
    model = build("correlated")
    model.prior.shared()[0].set_moments(0, torch.zeros(48), torch.zeros(48, 48))
    assert float((translate(image, model)[0] - image).abs().max()) <= 0.51 / 255


def test_batch_and_order_do_not_matter():
    images = smooth_images(2, 40, 48)
    both = translate(images, names=("a", "b"), components=[[0, 1], [1, 1]])
    for index, (name, own) in enumerate([("a", [0, 1]), ("b", [1, 1])]):
        alone = translate(images[index : index + 1], names=(name,), components=[own], order=[1, 0])
        assert torch.allclose(alone[0], both[index], atol=2e-5)


def test_same_seed_same_bits_other_seed_other_bits():
    image = smooth_images(1, 40, 40)
    assert torch.equal(translate(image), translate(image))
    assert not torch.allclose(translate(image), translate(image, seed=2), atol=1e-3)
    assert not torch.allclose(translate(image), translate(image, names=("b",)), atol=1e-3)


def test_samples_differ_and_share_their_conditions():
    drawn = translate(smooth_images(1, 40, 40), components=[[0, 0, 0]])[0]
    residual = (drawn - drawn.mean(0)).flatten(1)
    assert residual.std() > 1 / 255
    correlation = torch.corrcoef(residual - residual.mean(1, keepdim=True))
    assert float((correlation - torch.eye(3)).abs().max()) < 0.6  # -1/2 each, as residuals of their mean


def test_temperature_0_is_deterministic_over_samples_components_and_seeds():
    image = smooth_images(1, 40, 40)
    first = translate(image, components=[[0, 1, 0]], temperature=0.0)[0]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], translate(image, temperature=0.0, seed=99)[0, 0])


def test_variance_grows_with_temperature_and_the_mean_stays():
    """In latents exactly, whatever the component."""
    model = small_model()
    shift, generator = ShiftDistribution(model.prior), torch.Generator().manual_seed(0)
    latents = [torch.zeros(4000, 48, 1, 1)]
    noise = [torch.randn(4000, 48, 1, 1, generator=generator)]
    component = torch.tensor(draw_components(shift, 3, "image", 4000))
    drawn = {
        t: shift.degrade(latents, noise, torch.full((4000,), t), component)[0].flatten(1)
        for t in (0.0, 0.5, 1.0, 2.0)
    }
    centre = 0.7 * SHIFT_MEAN[0] + 0.3 * SHIFT_MEAN[1]
    for t, z in drawn.items():
        assert float((z.mean(0) - centre).abs().max()) < 0.06 * max(t, 1e-4) + 1e-6
    # within components 0.7 0.2^2 + 0.3 0.6^2, between them 0.7 0.3 0.6^2
    expected = 0.7 * 0.04 + 0.3 * 0.36 + 0.7 * 0.3 * 0.36
    for t, z in drawn.items():
        assert float(z.var(0).mean()) == pytest.approx(expected * t**2, rel=0.03, abs=1e-9)


def test_variance_of_images_grows_with_temperature():
    image = smooth_images(1, 48, 48)
    variances, means = [], []
    for temperature in (0.25, 0.5, 1.0):
        drawn = translate(
            image, components=[[0] * 6], temperature=temperature, model=small_model("correlated")
        )[0]
        variances.append(float(drawn.var(0).mean()))
        means.append(float(drawn.mean()))
    assert variances[0] < 0.5 * variances[1] < 0.25 * variances[2] * 1.2
    assert max(means) - min(means) < 0.5 / 255


def test_restoring_undoes_degrading_at_temperature_0():
    """With M = 0 the shift is a constant, and the posterior knows it."""
    model = build("correlated")
    model.prior.shared()[0].set_moments(0, torch.full((48,), 0.2), torch.zeros(48, 48))
    image = smooth_images(1, 48, 48)
    degraded = translate(image, model, temperature=0.0)[0]
    restored = translate(degraded, model, temperature=0.0, reverse=True)[0]
    assert float((degraded - image).abs().mean()) > 2 / 255
    assert float((restored - image).abs().mean()) < 0.3 * float((degraded - image).abs().mean())


def test_statistics_are_mapped_in_the_right_direction():
    """Degraded outputs get the degraded set's statistics; degraded inputs the clean set's."""
    model = build("correlated")
    model.prior.shared()[0].set_moments(0, torch.zeros(48), torch.zeros(48, 48))
    model.statistics.set(torch.tensor([[0.5], [0.4], [0.5], [0.4]]).expand(4, 3), torch.full((4, 3), 0.2))
    image = smooth_images(1, 32, 32).clamp(0.2, 0.8)
    degraded = translate(image, model)[0]
    assert float((degraded - (image - 0.1)).abs().max()) < 0.6 / 255
    assert float((translate(degraded, model, reverse=True)[0] - image).abs().max()) < 1.1 / 255


def test_out_of_memory_halves_the_tile_and_goes_on(monkeypatch):
    image = smooth_images(1, 80, 120)
    expected = translate(image)
    translator, sides = Translator(small_model(), tile=0), []
    whole = Translator._translate_tile

    def short_of_memory(self, padded, h, tile, *rest):
        sides.append(tile.width)
        if tile.width > 60:
            raise torch.cuda.OutOfMemoryError("too much")
        whole(self, padded, h, tile, *rest)

    monkeypatch.setattr(Translator, "_translate_tile", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    result = torch.empty_like(image)
    job = Job(ShiftDistribution(small_model().prior), [ImageNoise(1, "a")], [[0]], [1.0])
    translator.translate(image, job, [0], lambda _, window, piece: result[(..., *window.slices)].copy_(piece))
    assert sides[0] == 120
    assert translator.tile == 60
    assert float((result - expected[0]).abs().max()) < 0.05 / 255
    monkeypatch.setattr("deflow_cli.inference.tiling.SMALLEST_TILE", 10_000)
    translator.tile = 0
    with pytest.raises(DeviceError, match="out of memory"):
        translator.translate(image, job, [0], lambda *_: None)


def test_values_that_are_not_finite_are_an_error():
    with pytest.raises(DeflowError, match="not finite"):
        translate(smooth_images(1, 16, 16), temperature=1e39)


def test_wrong_layout_is_named():
    with pytest.raises(ShapeError, match="expected B x 3"):
        translate(torch.rand(1, 1, 16, 16))
