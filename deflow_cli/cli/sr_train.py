"""`deflow sr-train`: train a restorer on pairs, or on clean images that are degraded while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config_sr import ARCHITECTURES, SrConfig
from ..errors import CheckpointError, ConfigError
from ..presets import SR, parse_duration
from .console import ConsoleReporter, format_seconds, print_json, show_path
from .fit import CONFIG_FILE, choose_run_dir
from .guard import INTERRUPTED
from .options import AsJson, Debug, Device, check_device, check_folder, model_file

if TYPE_CHECKING:
    from ..workflows.sr_train import SrResult

UNITS = {"psnr": " dB"}


def sr_train(
    pairs: Annotated[
        Path | None,
        typer.Argument(metavar="[PAIRS]", help="Pairs of `deflow make-pairs`; without them, --hr."),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(metavar="PAIRS", help="Pairs to validate on (default: some of PAIRS, held out)."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="tiny, fast, paper or a .toml file (default: tiny; with a GPU, fast).",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="rrdb (the full one), rrdb-small or rrdb-tiny (default: preset's)."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="psnr|gan|both", help="L1 alone, the GAN from --init, or one after the other."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Start from a restorer: ours or any ESRGAN, .pth or .safetensors."),
    ] = None,
    discriminator: Annotated[
        str | None, typer.Option(metavar="vgg|patch|unet", help="Of the GAN stage (default: vgg).")
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(metavar="vgg19|none", help="The GAN stage's perceptual loss (default: vgg19)."),
    ] = None,
    perceptual_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="VGG19's weights (default: those on this machine).")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="The best by lpips, psnr, ssim or niqe (default: lpips where it can be had, else psnr).",
        ),
    ] = None,
    lpips_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="AlexNet's weights for lpips (default: those on this machine)."),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(metavar="1|2|4|8", help="Of the pairs, which is checked; with --hr, wanted (4)."),
    ] = None,
    hr: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Clean images, degraded anew for every crop, in place of PAIRS."),
    ] = None,
    degrader: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="For --hr: deflow, white-noise, spectral, noise-patches or none (deflow)."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --degrader deflow: a model or a run folder.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="For --hr: strength of the noise (default: 1).")
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(metavar="S", help="For white-noise: std in grey levels of 255 (default: --noisy's)."),
    ] = None,
    noisy: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Degraded images that the other degraders learn from.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder (default: runs/NAME).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name (default: the data folder's).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    device: Device = "auto",
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Train for this long: 90s, 10m, 2h.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Train each stage for so many steps.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, by its own configuration.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a preset: sr.ema=0.999. Repeatable."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a restorer (ESRGAN); writes restorer.safetensors, the best one by validation."""
    check_device(device)
    for folder, option in ((pairs, "PAIRS"), (val, "--val"), (hr, "--hr"), (noisy, "--noisy")):
        if folder is not None:
            check_folder(folder, option)
    if (pairs is None) == (hr is None):
        both = "both" if hr is not None else "neither"
        raise ConfigError(f"{both} PAIRS and --hr given", next_step="pass a folder of pairs, or --hr DIR")
    of_degrader = _given(name=degrader, sigma=sigma, noisy=noisy)
    if model is not None:
        of_degrader["model"] = model_file(model)
    of_hr = of_degrader | _given(temperature=temperature)
    if pairs is not None and of_hr:
        option = next(iter(of_hr)).replace("name", "degrader")
        raise ConfigError(
            f"--{option} is for --hr; PAIRS are degraded already",
            next_step=f"leave out --{option}, or pass --hr DIR in place of PAIRS",
        )
    if init is not None and not init.exists():
        raise CheckpointError(f"{init}: no such file", next_step="pass an ESRGAN file as --init")
    settings = collect_settings(
        arch=arch,
        time_budget=time_budget,
        iterations=iterations,
        seed=seed,
        stage=stage,
        discriminator=discriminator,
        perceptual=perceptual,
        perceptual_weights=perceptual_weights,
        select=select,
        lpips_weights=lpips_weights,
    ) + (overrides or [])
    # What can be wrong is said before torch loads.
    SR.parse_overrides(settings)
    if preset is not None:
        SR.apply_overrides(SR.load(preset), settings)
    data = pairs or hr
    assert data is not None
    run_dir = out or choose_run_dir(name or data.resolve().name, resume)
    if (run_dir / CONFIG_FILE).exists() and not resume:
        raise ConfigError(
            f"{show_path(run_dir)} holds a run already", next_step="pass --resume to go on, or another --out"
        )

    from ..workflows import sr_train as workflow

    with ConsoleReporter() as reporter:
        config = _config(preset or workflow.default_preset(device), run_dir, settings, reporter)
        source = workflow.SrSource(
            pairs=pairs,
            val=val,
            hr=hr,
            scale=scale,
            degrader=workflow.DegraderChoice(**of_degrader),
            **_given(temperature=temperature),
        )
        request = workflow.SrRequest(
            source=source, out=run_dir, config=config, init=init, arch=arch, device=device, resume=resume
        )
        result = workflow.sr_train(request, reporter)
    tell(result, as_json)


