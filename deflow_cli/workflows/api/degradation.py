"""Degradations: to learn them, blur kernels among them, and to give them to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deflow_cli.config.fit import RunConfig
from deflow_cli.config.kernels import PUBLISHED_ITERATIONS, KernelSettings
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.methods import choose_method
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.api.arguments import path_or_none, run_configuration, temperature_range

if TYPE_CHECKING:
    from deflow_cli.config.kernels import KernelMethod
    from deflow_cli.workflows.degrade import DegradeReport
    from deflow_cli.workflows.fit.run import FitResult
    from deflow_cli.workflows.kernels.run import KernelsReport
    from deflow_cli.workflows.translation.run import TranslationResult


def fit(
    clean: str | Path,
    noisy: str | Path,
    *,
    out: str | Path,
    method: str | None = None,
    preset: str | RunConfig | None = None,
    settings: Sequence[str] = (),
    pairs: str | Path | None = None,
    kernels: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    accept_changed_data: bool = False,
    reporter: Reporter | None = None,
) -> FitResult | TranslationResult:
    """Fit a model to two folders, as ``deflow fit`` does; ``load_model(result.model_path)`` uses it.

    out: the run's folder. method: deflow, dsgan, dasr or cyclegan; None: that of a resumed run or a .toml
    file, else deflow. Models of the other methods give a TranslationResult, and are used by `make_pairs`,
    `sr_train` and `degrade`. preset: a name, a .toml file, or a configuration; None: the method's for the
    device (of a DeFlow tiny, with a GPU base). settings: overrides such as ``"fit.iterations=1000"``.
    kernels: a folder of blur kernels, by which the clean images are made small first. accept_changed_data: a
    resumed run may go on with other images than it began with. Raises DeflowError as the command does.

    >>> from deflow_cli import EncoderConfig, FitConfig, FlowConfig, RunConfig, fit
    >>> config = RunConfig(
    ...     FlowConfig(levels=2, steps=1, hidden_channels=8),
    ...     EncoderConfig(channels=8, growth_channels=4, blocks=1, stacked_blocks=(0,)),
    ...     FitConfig(iterations=2, batch_size=4, patch_size=32, report=False),
    ... )
    >>> result = fit("clean", "noisy", out="runs/first", preset=config, device="cpu")
    >>> result.step, result.model_path.name
    (2, 'model.safetensors')
    """
    from deflow_cli.workflows.fitting import FoldersToFit, fit_by, preset_for

    out = Path(out)
    existing = out / CONFIG_FILE
    if existing.exists() and not resume:
        raise ConfigError(f"{out} holds a run already", next_step="pass resume=True, or another out")
    chosen = choose_method(method, existing, None if isinstance(preset, RunConfig) else preset)
    reporter = reporter or Silent()
    config = run_configuration(chosen.presets, out, preset or preset_for(chosen, device), settings, reporter)
    folders = FoldersToFit(
        clean=Path(clean),
        noisy=Path(noisy),
        out=out,
        pairs=path_or_none(pairs),
        device=device,
        resume=resume,
        accepts_changed_data=accept_changed_data,
        kernels=path_or_none(kernels),
    )
    return fit_by(chosen, folders, config, reporter)


def estimate_kernels(
    source: str | Path,
    target: str | Path,
    *,
    method: KernelMethod = "spectrum",
    scale: int = 2,
    iterations: int = PUBLISHED_ITERATIONS,
    seed: int = 0,
    limit: int | None = None,
    batch: int | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> KernelsReport:
    """Estimate the blur kernel of each image of a folder to files, as ``deflow kernels`` does.

    iterations, seed, batch: of ``kernelgan`` alone. An image without a kernel is among the report's
    ``failed``. Raises DeflowError for what concerns all images.

    >>> from deflow_cli import estimate_kernels
    >>> report = estimate_kernels("noisy", "kernels", device="cpu")
    >>> len(report.records), [reason for _, reason in report.failed][:1]
    (0, ['64x64 is too small: a side of 96 px is needed'])
    """
    from deflow_cli.workflows.kernels import run as workflow

    settings = KernelSettings(method, scale, iterations, seed)
    request = workflow.KernelsRequest(Path(source), Path(target), settings, limit, batch, device)
    return workflow.estimate_kernels(request, reporter or Silent())


def degrade(
    source: str | Path,
    target: str | Path,
    *,
    model: str | Path | None = None,
    temperature: float | tuple[float, float] | None = None,
    samples: int = 1,
    seed: int = 0,
    reverse: bool = False,
    like: str | Path | None = None,
    compression: Literal["auto", "no"] = "auto",
    tile: int | None = None,
    ext: str = "auto",
    skip_existing: bool = False,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> DegradeReport:
    """Degrade an image or a folder to files, as ``deflow degrade`` does; `load_model` degrades tensors.

    temperature: strength of the noise, or the range that it is drawn from per image; None: 1, or with
    ``reverse`` 0, the posterior's mean. like: a degraded reference image or folder. compression:
    ``auto``: as the model's file records, ``no``: none. tile: side in pixels; None: chosen by memory,
    0: none. A file that cannot be read is among the report's ``failed``. Raises DeflowError for what concerns
    all images.

    >>> from deflow_cli import degrade
    >>> report = degrade("clean", "degraded", model="runs/camera", samples=2, device="cpu")
    >>> [path.name for path in report.records[0].targets], report.failed
    (['0_s01.png', '0_s02.png'], [])
    """
    from deflow_cli.workflows import degrade as workflow

    request = workflow.DegradeRequest(
        source=Path(source),
        target=Path(target),
        model=path_or_none(model),
        temperature=temperature_range(temperature if temperature is not None else 0.0 if reverse else 1.0),
        samples=samples,
        seed=seed,
        reverse=reverse,
        like=path_or_none(like),
        compression=compression,
        tile=tile,
        ext=ext,
        skip_existing=skip_existing,
        device=device,
    )
    return workflow.degrade(request, reporter or Silent())
