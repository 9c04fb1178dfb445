"""SRFlow's golden models: their weights, and the published definitions of their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from deflow_cli.checkpoints.srflow.published import (
    load_published_srflow,
    published_srflow_layout,
    published_srflow_names,
)
from deflow_cli.config.model import EncoderConfig
from deflow_cli.config.srflow import SRFlowConfig, SRFlowModelConfig
from deflow_cli.models.srflow.model import SRFlow, log_standard_normal
from deflow_cli.models.srflow.objective import published_nll
from tests.golden.full import FOLDER, Golden
from tests.golden.recipe import srflow_weight

SRFLOW_NAMES = ("srflow_small_x4", "srflow_small_x8", "srflow_small_x4_nosplit")
LEVELS = 32  # of the uniform noise on the images
PROJECTION = "flowUpsamplerNet.f.0."  # unused, and of another width in a flow without splits
SPLITLESS_PROJECTION = 384


def srflow_golden_config(config: Mapping[str, Any]) -> SRFlowModelConfig:
    """Sizes of a golden model from its JSON; two levels have no split, as published ones do."""
    flow = SRFlowConfig(
        scale=config["scale"],
        levels=config["L"],
        steps=config["K"],
        hidden_channels=config["hidden"],
        noise="none",
    )
    return SRFlowModelConfig(flow, EncoderConfig(blocks=config["nb"], stacked_blocks=tuple(config["blocks"])))


def srflow_golden_state(
    config: Mapping[str, Any], seed: int, actnorm: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The published state dict: ActNorm parameters as given, every other tensor from the recipe."""
    layout = published_srflow_layout(SRFlow(srflow_golden_config(config)))
    if config.get("split") is False:
        layout = {
            key: (SPLITLESS_PROJECTION, *shape[1:]) if key.startswith(PROJECTION) else shape
            for key, shape in layout.items()
        }
    state = {}
    for key, shape in layout.items():
        tensor = srflow_weight(seed, key, shape)
        state[key] = actnorm[key].reshape(shape) if tensor is None else tensor
    return state


def srflow_golden_model(
    state: Mapping[str, Tensor], config: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> SRFlow:
    """The model, its sizes detected from the state dict, loaded strictly."""
    loaded = load_published_srflow(state, stacked_blocks=config["blocks"])
    assert loaded.model.config == srflow_golden_config(config)
    return loaded.model.to(dtype)


def srflow_parameters(model: SRFlow) -> dict[str, Tensor]:
    """Published name -> our parameter."""
    names = published_srflow_names(model)
    return {names[key]: value for key, value in model.named_parameters()}


def log_priors_of_splits(latents: Sequence[Tensor]) -> Tensor | float:
    """log N(z; 0, I) of all latents but the last, per sample."""
    return log_standard_normal(latents[:-1]) if len(latents) > 1 else 0.0


def encoded_with_nll(
    model: SRFlow, y: Tensor, x: Tensor, uniform: Tensor | None = None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """(latents, published log-det, published NLL); ``uniform`` in [0, 1) is the draw of the noise on y.

    The published log-det holds the log-priors of the splits and, where noise was added, its term.
    """
    noisy = y if uniform is None else y + (uniform - 0.5) / LEVELS
    latents, log_det = model.encode_for_training(noisy, x)
    levels = None if uniform is None else LEVELS
    nll = published_nll(log_standard_normal(latents) + log_det, *y.shape[-2:], levels)
    quantisation = math.log(levels) * y[0, 0].numel() if levels else 0.0
    return latents, log_det + log_priors_of_splits(latents) - quantisation, nll


@dataclass(frozen=True)
class SRFlowGolden(Golden):
    """One golden model of SRFlow; the fixture without splits has other names for its tensors."""

    @property
    def has_splits(self) -> bool:
        return self.info["config"].get("split", True)

    @property
    def noised(self) -> str:
        """Begins the names of encodings with noise."""
        return "encu" if self.has_splits else "encq"

    @property
    def gradients(self) -> tuple[str, dict[str, list[float] | None]]:
        """The prefix of full gradients of the mean NLL, and the figures of all."""
        name = ("grad.", "grad_nll_s0") if self.has_splits else ("grad1.", "grad_step1")
        return name[0], self.info[name[1]]

    @property
    def losses(self) -> list[float]:
        """Before the first Adam step, the second and the third, and after it."""
        if self.has_splits:
            return self.info["adam_losses_before_steps_1_2_3_and_after"]
        return [*self.info["losses_3steps"], self.info["loss_after_3steps"]]

    def decoded(self, size: str) -> dict[str, float]:
        """Names of decodings and their temperatures."""
        names = {"t00": 0.0, "t08": 0.8, "t09": 0.9, "dec0": 0.0, "dec09": 0.9}
        return {name: value for name, value in names.items() if f"{size}.{name}.img" in self.io}

    def draws(self, size: str) -> list[Tensor]:
        """Standard normals of the decodings."""
        return self.listed(f"{size}.draw" if self.has_splits else f"{size}.dec.lat")

    def srflow(self, dtype: torch.dtype = torch.float32) -> SRFlow:
        return srflow_golden_model(self.state, self.info["config"], dtype)


def load_srflow_golden(name: str) -> SRFlowGolden:
    io = load_file(Path(FOLDER) / f"{name}.io.safetensors")
    info = json.loads((Path(FOLDER) / f"{name}.json").read_text())
    actnorm = {key[3:]: value for key, value in io.items() if key.startswith("sd.")}
    return SRFlowGolden(io, info, srflow_golden_state(info["config"], info["seed"], actnorm))
