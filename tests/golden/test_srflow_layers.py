"""The flow's layers in SRFlow's variant against its golden tensors: encodings, log-dets and samples."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from deflow_cli.config.model import FlowConfig
from deflow_cli.layers.invertible.flow import ConditionalFlow
from deflow_cli.layers.invertible.variant import FlowVariant
from deflow_cli.layers.networks.upsampled import LevelFeatures
from tests.golden.full import FOLDER, needs_golden
from tests.golden.recipe import srflow_weight
from tests.golden.tolerances import tolerance

pytestmark = needs_golden

SRFLOW = FlowVariant("multiply", "before", "dense", split_eps=0.0)
NAMES = ("srflow_small_x4", "srflow_small_x8")
PUBLISHED_NAMES = (
    (".coupling.", ".affine.fAffine."),
    (".injector.", ".affine.fFeatures."),
    ("weight_in", "0.weight"),
    ("norm_in", "0.actnorm"),
    ("weight_mid", "2.weight"),
    ("norm_mid", "2.actnorm"),
    ("conv_out", "4"),
)


def published_name(key: str) -> str:
    for ours, theirs in PUBLISHED_NAMES:
        key = key.replace(ours, theirs)
    return f"flowUpsamplerNet.{key}"


@pytest.fixture(scope="module", params=NAMES)
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], ConditionalFlow]:
    io = load_file(Path(FOLDER) / f"{request.param}.io.safetensors")
    info = json.loads((Path(FOLDER) / f"{request.param}.json").read_text())
    config = FlowConfig(
        levels=info["config"]["L"],
        steps=info["config"]["K"],
        hidden_channels=info["config"]["hidden"],
        scale_eps=1e-4,
    )
    flow = ConditionalFlow.from_config(config, io["s1.feat.level1"].shape[1], variant=SRFLOW)
    state = {}
    for key, value in flow.state_dict().items():
        name = published_name(key)
        tensor = srflow_weight(info["seed"], name, tuple(value.shape))
        state[key] = io[f"sd.{name}"].reshape(value.shape) if tensor is None else tensor
    flow.load_state_dict(state, strict=True)
    return io, flow.eval()


def conditions_of(io: dict[str, Tensor], flow: ConditionalFlow) -> list[tuple[Tensor, ...] | None]:
    levels = max(flow.level_of_layer)
    return flow.prepare([LevelFeatures(io[f"s1.feat.level{level}"]) for level in range(1, levels + 1)])


@torch.no_grad()
def test_encoding(golden: tuple[dict[str, Tensor], ConditionalFlow]) -> None:
    io, flow = golden
    latents, log_det = flow.encode(io["s1.gt_u8"].float() / 255, conditions_of(io, flow))
    for index, z in enumerate(latents):
        torch.testing.assert_close(z, io[f"s1.enc.eps{index}"], rtol=0, atol=tolerance("golden.latent"))
    for z in latents[:-1]:  # the published log-det holds the log-priors of the split latents
        log_det = log_det - 0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
    expected = io["s1.enc.logdet"]
    torch.testing.assert_close(log_det, expected, rtol=tolerance("golden.log_det"), atol=0)


@torch.no_grad()
@pytest.mark.parametrize(("name", "temperature"), [("t00", 0.0), ("t08", 0.8), ("t09", 0.9)])
def test_samples(golden: tuple[dict[str, Tensor], ConditionalFlow], name: str, temperature: float) -> None:
    io, flow = golden
    draws = [io[f"s1.draw{index}"] for index in range(len(flow.latent_plan))]
    image, _ = flow.decode([temperature * draw for draw in draws], conditions_of(io, flow))
    torch.testing.assert_close(image, io[f"s1.{name}.img"], rtol=0, atol=tolerance("golden.image"))
