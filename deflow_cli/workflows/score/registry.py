"""Scorers: the metrics that a name and a protocol stand for, or why one cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from deflow_cli.checkpoints.hub import locate
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.metrics.base import Scorer
from deflow_cli.metrics.quality.brisque import Brisque, read_brisque_model
from deflow_cli.metrics.quality.fidelity import Color, Psnr, Ssim, Window
from deflow_cli.metrics.quality.niqe import Niqe, read_niqe_model
from deflow_cli.metrics.quality.piqe import Piqe
from deflow_cli.paths import weights_folder

NIQE_FIGURES = "niqe-live.safetensors"
REFERENCE_METRICS = ("psnr", "ssim", "lpips", "lpips-vgg")
BLIND_METRICS = ("niqe", "brisque", "piqe")
METRICS = REFERENCE_METRICS + BLIND_METRICS
LPIPS_NETS = {"alex": "alexnet", "vgg": "vgg16"}  # net: name of its backbone among the weights


@dataclass(frozen=True)
class Protocol:
    """What a field measures fidelity by. window: of the SSIM. crop_border: px left out on each side."""

    name: str
    window: Window
    crop_border: int
    text: str


PROTOCOLS = {
    "rwsr": Protocol("rwsr", "uniform", 0, "as the real-world super-resolution challenges: SSIM 7x7 uniform"),
    "sr": Protocol("sr", "gaussian", 4, "as papers on x4 super-resolution: SSIM 11x11 Gaussian"),
}


@dataclass(frozen=True)
class ScorerOptions:
    """How metrics are measured. crop_border: None for the protocol's. luma: PSNR and SSIM on Y of YCbCr.

    The files stand for those that would be shipped or downloaded; lpips_weights is the backbone of
    lpips_net.
    """

    protocol: str = "rwsr"
    crop_border: int | None = None
    luma: bool = False
    brisque_model: Path | None = None
    niqe_model: Path | None = None
    lpips_net: str = "alex"
    lpips_weights: Path | None = None

    @property
    def border(self) -> int:
        return PROTOCOLS[self.protocol].crop_border if self.crop_border is None else self.crop_border


@dataclass(frozen=True)
class MissingMetric:
    """A metric that cannot be had, and why."""

    metric: str
    message: str
    next_step: str


def choose_metrics(named: Sequence[str], has_reference: bool, options: ScorerOptions) -> tuple[str, ...]:
    """The metrics to compute: those named, in the order of METRICS, or all that apply.

    ``lpips`` stands for its net. Raises ConfigError for an unknown name, one that needs references where
    there are none, or an option that none of the metrics uses.
    """
    if options.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {options.protocol!r}", next_step=f"use {' or '.join(PROTOCOLS)}")
    if options.lpips_net not in LPIPS_NETS:
        raise ConfigError(f"LPIPS net is {options.lpips_net!r}", next_step=f"use {' or '.join(LPIPS_NETS)}")
    unknown = [name for name in named if name not in METRICS]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a metric", next_step=f"use {', '.join(METRICS)}")
    lonely = [name for name in named if name in REFERENCE_METRICS and not has_reference]
    if lonely:
        raise ConfigError(
            f"{lonely[0]} needs references",
            next_step=f"pass them as --ref, or choose from {', '.join(BLIND_METRICS)}",
        )
    plain = "lpips" if options.lpips_net == "alex" else "lpips-vgg"
    wanted = {plain if name == "lpips" else name for name in named}
    if not named:
        wanted = {*BLIND_METRICS} | ({"psnr", "ssim", plain} if has_reference else set())
    chosen = tuple(name for name in METRICS if name in wanted)
    uses = {
        "--crop-border": (options.crop_border is not None, {"psnr", "ssim"}),
        "--y": (options.luma, {"psnr", "ssim"}),
        "--brisque-model": (options.brisque_model is not None, {"brisque"}),
        "--niqe-model": (options.niqe_model is not None, {"niqe"}),
        "--lpips-weights": (options.lpips_weights is not None, {"lpips", "lpips-vgg"}),
    }
    for option, (given, users) in uses.items():
        if given and not users & set(chosen):
            raise ConfigError(
                f"{option} has no effect on {', '.join(chosen)}",
                next_step=f"leave it out, or add {min(users)}",
            )
    return chosen


def build_scorers(
    names: Sequence[str], options: ScorerOptions, device: torch.device
) -> tuple[list[Scorer], list[MissingMetric]]:
    """A scorer per name, and the metrics whose figures or weights are not at hand."""
    color: Color = "y" if options.luma else "rgb"
    builders: dict[str, Callable[[], Scorer]] = {
        "psnr": lambda: Psnr(options.border, color),
        "ssim": lambda: Ssim(PROTOCOLS[options.protocol].window, options.border, color),
        "lpips": lambda: _lpips("alex", names, options, device),
        "lpips-vgg": lambda: _lpips("vgg", names, options, device),
        "niqe": lambda: Niqe(read_niqe_model(options.niqe_model or weights_folder() / NIQE_FIGURES), device),
        "brisque": lambda: _brisque(options, device),
        "piqe": Piqe,
    }
    scorers, missing = [], []
    for name in names:
        try:
            scorers.append(builders[name]())
        except CheckpointError as error:
            missing.append(MissingMetric(name, str(error), error.next_step))
    return scorers, missing


def _brisque(options: ScorerOptions, device: torch.device) -> Scorer:
    path = locate("brisque", options.brisque_model, "--brisque-model")
    return Brisque(read_brisque_model(path), device)


def _lpips(net: str, names: Sequence[str], options: ScorerOptions, device: torch.device) -> Scorer:
    from deflow_cli.metrics.quality.lpips import Lpips  # the nets behind it take a second to import

    # the file is the chosen net's, or that of the only one asked for
    alone = len({"lpips", "lpips-vgg"} & set(names)) == 1
    given = options.lpips_weights if alone or net == options.lpips_net else None
    return Lpips(locate(LPIPS_NETS[net], given, "--lpips-weights"), net, device)
