"""On a GPU pictures are translated by recorded tiles with coarse conditions: near the CPU, and every time."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deflow_cli.checkpoints.format import load_model, save_model
from deflow_cli.checkpoints.registry import default_model
from deflow_cli.data.images.files import Image, quantised, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.photos import packaged_photos
from deflow_cli.errors import DeflowError
from deflow_cli.inference import windows
from deflow_cli.inference.sampling.image_noise import ImageNoise
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator
from deflow_cli.layers.networks.conditioned import ZeroConv3x3
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from tests.inference.small import build, smooth_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
HALF_LEVEL = 0.5 / 255


def aim_like() -> DeFlow:
    """The published depth and scale, small in width, with networks about as strong as fitted ones.

    Networks twice as strong with a bounded scale amplify all rounding: their samples are no images.
    """
    model = build("correlated", levels=3, steps=16, scale="published")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ZeroConv3x3):
                module.weight.mul_(0.5)
    for latent in model.prior.shared():
        latent.set_moments(0, torch.full((latent.channels,), 0.05), 0.01 * torch.eye(latent.channels))
    return model


def translated(
    translator: Translator, image: Tensor, temperature: float = 1.0, samples: int = 1, reverse: bool = False
) -> Tensor:
    job = Job(
        ShiftDistribution(translator.model.prior),
        [ImageNoise(1, "a")],
        [[0] * samples],
        [temperature],
        reverse,
    )
    result = torch.full((samples, *image.shape[1:]), torch.nan)

    def write(sample: int, window: windows.Window, piece: Tensor) -> None:
        result[sample][(..., *window.slices)] = piece[0].cpu()

    translator.translate(image, job, range(samples), write)
    return result


def test_coarse_conditions_move_a_sample_by_less_than_half_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    image = smooth_images(1, 192, 256)
    coarse = translated(Translator(aim_like(), "cuda", 0, GraphedFunction), image)
    monkeypatch.setattr(windows, "coarse_conditions", lambda device: contextlib.nullcontext())
    exact = translated(Translator(aim_like(), "cuda", 0, GraphedFunction), image)
    assert float((coarse - exact).abs().max()) < HALF_LEVEL


def test_coarse_conditions_of_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load_model(default_model(None).path)
    clean, _ = packaged_photos()
    image = to_tensor(read_image(clean[0]).pixels)[..., 32:160, 32:192].contiguous()
    coarse = translated(Translator(model, "cuda", 0), image)
    monkeypatch.setattr(windows, "coarse_conditions", lambda device: contextlib.nullcontext())
    exact = translated(Translator(model, "cuda", 0), image)
    assert float((coarse - exact).abs().max()) < HALF_LEVEL


def test_encoding_and_decoding_undo_each_other() -> None:
    """A shift of nothing leaves the image and its dequantisation."""
    model = aim_like()
    for latent in model.prior.shared():
        latent.set_moments(0, torch.zeros(latent.channels), torch.zeros(latent.channels, latent.channels))
    image = smooth_images(1, 128, 160)
    result = translated(Translator(model, "cuda", 0, GraphedFunction), image, temperature=0.0)
    noise = ImageNoise(1, "a").dequantisation(3, windows.Window(0, 0, 128, 160)) / 255
    assert float((result - image - noise).abs().max()) < 0.05 / 255


@pytest.mark.parametrize("reverse", [False, True])
def test_recorded_tiles_are_those_of_the_cpu(reverse: bool) -> None:
    image = smooth_images(1, 200, 232)
    on_cpu = translated(Translator(build("mixture:2"), tile=0), image, samples=2, reverse=reverse)
    translator = Translator(build("mixture:2"), "cuda", 32, GraphedFunction)
    for _ in range(2):
        tiled = translated(translator, image, samples=2, reverse=reverse)
        assert float((tiled - on_cpu).abs().max()) < HALF_LEVEL
    recorded = translator._windows._recorded()
    assert len(recorded) == 1
    assert recorded[0]._encode.is_recorded
    assert all(graph.is_recorded for _, graph in recorded[0]._decodings.values())


def test_sizes_take_turns_in_shared_memory() -> None:
    translator = Translator(build("mixture:2"), "cuda", 0, GraphedFunction)
    images = [smooth_images(1, height, 64, seed=height) for height in (64, 96, 128)]
    first = [translated(translator, image, samples=3) for image in images]
    for _ in range(3):
        for image, expected in zip(images, first, strict=True):
            again = translated(translator, image, samples=3)
            torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)
    assert len(translator._windows._recorded()) == 3


def test_changed_weights_are_seen() -> None:
    translator = Translator(build("mixture:2"), "cuda", 0, GraphedFunction)
    image = smooth_images(1, 64, 64)
    before = [translated(translator, image) for _ in range(4)][-1]
    with torch.no_grad():
        for latent in translator.model.prior.shared():
            latent.mean.add_(0.5)
        for parameter in translator.model.flow.parameters():
            parameter.mul_(1.01)
    after = [translated(translator, image) for _ in range(4)]
    assert float((after[0] - before).abs().max()) > HALF_LEVEL
    torch.testing.assert_close(after[-1], after[0], rtol=1e-4, atol=1e-4)


def test_gradients_in_between_leave_the_graphs_right() -> None:
    """They empty the caches of folded weights, which the graphs read."""
    translator = Translator(build("mixture:2"), "cuda", 0, GraphedFunction)
    model, image = translator.model, smooth_images(1, 64, 64)
    before = [translated(translator, image) for _ in range(4)][-1]
    x = image.to("cuda")
    latents, _ = model.encode_conditioned(x, model.prepare(model.condition_image(x)))
    latents[0].sum().backward()
    scraps = [torch.full((1 << 20,), torch.nan, device="cuda") for _ in range(64)]
    torch.testing.assert_close(translated(translator, image), before, rtol=1e-4, atol=1e-4)
    del scraps


def test_values_that_are_not_finite_are_an_error() -> None:
    translator = Translator(build("mixture:2"), "cuda", 32, GraphedFunction)
    for _ in range(3):
        with pytest.raises(DeflowError, match="not finite"):
            translated(translator, smooth_images(1, 64, 64), temperature=1e39)


@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_have_the_bits_of_the_cpu(bits: int) -> None:
    values = np.arange(2**bits, dtype=f"uint{bits}")
    pixels = np.stack([values, values[::-1], np.roll(values, 7)], axis=-1).reshape(-1, 64, 3)
    tensor = to_tensor(pixels, "cuda")
    assert torch.equal(tensor.cpu(), to_tensor(pixels))
    noisy = tensor + 0.3 * torch.randn_like(tensor)
    assert np.array_equal(quantised(noisy, bits).cpu().numpy(), to_pixels(noisy, bits))


def test_folders_are_those_of_the_cpu(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", build("mixture:2"), {"step": 1})
    for index in range(7):
        bits = 16 if index == 3 else 8
        pixels = to_pixels(smooth_images(1, 70 + index, 90, seed=index), bits)
        write_image(tmp_path / "in" / f"{index}.png", Image(pixels))
    (tmp_path / "in" / "4.png").write_bytes(b"no picture")
    reports = {}
    for device in ("cpu", "cuda"):
        request = DegradeRequest(
            tmp_path / "in",
            tmp_path / device,
            tmp_path / "model.safetensors",
            samples=2,
            device=device,
            tile=32,
        )
        reports[device] = degrade(request, Silent())
    for name in ("skipped", "failed"):
        assert getattr(reports["cpu"], name) == getattr(reports["cuda"], name)
    assert [r.source for r in reports["cpu"].records] == [r.source for r in reports["cuda"].records]
    for record in reports["cpu"].records:
        for target in record.targets:
            ours = read_image(tmp_path / "cuda" / target.name)
            theirs = read_image(target)
            level = 1 if ours.bits == 8 else 200
            assert ours.pixels.dtype == theirs.pixels.dtype
            assert int(np.abs(ours.pixels.astype(int) - theirs.pixels).max()) <= level
