"""The whole flow is a bijection, whatever its splits, scales and conditioning; latents have their shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.errors import ShapeError
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.split import Split
from deflow_cli.layers.invertible.variant import FlowVariant
from deflow_cli.models.deflow.model import DeFlow
from tests.layers.invertible.bijection import FlowAsBijection, assert_bijection, randomise


def small(**flow: object) -> DeFlow:
    """A model with random parameters, none zero."""
    defaults: dict[str, object] = {"levels": 2, "steps": 2, "hidden_channels": 4, "downsample": 2}
    encoder = EncoderConfig(channels=3, growth_channels=2, blocks=2, stacked_blocks=(0, 1))
    model = DeFlow(ModelConfig(FlowConfig(**defaults | flow), encoder))  # type: ignore[arg-type]
    randomise(model, torch.Generator().manual_seed(5))
    return model.eval()


def image(*shape: int, seed: int = 6) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("flow", "size", "latents"),
    [
        ({"splits": "none"}, (4, 4), [(48, 1, 1)]),
        ({"splits": "published"}, (4, 8), [(48, 1, 2)]),  # two levels: no split
        ({"splits": "all"}, (8, 4), [(6, 4, 2), (24, 2, 1)]),
        ({"splits": "all", "scale": "bounded"}, (4, 4), [(6, 2, 2), (24, 1, 1)]),
        ({"splits": "all", "conditioning": "none"}, (4, 4), [(6, 2, 2), (24, 1, 1)]),
        ({"splits": "all", "condition_channels": 2}, (4, 4), [(6, 2, 2), (24, 1, 1)]),
        ({"splits": "published", "levels": 3, "steps": 1}, (8, 8), [(6, 4, 4), (96, 1, 1)]),
        (
            {"splits": "all", "levels": 3, "steps": 1, "transition_steps": 1},
            (8, 8),
            [(6, 4, 4), (12, 2, 2), (48, 1, 1)],
        ),
    ],
)
def test_whole_flow_is_a_bijection(
    flow: dict[str, object],
    size: tuple[int, int],
    latents: list[tuple[int, int, int]],
) -> None:
    model = small(**flow)
    for layer in model.flow.layers:
        if isinstance(layer, Split):
            layer.eps = 0.0  # the published eps is no part of the log-det; without it the proof is tight
    assert model.flow.latent_shapes(*size) == latents
    with torch.no_grad():
        conditions = model.prepare(image(2, 3, size[0] // 2, size[1] // 2, seed=9))
    has_split = any(isinstance(layer, Split) for layer in model.flow.layers)
    assert has_split == (len(latents) > 1)
    assert_bijection(FlowAsBijection(model.flow, size), image(2, 3, *size), conditions)


@pytest.mark.parametrize("injector", ["after", "before"])
@pytest.mark.parametrize("encoding", ["divide", "multiply"])
def test_whole_flow_of_every_variant_is_a_bijection(encoding: str, injector: str) -> None:
    model = small(splits="all")
    features = model.encoder.feature_channels
    variant = FlowVariant(encoding, injector, "dense", split_eps=0.0)
    flow = ConditionalFlow.from_config(model.config.flow, features, variant=variant)
    randomise(flow, torch.Generator().manual_seed(5))
    with torch.no_grad():
        conditions = flow.prepare(model.encoder.features(image(2, 3, 2, 2, seed=9)))
    assert_bijection(FlowAsBijection(flow, (4, 4)), image(2, 3, 4, 4), conditions)


@pytest.mark.parametrize("conditioning", ["encoder", "none"])
def test_recomputing_gives_the_same_values_and_gradients(conditioning: str) -> None:
    model = small(splits="all", conditioning=conditioning)
    results = []
    for low_memory in (False, True):
        model.zero_grad()
        latents, log_det = model.encode(image(2, 3, 4, 4), image(2, 3, 2, 2), low_memory=low_memory)
        (log_det.sum() + sum(z.square().sum() for z in latents)).backward()
        results.append([log_det, *latents, *(p.grad for p in model.flow.parameters())])
    assert all(torch.equal(kept, computed) for kept, computed in zip(*results, strict=True))


def test_flow_depends_on_its_condition_and_a_mixed_up_one_is_noticed() -> None:
    model = small(splits="all")
    x = image(2, 3, 4, 4)
    with torch.no_grad():
        right, wrong = (model.prepare(image(2, 3, 2, 2, seed=s)) for s in (1, 2))
        latents, _ = model.encode_conditioned(x, right)
        torch.testing.assert_close(model.decode_conditioned(latents, right), x, rtol=0, atol=1e-3)
        assert (model.decode_conditioned(latents, wrong) - x).abs().max() > 1e-2


def test_unfit_sizes_are_refused() -> None:
    model = small(downsample=8)
    assert model.size_multiple == 8
    with pytest.raises(ShapeError, match="12x8"):
        model.encode_conditioned(image(1, 3, 12, 8), [None] * len(model.flow.layers))


def test_a_new_model_is_determined_by_its_seed() -> None:
    config = small().config
    one, same, other = (DeFlow(config, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)
