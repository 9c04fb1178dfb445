"""Parity: a model with the golden weights, and the golden definitions of its numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deflow_cli.checkpoints.foreign import load_published, published_key_map, published_layout
from deflow_cli.config.model import EncoderConfig, FlowConfig, ModelConfig
from deflow_cli.models.deflow.model import DeFlow
from tests.golden.recipe import weight

NAMES = ("small_x4", "small_x4_L2")
SIZES = ("s0", "s1")
QUANTISATION = math.log(32.0)  # per position


def golden_config(config: Mapping[str, Any]) -> ModelConfig:
    """Sizes of a golden model from its JSON: scale, L, K, nb, hidden."""
    flow = FlowConfig(
        levels=config["L"],
        steps=config["K"],
        hidden_channels=config["hidden"] or 64,
        downsample=config["scale"],
    )
    return ModelConfig(flow, EncoderConfig(blocks=config["nb"], stacked_blocks=tuple(range(config["nb"]))))


def golden_state(config: ModelConfig, seed: int, actnorm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict: ActNorm parameters as given, every other tensor from the recipe."""
    state = {}
    for key, shape in published_layout(DeFlow(config)).items():
        tensor = weight(seed, key, shape)
        state[key] = actnorm[key].reshape(shape) if tensor is None else tensor
    return state


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Of keys and bytes, in the order of the keys."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def golden_model(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> DeFlow:
    """The model, its sizes detected from the state dict, loaded strictly."""
    return load_published(state)[0].to(dtype)


def published_parameters(model: DeFlow) -> dict[str, Tensor]:
    """Published name -> our parameter."""
    names = published_key_map(model)
    return {names[key]: value for key, value in model.named_parameters() if key in names}


def log_priors(model: DeFlow, latents: list[Tensor], labels: Tensor) -> list[Tensor]:
    """log p of each latent on its own, per sample."""
    result = []
    for prior, z in zip(model.prior.shared(), latents, strict=True):
        clean = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
        result.append(torch.where(labels.bool(), prior.log_prob_degraded(z)[:, 0], clean))
    return result


def golden_log_det(
    model: DeFlow, image: Tensor, latents: list[Tensor], log_det: Tensor, labels: Tensor, quantised: bool
) -> Tensor:
    """The published log-det: it holds the log-priors of the split latents (all but the last) and, where
    quantisation noise was added, the quantisation term too."""
    quantisation = QUANTISATION * image[0, 0].numel() if quantised else 0.0
    return log_det + sum(log_priors(model, latents, labels)[:-1], torch.zeros_like(log_det)) - quantisation


def published_nll(
    model: DeFlow, image: Tensor, latents: list[Tensor], log_det: Tensor, labels: Tensor, quantised: bool
) -> Tensor:
    """Bits per position (spec of the publication): the log(32) term stands where noise was added."""
    positions = image[0, 0].numel()
    quantisation = QUANTISATION * positions if quantised else 0.0
    total = log_det + model.prior.log_prob(latents, labels) - quantisation
    return -total / (math.log(2.0) * positions)


def encode_with_nll(
    model: DeFlow, image: Tensor, h: Tensor, labels: Tensor, uniform: Tensor | None = None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """(latents, golden log-det, published nll); ``uniform`` in [0, 1) is the quantisation noise's draw."""
    x = image if uniform is None else image + (uniform - 0.5) / 32.0
    latents, log_det = model.encode_conditioned(x, model.prepare(h))
    quantised = uniform is not None
    nll = published_nll(model, image, latents, log_det, labels, quantised)
    return latents, golden_log_det(model, image, latents, log_det, labels, quantised), nll
