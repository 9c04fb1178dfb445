"""Inspect an SRFlow model: its sizes, the noise of its training, and what the training recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from deflow_cli.checkpoints.restorer import load_restorer
from deflow_cli.errors import CheckpointError
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.workflows.inspect.identity import (
    FileIdentity,
    MultiplyAdds,
    count_parameters,
    counted,
    file_identity,
)

PROBE_SIDE_OF_X = 16  # pixels of the small image that multiply-adds are counted on
IDENTITY_KEYS = ("title", "date", "version")
# The run's whole configuration is among the facts; the sections describe its model part already.
LEFT_OUT = ("config", "dialect", *IDENTITY_KEYS)


@dataclass(frozen=True)
class SRFlowSizes:
    """Numbers of parameters, the flow's shape, and its cost.

    layout: of the file, deflow or published. scale: sides of y over those of x. affine: the scales' form, and
    their bound or least value. latents: ``C at 1/s`` of y for each latent. size_multiple: of the sides of x.
    """

    kind: str
    layout: str
    scale: int
    parameters: int
    parameters_flow: int
    parameters_encoder: int
    levels: int
    steps: int
    hidden_channels: int
    splits: str
    form: str
    pointwise: str
    affine: str
    residual: str
    latents: list[str]
    size_multiple: int
    multiply_adds_per_pixel: MultiplyAdds


@dataclass(frozen=True)
class SRFlowConditioning:
    """The encoder of x."""

    feature_channels: int
    encoder_channels: int
    encoder_blocks: int
    stacked_blocks: list[int]


@dataclass(frozen=True)
class SRFlowReport:
    """What an SRFlow model is.

    noise: on y in the training. training: all other facts that its file records; of published files what was
    assumed.
    """

    file: FileIdentity
    sizes: SRFlowSizes
    conditioning: SRFlowConditioning
    noise: dict[str, object]
    training: dict[str, object]

    def as_dict(self) -> dict[str, dict[str, object]]:
        """The sections that hold anything, by name, as plain values."""
        return {name: section for name, section in asdict(self).items() if section}


def inspect_srflow(path: Path) -> SRFlowReport:
    """Read an SRFlow's file, ours or published, and describe it. Raises CheckpointError naming the file."""
    model, facts = load_restorer(path)
    if not isinstance(model, SRFlow):
        raise CheckpointError(f"{path}: not an SRFlow model")
    return SRFlowReport(
        file=file_identity(path, facts),
        sizes=_sizes(model, str(facts["dialect"])),
        conditioning=SRFlowConditioning(
            feature_channels=model.encoder.feature_channels,
            encoder_channels=model.config.encoder.channels,
            encoder_blocks=model.config.encoder.blocks,
            stacked_blocks=list(model.config.encoder.stacked_blocks),
        ),
        noise=_noise(model),
        training={key: value for key, value in facts.items() if key not in LEFT_OUT},
    )


def _sizes(model: SRFlow, layout: str) -> SRFlowSizes:
    srflow = model.config.srflow
    bound = srflow.affine_eps if srflow.affine == "published" else srflow.affine_bound
    return SRFlowSizes(
        kind="SRFlow",
        layout=layout,
        scale=model.scale,
        parameters=count_parameters(model),
        parameters_flow=count_parameters(model.flow),
        parameters_encoder=count_parameters(model.encoder),
        levels=srflow.levels,
        steps=srflow.steps,
        hidden_channels=srflow.hidden_channels,
        splits=srflow.splits,
        form=srflow.form,
        pointwise=srflow.pointwise,
        affine=f"{srflow.affine}, {bound:g}",
        residual=srflow.residual,
        latents=[f"{channels} at 1/{factor}" for channels, factor in model.flow.latent_plan],
        size_multiple=model.size_multiple,
        multiply_adds_per_pixel=srflow_multiply_adds(model),
    )


def srflow_multiply_adds(model: SRFlow, side: int = PROBE_SIDE_OF_X) -> MultiplyAdds:
    """Count multiply-adds on random images, x of ``side`` pixels squared."""
    random = torch.Generator().manual_seed(0)
    channels, large = model.config.srflow.image_channels, side * model.scale
    x = torch.rand(1, channels, side, side, generator=random)
    y = torch.rand(1, channels, large, large, generator=random)
    with torch.no_grad():
        conditions = model.prepare(x)  # folds the weights, which is not counted
        model.decode(model.encode(y, x, conditions)[0], x, conditions)
        conditions, features = counted(lambda: model.prepare(x), large**2)
        (latents, _), encoding = counted(lambda: model.encode(y, x, conditions), large**2)
        _, decoding = counted(lambda: model.decode(latents, x, conditions), large**2)
    return MultiplyAdds(features, encoding, decoding)


def _noise(model: SRFlow) -> dict[str, object]:
    """The kind of the training's noise, and its strength where it has one."""
    srflow = model.config.srflow
    found: dict[str, object] = {"kind": srflow.noise}
    if srflow.noise == "uniform":
        found["levels"] = srflow.noise_levels
    if srflow.noise in ("gaussian", "strength"):
        found["std_grey_levels"] = srflow.noise_std
    return found
