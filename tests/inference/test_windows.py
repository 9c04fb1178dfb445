"""Windows: the computation that CUDA graphs record is that of plain windows, wherever they lie."""

from __future__ import annotations

import pytest
import torch

from deflow_cli.arrays import Window
from deflow_cli.inference.windows import Change, WindowFlow, _RecordedWindow
from deflow_cli.models.deflow.shift import ShiftDistribution
from deflow_cli.runtime.cuda_graphs import GraphedFunction
from tests.inference.small import build, small_model, smooth_images


@pytest.mark.parametrize("place", [(0, 0), (8, 32), (32, 16)])
def test_a_recorded_window_computes_what_a_plain_one_does(place):
    model = small_model()
    image = smooth_images(2, 64, 80)
    h = model.condition_image(image)
    seen, window = Window(0, 0, 64, 80), Window(*place, 32, 48)
    x = image[(..., *window.slices)]
    noise = [
        torch.randn(2, channels, 32 // factor, 48 // factor) for channels, factor in model.flow.latent_plan
    ]
    change = Change(ShiftDistribution(model.prior), False, noise, torch.ones(2), torch.tensor([0, 1]))
    with torch.no_grad():
        plain = WindowFlow(model).encode(x, h, window, seen)
        recorded = _RecordedWindow(model, GraphedFunction, 32 * 48, lambda: None)
        recorded.encode([x, h, *(torch.tensor(start) for start in place)])
        for ours, theirs in zip(recorded.encoding.latents, plain.encoding.latents, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(recorded.decode(change), plain.decode(change), rtol=1e-5, atol=1e-5)


def test_models_without_h_have_windows_too():
    model = build("correlated", conditioning="none")
    image, window = smooth_images(1, 32, 32), Window(0, 0, 32, 32)
    change = Change(
        ShiftDistribution(model.prior), True, None, torch.zeros(1), torch.zeros(1, dtype=torch.long)
    )
    with torch.no_grad():
        plain = WindowFlow(model).encode(image, None, window, window)
        recorded = _RecordedWindow(model, GraphedFunction, 32 * 32, lambda: None)
        recorded.encode([image])
        torch.testing.assert_close(recorded.decode(change), plain.decode(change))
