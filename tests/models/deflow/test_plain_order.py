"""The flow against the published order of computation, which the speed bench measures against."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.models.deflow.model import DeFlow
from tests.layers.invertible.bijection import randomise

ENCODER = EncoderConfig(channels=6, growth_channels=4, blocks=2, stacked_blocks=(0, 1))
CASES = [("published", 4, 0), ("published", 8, 0), ("bounded", 16, 0), ("bounded", 2, 0), ("published", 4, 5)]


@pytest.fixture
def plain_flow(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import plain_flow

    return plain_flow


@pytest.mark.parametrize(("scale", "downsample", "condition_channels"), CASES)
def test_encoding_and_decoding_are_the_published_ones(
    plain_flow: ModuleType, scale: str, downsample: int, condition_channels: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    flow = FlowConfig(
        levels=3,
        steps=2,
        hidden_channels=7,
        scale=scale,
        downsample=downsample,
        condition_channels=condition_channels,
    )
    model = DeFlow(ModelConfig(flow, ENCODER))
    randomise(model, generator)
    x = torch.rand((2, 3, 32, 48), generator=generator, dtype=torch.float64)
    with torch.no_grad():
        assert model.encoder is not None
        h = model.condition_image(x)
        features = plain_flow.features_of(model.encoder, h)
        expected, expected_log_det = plain_flow.encode(model.flow, x, features)
        for _ in range(2):  # the second time with what is kept of the weights
            conditions = model.prepare(h)
            latents, log_det = model.encode_conditioned(x, conditions)
            torch.testing.assert_close(log_det, expected_log_det, rtol=1e-11, atol=1e-9)
            for mine, theirs in zip(latents, expected, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
            image = model.decode_conditioned(latents, conditions)
            decoded = plain_flow.decode(model.flow, expected, features)
            torch.testing.assert_close(image, decoded, rtol=0, atol=1e-5)  # decoding amplifies


@pytest.mark.parametrize("conditioning", ["encoder", "none"])
def test_low_memory_gives_the_same_numbers_and_gradients(conditioning: str) -> None:
    generator = torch.Generator().manual_seed(0)
    flow = FlowConfig(levels=2, steps=2, hidden_channels=7, downsample=8, conditioning=conditioning)
    model = DeFlow(ModelConfig(flow, ENCODER))
    randomise(model, generator)
    x = torch.rand((2, 3, 16, 24), generator=generator, dtype=torch.float64)
    h = model.condition_image(x)
    results = []
    for low_memory in (False, True):
        latents, log_det = model.encode(x, h, low_memory=low_memory)
        loss = torch.stack([z.square().mean() for z in latents]).sum() - 1e-3 * log_det.sum()
        names, parameters = zip(
            *((k, p) for k, p in model.named_parameters() if "prior" not in k), strict=True
        )
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        results.append((loss, dict(zip(names, gradients, strict=True))))
    (loss, gradients), (low_loss, low_gradients) = results
    assert torch.equal(loss, low_loss)
    assert any(g is not None and g.any() for k, g in gradients.items() if "coupling" in k)
    for name, gradient in gradients.items():
        other = low_gradients[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None and other is not None:
            torch.testing.assert_close(other, gradient, rtol=1e-10, atol=1e-12, msg=name)


def test_low_memory_keeps_a_fraction_for_the_backward_pass() -> None:
    flow = FlowConfig(levels=2, steps=4, hidden_channels=32)
    model, image = DeFlow(ModelConfig(flow, ENCODER)), torch.rand(1, 3, 64, 64)
    h, kept = model.condition_image(image), {}
    for low_memory in (False, True):
        held: dict[int, int] = {}

        def keep(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                held[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.encode(image, h, low_memory=low_memory)
        kept[low_memory] = sum(held.values())
    assert kept[True] < kept[False] / 10
