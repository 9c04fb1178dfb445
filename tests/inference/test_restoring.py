"""Restoring: pieces and tiles do not show, memory running out halves them, variants come back upright."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import to_pixels
from deflow_cli.errors import DeflowError, DeviceError, ShapeError
from deflow_cli.inference import restoring
from deflow_cli.inference.layerwise_tiling import LayerwiseGenerator
from deflow_cli.inference.restoring import (
    Restorer,
    automatic_side,
    bytes_per_pixel,
    overlap,
    trunk_reach,
    turned,
    turned_back,
)
from deflow_cli.models.esrgan.generator import RRDBNet
from tests.inference.small import smooth_images

HALF_LEVEL = 0.5 / 255


def network(scale: int = 4, strength: float = 3.0, **sizes: int) -> RRDBNet:
    """A tiny generator whose blocks do much more than untrained ones: what is far away matters."""
    config = RestorerConfig(**{"scale": scale, "channels": 8, "blocks": 1, "growth_channels": 4} | sizes)
    model = RRDBNet(config, torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.mul_(strength)
    return model


def whole(model: RRDBNet, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images)


def restored(restorer: Restorer, images: Tensor, **options: bool) -> Tensor:
    """The whole output, put together from what is handed out; every pixel must come."""
    batch, channels, height, width = images.shape
    result = torch.full((batch, channels, height * restorer.scale, width * restorer.scale), torch.nan)

    def write(window: restoring.Window, piece: Tensor) -> None:
        result[(..., *window.slices)] = piece

    restorer.restore(images, write, **options)
    return result


@pytest.mark.parametrize(
    ("scale", "sizes"),
    [(4, {}), (2, {}), (1, {}), (8, {}), (1, {"unshuffle": 1}), (2, {"unshuffle": 1}), (4, {"blocks": 3})],
)
@pytest.mark.parametrize("piece", [8, 11, 512])
def test_pieces_change_nothing(scale: int, sizes: dict[str, int], piece: int) -> None:
    model = network(scale, **sizes)
    images = smooth_images(2, 37, 50)
    expected = whole(model, images)
    assert expected.shape == (2, 3, 37 * scale, 50 * scale)
    difference = LayerwiseGenerator(copy.deepcopy(model), piece=piece)(images) - expected
    assert float(difference.abs().max()) < 1e-5


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 1), (2, 5), (1, 9)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_images_smaller_than_everything(scale: int, height: int, width: int) -> None:
    model = network(scale)
    images = smooth_images(1, height, width)
    assert torch.allclose(restored(Restorer(model, tile=32), images), whole(model, images), atol=1e-5)


@pytest.mark.parametrize(("scale", "unshuffle"), [(4, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize("tta", [False, True])
def test_tiles_leave_no_seam_where_the_reach_is_covered(scale: int, unshuffle: int, tta: bool) -> None:
    model = network(scale)
    assert trunk_reach(model.config) == 19
    images = smooth_images(1, 131, 150)  # no multiples of the unshuffle
    expected = restored(Restorer(model, tile=0, tta=tta), images)
    tiled = restored(Restorer(model, tile=37, tta=tta), images)
    assert float((tiled - expected).abs().max()) < 1e-5
    narrow = restored(Restorer(model, tile=37, tile_pad=0, tta=tta), images)
    assert float((narrow - expected).abs().max()) > HALF_LEVEL  # or the test would see no seam


def test_tiles_of_a_deep_network_stay_below_half_a_level() -> None:
    """With twelve blocks the reach is 184 and the overlap 96; these blocks reach as far as trained ones."""
    model = network(2, strength=18.0, blocks=12, unshuffle=1)
    assert overlap(model.config) == restoring.PAD_LIMIT < trunk_reach(model.config)
    images = smooth_images(1, 40, 420)
    expected = restored(Restorer(model, tile=0), images)
    errors = {}
    for pad in (16, None):
        tiled = restored(Restorer(model, tile=96, tile_pad=pad), images)
        errors[pad] = float((tiled - expected).abs().max())
    assert errors[None] < HALF_LEVEL
    assert errors[16] > HALF_LEVEL


def test_variants_are_undone_exactly() -> None:
    images = smooth_images(2, 5, 7)
    variants = [turned(images, index) for index in range(8)]
    for index, variant in enumerate(variants):
        assert torch.equal(turned_back(variant, index), images)
    square = smooth_images(1, 5, 5)
    assert len({tuple(turned(square, index).flatten().tolist()) for index in range(8)}) == 8


def test_self_ensemble_is_the_mean_and_turns_with_the_image() -> None:
    model = network(2)
    images = smooth_images(1, 22, 30)
    ensemble = Restorer(model, tta=True)
    mean = torch.stack([turned_back(whole(model, turned(images, index)), index) for index in range(8)]).mean(
        0
    )
    result = restored(ensemble, images)
    assert torch.allclose(result, mean, atol=1e-5)
    assert torch.allclose(restored(ensemble, turned(images, 5)), turned(result, 5), atol=1e-5)
    single = restored(Restorer(model), images)
    assert float((single - result).abs().max()) > HALF_LEVEL


def test_bfloat16_stays_near_and_is_refused_for_precise_images() -> None:
    model = network(4, strength=1.0)
    images = smooth_images(1, 24, 24)
    low = Restorer(model, dtype=torch.bfloat16)
    exact = whole(model, images)
    rough = restored(low, images)
    assert rough.dtype == torch.float32
    assert 1e-6 < float((rough - exact).abs().max()) < 0.02
    assert len(rough.unique()) > 0.9 * rough.numel()  # no steps of bfloat16 in the picture
    assert torch.allclose(restored(low, images, precise=True), exact, atol=1e-5)


def test_one_channel_restores_each_channel_alone() -> None:
    model = network(2, image_channels=1)
    images = smooth_images(2, 12, 10)
    result = restored(Restorer(model), images)
    for channel in range(3):
        part = whole(model, images[:, channel : channel + 1])
        assert torch.allclose(result[:, channel : channel + 1], part, atol=1e-5)


CPU_TEXT = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError(CPU_TEXT), torch.OutOfMemoryError("CUDA out of memory. Tried")]
)
def test_memory_running_out_halves_the_tile_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model = network(2)
    images = smooth_images(1, 130, 140)
    expected = whole(model, images)
    largest, sides = 90 * 90, []
    genuine = LayerwiseGenerator.__call__

    def limited(self: LayerwiseGenerator, images_bchw: Tensor, *tell: object) -> Tensor:
        sides.append(images_bchw.shape[-2:])
        if images_bchw[0, 0].numel() > largest:
            raise error
        return genuine(self, images_bchw, *tell)  # type: ignore[arg-type]

    monkeypatch.setattr(LayerwiseGenerator, "__call__", limited)
    said: list[str] = []
    restorer = Restorer(model, tile_pad=24, notify=said.append)
    assert torch.allclose(restored(restorer, images), expected, atol=1e-3)
    assert (restorer.tile, len(said)) == (36, 1)
    assert "out of memory" in said[0]
    before = len(sides)
    restored(restorer, images)
    assert all(height * width <= largest for height, width in sides[before:])  # the smaller tile is kept
    largest = 0
    with pytest.raises(DeviceError, match="out of memory even with tiles of"):
        restored(restorer, images)
    assert len(said) == 1


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LayerwiseGenerator, *images: object) -> Tensor:
        raise RuntimeError("sizes of tensors must match")

    monkeypatch.setattr(LayerwiseGenerator, "__call__", broken)
    with pytest.raises(RuntimeError, match="must match"):
        restored(Restorer(network()), smooth_images(1, 8, 8))


def test_tiles_by_memory() -> None:
    config = RestorerConfig()
    memory = 100_000 * bytes_per_pixel(config, torch.float32)
    assert automatic_side(config, 300, 300, 96, memory, torch.float32) == 0
    side = automatic_side(config, 3000, 3000, 96, memory, torch.float32)
    assert (side + 2 * 96) ** 2 <= 100_000 < (side + 2 * 96 + 2) ** 2
    assert bytes_per_pixel(config, torch.bfloat16) < bytes_per_pixel(config, torch.float32)
    assert automatic_side(config, 3000, 3000, 96, 0, torch.float32) == restoring.SMALLEST_TILE


def test_what_cannot_be_restored() -> None:
    with pytest.raises(ShapeError, match=r"expected B x 3"):
        restored(Restorer(network()), torch.rand(1, 4, 8, 8))
    model = network()
    with torch.no_grad():
        model.conv_last.bias.fill_(torch.inf)
    with pytest.raises(DeflowError, match="not finite"):
        restored(Restorer(model), smooth_images(1, 8, 8))


def test_progress_rises_to_the_end() -> None:
    shares: list[float] = []
    restorer = Restorer(network(blocks=2), tile=16, tta=True)
    restorer.restore(smooth_images(1, 24, 24), lambda window, piece: None, tell=shares.append)
    assert len(shares) == 4 * 8 * 2
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1


def test_pixels_of_tiles_are_those_of_the_whole() -> None:
    model = network(4)
    images = smooth_images(1, 70, 90)
    tiled, one = (to_pixels(restored(Restorer(model, tile=side), images)) for side in (32, 0))
    assert abs(tiled.astype(int) - one).max() <= 1  # rounding can tip over where the last bits differ
    assert (tiled != one).mean() < 1e-3