def collect_settings(
    *,
    arch: str | None = None,
    time_budget: str | None = None,
    iterations: int | None = None,
    **options: Any,
) -> list[str]:
    """Options that are short for ``--set``, as such; an explicit ``--set`` comes after them and wins."""
    settings: list[str] = []
    if arch is not None:
        if arch not in ARCHITECTURES:
            raise ConfigError(f"--arch is {arch!r}", next_step=f"use {', '.join(ARCHITECTURES)}")
        names = ("channels", "blocks", "growth_channels")
        settings += [f"restorer.{n}={v}" for n, v in zip(names, ARCHITECTURES[arch], strict=True)]
    if iterations is not None and time_budget is not None:
        raise ConfigError("both --iterations and --time-budget given", next_step="leave one out")
    if iterations is not None:
        settings += [f"psnr.iterations={iterations}", f"gan.iterations={iterations}", "sr.time_budget=0"]
    if time_budget is not None:
        settings += ["psnr.iterations=0", "gan.iterations=0"]
        settings.append(f"sr.time_budget={parse_duration(time_budget)!r}")
    keys = {
        "seed": "sr.seed",
        "stage": "sr.stage",
        "discriminator": "loss.discriminator",
        "perceptual": "loss.features",
        "perceptual_weights": "loss.features_file",
        "select": "sr.select",
        "lpips_weights": "sr.lpips_file",
    }
    return settings + [f"{keys[option]}={value}" for option, value in options.items() if value is not None]


def _config(preset: str, run_dir: Path, settings: Sequence[str], reporter: ConsoleReporter) -> SrConfig:
    """The preset with its overrides; a run that is resumed keeps its own, and says what is not applied."""
    own = run_dir / CONFIG_FILE
    if not own.exists():
        return SR.apply_overrides(SR.load(preset), settings)
    config = SR.load(own)
    ignored = [
        f"{section}.{key}"
        for (section, key), value in SR.parse_overrides(settings).items()
        if getattr(getattr(config, section), key) != value
    ]
    if ignored:
        reporter.warn(
            f"--resume keeps the run's own settings; not applied: {', '.join(ignored)}. "
            f"Edit {show_path(own)} to change them"
        )
    return config


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def tell(result: SrResult, as_json: bool) -> None:
    """Print a result on stdout; an interrupted run ends the program with 130."""
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{'interrupted' if result.interrupted else 'done'} at step {result.step}")
        typer.echo(f"time: {format_seconds(result.seconds)}")
        for metric, value in result.scores.items():
            before = result.input_scores.get(metric)
            unit = UNITS.get(metric, "")
            beside = f" (degraded: {before:.4g}{unit})" if before is not None else ""
            typer.echo(f"held-out {metric}: {value:.4g}{unit}{beside}")
        typer.echo(
            f"restorer: {show_path(result.model_path)} (step {result.best_step}, best by {result.select})"
        )
        typer.echo(f"last: {show_path(result.last_path)}")
    if result.interrupted:
        typer.echo("go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)
