"""Inspect: what a model file is: its sizes, its fit, and the spectrum of its shift."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deflow_cli.checkpoints.format import load_model
from deflow_cli.models.deflow.latent import SharedLatent
from deflow_cli.models.deflow.model import DeFlow

PROBE_SIDE = 64  # pixels of the image that multiply-adds are counted on
FIT_KEYS = ("step", "seconds", "skipped_steps", "device", "torch", "python")
LIKELIHOOD_KEYS = ("bits_per_dim_clean", "bits_per_dim_noisy")


@dataclass(frozen=True)
class ModelReport:
    """What a model is, in sections; each is a nested dictionary of plain values."""

    file: dict[str, Any]
    sizes: dict[str, Any]
    conditioning: dict[str, Any]
    training: dict[str, Any]
    likelihood: dict[str, Any]
    data: dict[str, Any]
    statistics: dict[str, Any]
    shift: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The sections that hold anything, by name."""
        return {name: section for name, section in dataclasses.asdict(self).items() if section}


def inspect_model(path: Path) -> ModelReport:
    """Read a model file and say what it is. Raises CheckpointError naming the file."""
    model, facts = load_model(path)
    # the run's whole configuration stands beside the model; here its model part is told in sections
    facts.pop("config", None)
    told = {"title", "date", "version", *FIT_KEYS, *LIKELIHOOD_KEYS}
    return ModelReport(
        file=_file(path, facts),
        sizes=_sizes(model),
        conditioning=_conditioning(model),
        training={key: facts[key] for key in FIT_KEYS if key in facts},
        likelihood={key: facts[key] for key in LIKELIHOOD_KEYS if key in facts},
        data={key: value for key, value in facts.items() if key not in told},
        statistics=_statistics(model),
        shift=_shift(model),
    )


def _file(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "path": str(path),
        "title": facts["title"],
        "date": facts["date"],
        "version": facts["version"],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _sizes(model: DeFlow) -> dict[str, Any]:
    flow = model.config.flow
    sizes: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_flow": sum(p.numel() for p in model.flow.parameters()),
        "parameters_encoder": sum(p.numel() for p in model.encoder.parameters()) if model.encoder else 0,
        "parameters_shift": sum(p.numel() for p in model.prior.parameters()),
        "levels": flow.levels,
        "steps": flow.steps,
        "hidden_channels": flow.hidden_channels,
        "splits": flow.splits,
        "scale": flow.scale if flow.scale == "published" else f"{flow.scale}, {flow.scale_bound:g}",
        "latents": [f"{channels} at 1/{factor}" for channels, factor in model.flow.latent_plan],
        "size_multiple": model.size_multiple,
        "quantization_levels": flow.quantization_levels,
    }
    return sizes | {"multiply_adds_per_pixel": multiply_adds(model)}


def multiply_adds(model: DeFlow, side: int = PROBE_SIDE) -> dict[str, int]:
    """Multiply-adds per input pixel, counted on a small image, without what is done once per model.

    features: from h to all that depends on it alone, once per image. encode, decode: the flow, the latter
    once per sample.
    """
    image = torch.rand(
        1, model.config.flow.in_channels, side, side, generator=torch.Generator().manual_seed(0)
    )

    def per_pixel(counter: FlopCounterMode) -> int:
        return round(counter.get_total_flops() / 2 / side**2)

    model.eval()
    with torch.no_grad():
        conditions = model.prepare(model.condition_image(image))  # folds the weights, which is not counted
        model.decode_conditioned(model.encode_conditioned(image, conditions)[0], conditions)
        with FlopCounterMode(display=False) as features:
            conditions = model.prepare(model.condition_image(image))
        with FlopCounterMode(display=False) as encoding:
            latents, _ = model.encode_conditioned(image, conditions)
        with FlopCounterMode(display=False) as decoding:
            model.decode_conditioned(latents, conditions)
    return {"features": per_pixel(features), "encode": per_pixel(encoding), "decode": per_pixel(decoding)}


def _conditioning(model: DeFlow) -> dict[str, Any]:
    flow, encoder = model.config.flow, model.config.encoder
    if model.encoder is None:
        return {"kind": "none"}
    return {
        "kind": "encoder",
        "downsample": flow.downsample,
        "h_noise": flow.h_noise,
        "feature_channels": model.encoder.feature_channels,
        "encoder_channels": encoder.channels,
        "encoder_blocks": encoder.blocks,
        "stacked_blocks": list(encoder.stacked_blocks),
    }


def _statistics(model: DeFlow) -> dict[str, Any]:
    """Channel means and standard deviations, where the domains differ by them."""
    statistics = model.statistics
    if not statistics.active:
        return {"in_use": False}
    rows = ("clean", "degraded", "clean_h", "degraded_h")
    return {"in_use": True} | {
        f"{row}_{name}": [float(value) for value in table[index]]
        for index, row in enumerate(rows)
        for name, table in (("mean", statistics.mean), ("std", statistics.std))
    }


def _shift(model: DeFlow) -> dict[str, Any]:
    weights = model.prior.log_weights().detach().exp()
    components = []
    for k, weight in enumerate(weights.tolist()):
        latents = {
            f"latent_{index}": _spectrum(latent, k) for index, latent in enumerate(model.prior.shared())
        }
        components.append({"weight": weight} | latents)
    return {"kind": model.config.flow.shift, "components": components}


def _spectrum(latent: SharedLatent, component: int) -> dict[str, Any]:
    """M M^T by its eigenvalues, mu, and the share of detail that A keeps.

    effective_rank: exp of the entropy of the eigenvalues' shares.
    """
    values = latent.spectrum()[component].sort(descending=True).values
    mean = latent.mean.detach()[component].double()
    return {
        "channels": latent.channels,
        "mean_rms": float(mean.square().mean().sqrt()),
        "mean_largest": float(mean.abs().max()),
        "eigenvalue_largest": float(values[0]),
        "eigenvalue_median": float(values.median()),
        "eigenvalue_smallest": float(values[-1]),
        "effective_rank": _effective_rank(values),
        "trace": float(values.sum()),
        "detail_kept": latent.detail_kept(),
    }


def _effective_rank(values: Tensor) -> float:
    total = float(values.sum())
    if total <= 0:
        return 0.0
    shares = values / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
