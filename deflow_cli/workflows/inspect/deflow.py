"""Inspect a degradation model: its sizes, how it was fitted, and the spectrum of its shift."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from deflow_cli.checkpoints.format import load_model
from deflow_cli.degraders.flow.compression import SampleCompression
from deflow_cli.models.deflow.latent import SharedLatent
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.workflows.inspect.identity import (
    FileIdentity,
    MultiplyAdds,
    count_parameters,
    counted,
    file_identity,
)

PROBE_SIDE = 64  # pixels of the image that multiply-adds are counted on
FIT_KEYS = ("step", "seconds", "skipped_steps", "device", "torch", "python")
LIKELIHOOD_KEYS = ("bits_per_dim_clean", "bits_per_dim_noisy")
STATISTICS_ROWS = ("clean", "degraded", "clean_h", "degraded_h")  # rows of the model's table


@dataclass(frozen=True)
class ModelSizes:
    """Numbers of parameters, the flow's shape, and its cost. latents: ``C at 1/s`` for each latent."""

    parameters: int
    parameters_flow: int
    parameters_encoder: int
    parameters_shift: int
    levels: int
    steps: int
    hidden_channels: int
    splits: str
    scale: str
    latents: list[str]
    size_multiple: int
    quantization_levels: int
    multiply_adds_per_pixel: MultiplyAdds


@dataclass(frozen=True)
class ConditioningSizes:
    """The encoder of h(x). h_noise: standard deviation on the [0, 1] scale."""

    downsample: int
    h_noise: float
    feature_channels: int
    encoder_channels: int
    encoder_blocks: int
    stacked_blocks: list[int]


@dataclass(frozen=True)
class LatentSpectrum:
    """The shift of one latent: u = mu + M e by mu and by the eigenvalues of M M^T.

    effective_rank: exp of the entropy of the eigenvalues' shares. detail_kept: the share of detail that the
    gain A keeps.
    """

    channels: int
    mean_rms: float
    mean_largest: float
    eigenvalue_largest: float
    eigenvalue_median: float
    eigenvalue_smallest: float
    effective_rank: float
    trace: float
    detail_kept: float


@dataclass(frozen=True)
class ShiftComponent:
    """One component of the shift: its weight, and its spectrum in each latent that the domains share."""

    weight: float
    latents: list[LatentSpectrum]


@dataclass(frozen=True)
class ModelReport:
    """What a model is.

    conditioning: None without an encoder. training, likelihood, data: facts that the fit recorded.
    compression: how the degraded images were JPEG compressed, as the fit recorded it; empty: not recorded.
    statistics: means and standard deviations of channels by name; None where the model does not use them.
    shift_kind: as in ``flow.shift``.
    """

    file: FileIdentity
    sizes: ModelSizes
    conditioning: ConditioningSizes | None
    training: dict[str, object]
    likelihood: dict[str, object]
    data: dict[str, object]
    compression: dict[str, object]
    statistics: dict[str, list[float]] | None
    shift_kind: str
    components: list[ShiftComponent]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """The sections that hold anything, by name, as plain values."""
        sections: dict[str, dict[str, object]] = {
            "file": asdict(self.file),
            "sizes": asdict(self.sizes),
            "conditioning": {"kind": "encoder", **asdict(self.conditioning)}
            if self.conditioning is not None
            else {"kind": "none"},
            "training": self.training,
            "likelihood": self.likelihood,
            "data": self.data,
            "compression": self.compression,
            "statistics": {"in_use": self.statistics is not None, **(self.statistics or {})},
            "shift": {
                "kind": self.shift_kind,
                "components": [
                    {"weight": component.weight}
                    | {f"latent_{index}": asdict(latent) for index, latent in enumerate(component.latents)}
                    for component in self.components
                ],
            },
        }
        return {name: section for name, section in sections.items() if section}


def inspect_deflow(path: Path) -> ModelReport:
    """Read a degradation model's file and describe it. Raises CheckpointError naming the file."""
    model, facts = load_model(path)
    # The run's whole configuration is among the facts; the sections describe its model part already.
    facts.pop("config", None)
    elsewhere = {"title", "date", "version", "compression", *FIT_KEYS, *LIKELIHOOD_KEYS}
    return ModelReport(
        file=file_identity(path, facts),
        sizes=_sizes(model),
        conditioning=_conditioning(model),
        training={key: facts[key] for key in FIT_KEYS if key in facts},
        likelihood={key: facts[key] for key in LIKELIHOOD_KEYS if key in facts},
        data={key: value for key, value in facts.items() if key not in elsewhere},
        compression=_compression(SampleCompression.recorded(facts, path)),
        statistics=_statistics(model),
        shift_kind=model.config.flow.shift,
        components=_components(model),
    )


