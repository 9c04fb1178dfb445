"""Training: restorers, by pairs or by clean images that are degraded while they train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deflow_cli.config.restorer import SrConfig
from deflow_cli.config.srflow import SRFlowRunConfig
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.reader import SR, SRFLOW
from deflow_cli.presets.restorers import SRFLOW_ARCH, is_srflow, size_settings
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none, run_configuration, temperature_range

if TYPE_CHECKING:
    from deflow_cli.workflows.restorer.request import SrResult


def sr_train(
    pairs: str | Path | None = None,
    *,
    out: str | Path,
    hr: str | Path | None = None,
    val: str | Path | None = None,
    scale: int | None = None,
    degrader: str | DegraderChoice | None = None,
    temperature: float | tuple[float, float] | None = None,
    arch: str | None = None,
    preset: str | SrConfig | SRFlowRunConfig | None = None,
    settings: Sequence[str] = (),
    init: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    accept_changed_data: bool = False,
    reporter: Reporter | None = None,
) -> SrResult:
    """Train a restorer, as ``deflow sr-train`` does; ``load_restorer(result.model_path)`` uses it.

    pairs: of `make_pairs`, in any of its formats, or hr: clean images, degraded anew for every crop by
    ``degrader`` (None: deflow) at ``temperature`` (None: 1), at ``scale`` (None: 4). out: the run's folder.
    arch: rrdb, rrdb-small, rrdb-tiny or srflow. preset: a name, a .toml file, or a configuration; None: that
    for the device. settings: overrides such as ``"psnr.iterations=1000"``. init: a restorer to start from, of
    an SRFlow its encoder. Raises DeflowError as the command does.

    >>> from deflow_cli import PsnrStage, RestorerConfig, SrConfig, SrFitConfig, sr_train
    >>> config = SrConfig(
    ...     RestorerConfig(channels=8, blocks=1),
    ...     psnr=PsnrStage(iterations=2),
    ...     sr=SrFitConfig(stage="psnr", select="psnr", batch_size=2, gt_size=16),
    ... )
    >>> result = sr_train(hr="clean", out="runs/sr", scale=2, degrader="none", preset=config, device="cpu")
    >>> result.step, result.model_path.name, sorted(result.scores)
    (2, 'restorer.safetensors', ['psnr', 'ssim'])
    """
    from deflow_cli.workflows.restorer import run as esrgan
    from deflow_cli.workflows.restorer.srflow import run as srflow

    if pairs is not None and (degrader is not None or temperature is not None):
        raise ConfigError(
            "a degrader or a temperature given with pairs, which are degraded already",
            next_step="leave it out, or pass hr in place of pairs",
        )
    out, encoder, reporter = Path(out), path_or_none(init), reporter or Silent()
    if (out / CONFIG_FILE).exists() and not resume:
        raise ConfigError(f"{out} holds a run already", next_step="pass resume=True, or another out")
    source = esrgan.SrSource(
        pairs=path_or_none(pairs),
        val=path_or_none(val),
        hr=path_or_none(hr),
        scale=scale,
        degrader=degrader if isinstance(degrader, DegraderChoice) else DegraderChoice(degrader),
        temperature=temperature_range(1.0 if temperature is None else temperature),
    )
    if not isinstance(preset, SrConfig) and (
        isinstance(preset, SRFlowRunConfig) or is_srflow(arch, preset, out if resume else None)
    ):
        space = preset or srflow.default_srflow_preset(device)
        flow_config = run_configuration(SRFLOW, out, space, settings, reporter)
        return srflow.train_srflow(
            srflow.SRFlowRequest(source, out, flow_config, encoder, device, resume, accept_changed_data),
            reporter,
        )
    if arch == SRFLOW_ARCH:
        raise ConfigError("arch is srflow, and the preset an ESRGAN's", next_step="leave one of them out")
    sizes = [] if arch is None else size_settings(arch)
    named = preset or esrgan.default_preset(device)
    config = run_configuration(SR, out, named, [*sizes, *settings], reporter)
    return esrgan.sr_train(
        esrgan.SrRequest(source, out, config, encoder, arch, device, resume, accept_changed_data),
        reporter,
    )
