"""`deflow sr-train`: train a restorer on pairs, or on clean images that are degraded while it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deflow_cli.cli.console import ConsoleReporter, show_path
from deflow_cli.cli.degradation.degrade import parse_temperature
from deflow_cli.cli.options import AcceptChangedData, AsJson, Debug, Device, check_device, check_folder
from deflow_cli.cli.restoration import sr_train_options as options
from deflow_cli.cli.restoration.degrader_options import NO_DEGRADER, GivenDegrader, with_degrader_options
from deflow_cli.cli.restoration.srflow_training import (
    GivenRun,
    GivenSource,
    refuse_esrgan_options,
    run_srflow,
    srflow_settings,
)
from deflow_cli.cli.trainings import choose_run_dir, configuration_of_run, print_training
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import is_hub_name
from deflow_cli.presets.durations import parse_duration
from deflow_cli.presets.reader import SR
from deflow_cli.presets.restorers import is_srflow, size_settings

if TYPE_CHECKING:
    from deflow_cli.workflows.restorer.run import SrResult


def sr_train_command() -> Callable[..., None]:
    """The command, with the options of all degraders that are registered."""
    return with_degrader_options(sr_train, names="For --hr: {names} (deflow).", clean="--hr's")


def sr_train(
    pairs: options.Pairs = None,
    val: options.Val = None,
    preset: options.Preset = None,
    arch: options.Arch = None,
    stage: options.Stage = None,
    init: options.Init = None,
    discriminator: options.Discriminator = None,
    perceptual: options.Perceptual = None,
    perceptual_weights: options.PerceptualWeights = None,
    select: options.Select = None,
    lpips_weights: options.LpipsWeights = None,
    scale: options.Scale = None,
    hr: options.Hr = None,
    degrader: GivenDegrader = NO_DEGRADER,
    temperature: options.Temperature = None,
    out: options.Out = None,
    name: options.Name = None,
    seed: options.Seed = None,
    device: Device = "auto",
    time_budget: options.TimeBudget = None,
    iterations: options.Iterations = None,
    resume: options.Resume = False,
    accept_changed_data: AcceptChangedData = False,
    overrides: options.Overrides = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a restorer (ESRGAN, or SRFlow); writes restorer.safetensors, the best one by validation."""
    check_device(device)
    _check_places(pairs, val, hr, init)
    of_degrader = degrader.arguments()
    of_hr = _given(temperature=parse_temperature(temperature) if temperature is not None else None)
    if pairs is not None and (degrader.given or of_hr):
        option = next(iter(degrader.given | of_hr)).replace("_", "-")
        raise ConfigError(
            f"--{option} is for --hr; PAIRS are degraded already",
            next_step=f"leave out --{option}, or pass --hr DIR in place of PAIRS",
        )
    data = pairs or hr
    assert data is not None
    run_dir = choose_run_dir(out, name or data.resolve().name, resume)
    common: dict[str, Any] = dict(
        time_budget=time_budget, iterations=iterations, seed=seed, select=select, lpips_weights=lpips_weights
    )
    of_esrgan = _given(
        stage=stage,
        discriminator=discriminator,
        perceptual=perceptual,
        perceptual_weights=perceptual_weights,
    )
    source = GivenSource(pairs, val, hr, scale, of_degrader, of_hr)
    if is_srflow(arch, preset, run_dir if resume else None):
        refuse_esrgan_options(of_esrgan)
        settings = srflow_settings(**common) + (overrides or [])
        run = GivenRun(run_dir, preset, settings, init, device, resume, accept_changed_data)
        print_result(run_srflow(source, run), as_json)
        return
    settings = collect_settings(arch=arch, **common, **of_esrgan) + (overrides or [])
    # What can be wrong is said before torch loads.
    SR.parse_overrides(settings)
    if preset is not None:
        SR.apply_overrides(SR.load(preset), settings)

    from deflow_cli.workflows.restorer import run as workflow

    with ConsoleReporter() as reporter:
        config = configuration_of_run(
            SR, run_dir, lambda: preset or workflow.default_preset(device), settings, reporter
        )
        of_gan = _given(discriminator=discriminator, perceptual_weights=perceptual_weights)
        for option in of_gan if config.sr.stage == "psnr" else ():
            flag = option.replace("_", "-")
            reporter.warn(f"--{flag} is of no use to this run, for it has no GAN stage: see --stage")
        request = workflow.SrRequest(
            source=source.built(workflow.SrSource, workflow.DegraderChoice),
            out=run_dir,
            config=config,
            init=init,
            arch=arch,
            device=device,
            resume=resume,
            accepts_changed_data=accept_changed_data,
        )
        result = workflow.sr_train(request, reporter)
    print_result(result, as_json)


def _check_places(
    pairs: Path | None,
    val: Path | None,
    hr: Path | None,
    init: Path | None,
) -> None:
    """Raise a DeflowError unless all paths exist and one source of training data is given."""
    for folder, option in ((pairs, "PAIRS"), (val, "--val")):
        if folder is not None:
            check_folder(folder, option, of="pairs, made by `deflow make-pairs`,")
    if hr is not None:
        check_folder(hr, "--hr")
    if (pairs is None) == (hr is None):
        both = "both PAIRS and" if hr is not None else "neither PAIRS nor"
        raise ConfigError(f"{both} --hr given", next_step="pass a folder of pairs, or --hr DIR")
    if init is not None and not is_hub_name(init) and not init.exists():
        raise CheckpointError(f"{init}: no such file", next_step="pass an ESRGAN file as --init")


def collect_settings(
    *,
    arch: str | None = None,
    time_budget: str | None = None,
    iterations: int | None = None,
    **options: Any,
) -> list[str]:
    """The settings that options stand for. An explicit ``--set`` comes after them, and so has precedence."""
    settings = [] if arch is None else size_settings(arch)
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


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def print_result(result: SrResult, as_json: bool) -> None:
    """Print a result on stdout; an interrupted run ends the program with 130."""
    lines = []
    for metric, value in result.scores.items():
        before = result.input_scores.get(metric)
        beside = f" (degraded: {_score(metric, before)})" if before is not None else ""
        lines.append(f"held-out {metric}: {_score(metric, value)}{beside}")
    best = f"(step {result.best_step}, best by {result.select})"
    lines += [f"restorer: {show_path(result.model_path)} {best}", f"last: {show_path(result.last_path)}"]
    print_training(result, lines, as_json)


def _score(metric: str, value: float) -> str:
    return f"{value:.2f} dB" if metric == "psnr" else f"{value:.4g}"