def _sizes(model: DeFlow) -> ModelSizes:
    flow = model.config.flow
    return ModelSizes(
        parameters=count_parameters(model),
        parameters_flow=count_parameters(model.flow),
        parameters_encoder=count_parameters(model.encoder),
        parameters_shift=count_parameters(model.prior),
        levels=flow.levels,
        steps=flow.steps,
        hidden_channels=flow.hidden_channels,
        splits=flow.splits,
        scale=flow.scale if flow.scale == "published" else f"{flow.scale}, {flow.scale_bound:g}",
        latents=[f"{channels} at 1/{factor}" for channels, factor in model.flow.latent_plan],
        size_multiple=model.size_multiple,
        quantization_levels=flow.quantization_levels,
        multiply_adds_per_pixel=multiply_adds(model),
    )


def multiply_adds(model: DeFlow, side: int = PROBE_SIDE) -> MultiplyAdds:
    """Count multiply-adds on a random image of ``side`` pixels squared."""
    image = torch.rand(
        1, model.config.flow.in_channels, side, side, generator=torch.Generator().manual_seed(0)
    )

    model.eval()
    with torch.no_grad():
        conditions = model.prepare(model.condition_image(image))  # folds the weights, which is not counted
        model.decode_conditioned(model.encode_conditioned(image, conditions)[0], conditions)
        conditions, features = counted(lambda: model.prepare(model.condition_image(image)), side**2)
        (latents, _), encoding = counted(lambda: model.encode_conditioned(image, conditions), side**2)
        _, decoding = counted(lambda: model.decode_conditioned(latents, conditions), side**2)
    return MultiplyAdds(features, encoding, decoding)


def _conditioning(model: DeFlow) -> ConditioningSizes | None:
    if model.encoder is None:
        return None
    flow, encoder = model.config.flow, model.config.encoder
    return ConditioningSizes(
        downsample=flow.downsample,
        h_noise=flow.h_noise,
        feature_channels=model.encoder.feature_channels,
        encoder_channels=encoder.channels,
        encoder_blocks=encoder.blocks,
        stacked_blocks=list(encoder.stacked_blocks),
    )


def _compression(recorded: SampleCompression | None) -> dict[str, object]:
    if recorded is None:
        return {}
    folder = recorded.folder
    return {
        "images_examined": folder.examined,
        "images_compressed": folder.found,
        "quality": folder.qualities,
        "subsampling": folder.subsamplings,
    }


def _statistics(model: DeFlow) -> dict[str, list[float]] | None:
    statistics = model.statistics
    if not statistics.active:
        return None
    told = {
        f"{row}_{name}": [float(value) for value in table[index]]
        for index, row in enumerate(STATISTICS_ROWS)
        for name, table in (("mean", statistics.mean), ("std", statistics.std))
    }
    saturation = float(statistics.saturation)
    return told if saturation == 1 else told | {"saturation": [saturation]}


def _components(model: DeFlow) -> list[ShiftComponent]:
    weights = model.prior.log_weights().detach().exp()
    return [
        ShiftComponent(weight, [_spectrum(latent, k) for latent in model.prior.shared()])
        for k, weight in enumerate(weights.tolist())
    ]


def _spectrum(latent: SharedLatent, component: int) -> LatentSpectrum:
    values = latent.spectrum()[component].sort(descending=True).values
    mean = latent.mean.detach()[component].double()
    return LatentSpectrum(
        channels=latent.channels,
        mean_rms=float(mean.square().mean().sqrt()),
        mean_largest=float(mean.abs().max()),
        eigenvalue_largest=float(values[0]),
        eigenvalue_median=float(values.median()),
        eigenvalue_smallest=float(values[-1]),
        effective_rank=_effective_rank(values),
        trace=float(values.sum()),
        detail_kept=latent.detail_kept(),
    )


def _effective_rank(values: Tensor) -> float:
    total = float(values.sum())
    if total <= 0:
        return 0.0
    shares = values / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
