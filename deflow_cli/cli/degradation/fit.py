"""`deflow fit`: learn a degradation model from two unpaired folders, by any of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deflow_cli.cli.console import ConsoleReporter, show_path
from deflow_cli.cli.options import AcceptChangedData, AsJson, Debug, Device, check_device, check_folder
from deflow_cli.cli.trainings import choose_run_dir, configuration_of_run, print_training
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.durations import parse_duration
from deflow_cli.presets.methods import (
    DEFAULT_METHOD,
    FIT_METHODS,
    FitMethod,
    choose_method,
    fit_methods,
    method_users,
)

if TYPE_CHECKING:
    from deflow_cli.workflows.fit.run import FitResult
    from deflow_cli.workflows.fitting import FoldersToFit
    from deflow_cli.workflows.translation.run import TranslationResult

_ABOUT = "; ".join(f"{method.name}: {method.about}" for method in FIT_METHODS)
_PRESETS = "; ".join(
    f"{method.name}: {', '.join(method.presets.names())} (default: {method.cpu_preset}; with a GPU, "
    f"{method.gpu_preset})"
    for method in FIT_METHODS
)


def fit(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help="Folder of clean images (recursive).")],
    noisy: Annotated[Path, typer.Argument(metavar="NOISY", help="Folder of degraded images, of any scenes.")],
    method: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(fit_methods()), help=f"How to learn it. {_ABOUT} (default: {DEFAULT_METHOD})."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help=f"A .toml file, or a preset of the method. {_PRESETS}.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder (default: runs/NAME).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name (default: the noisy folder's).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    device: Device = "auto",
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Train for this long: 90s, 10m, 2h.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, by its own configuration.")
    ] = False,
    accept_changed_data: AcceptChangedData = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a preset: fit.learning_rate=2e-4. Repeatable."
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of paired images that join the training.")
    ] = None,
    kernels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Blur kernels, by which the clean images are made small first."),
    ] = None,
    downsample: Annotated[
        int | None,
        typer.Option(metavar="S", help="Downsampling of h(x): 2, 4, 8, 16 (default: by a domain-leak test)."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="normal|low", help="low: a fraction of the memory, for a third more time."),
    ] = None,
    perceptual: Annotated[
        str | None,
        typer.Option(
            metavar="alexnet|none",
            help=f"Of {method_users('perceptual', 'and')}: the perceptual loss (default: LPIPS on alexnet).",
        ),
    ] = None,
    perceptual_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="AlexNet's weights for it (default: those on this machine)."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Learn how NOISY photographs differ from CLEAN ones; writes one model.safetensors."""
    check_device(device)
    clean, noisy = check_folder(clean, "CLEAN"), check_folder(noisy, "NOISY")
    if pairs is not None:
        check_folder(pairs, "--pairs")
    if kernels is not None:
        check_folder(kernels, "--kernels", "blur kernels")
    if perceptual_weights is not None and not perceptual_weights.is_file():
        raise CheckpointError(
            f"{perceptual_weights}: no such file",
            next_step="pass torchvision's AlexNet, .pth or .safetensors",
        )
    run_dir = choose_run_dir(out, name or noisy.resolve().name, resume)
    chosen = choose_method(method, run_dir / CONFIG_FILE, preset)
    own: dict[str, object] = {
        "pairs": pairs,
        "downsample": downsample,
        "memory": memory,
        "perceptual": perceptual,
        "perceptual_weights": perceptual_weights,
    }
    own = {option: value for option, value in own.items() if value is not None}
    settings = collect_overrides(chosen, overrides or [], seed, time_budget, own)
    # What can be wrong is said before torch loads.
    chosen.presets.parse_overrides(settings)
    if preset is not None:
        chosen.presets.apply_overrides(chosen.presets.load(preset), settings)

    from deflow_cli.workflows.fitting import FoldersToFit

    folders = FoldersToFit(clean, noisy, run_dir, pairs, device, resume, accept_changed_data, kernels)
    with ConsoleReporter() as reporter:
        result = run(chosen, folders, preset, settings, reporter)
    tell(chosen, result, as_json)


def run(
    method: FitMethod,
    folders: FoldersToFit,
    preset: str | None,
    settings: Sequence[str],
    reporter: ConsoleReporter,
) -> FitResult | TranslationResult:
    """Choose the configuration, the run's own if it has one, and call the workflow."""
    from deflow_cli.workflows.fitting import fit_by, preset_for

    config = configuration_of_run(
        method.presets,
        folders.out,
        lambda: preset or preset_for(method, folders.device),
        settings,
        reporter,
    )
    return fit_by(method, folders, config, reporter)


def tell(method: FitMethod, result: FitResult | TranslationResult, as_json: bool) -> None:
    """Print a fit's result on stdout; an interrupted one ends the program with 130."""
    lines = [_figures(method, result), f"model: {show_path(result.model_path)}"]
    if result.report_path is not None:
        lines.append(f"report: {show_path(result.report_path)}")
    print_training(result, lines, as_json)


def _figures(method: FitMethod, result: Any) -> str:
    """What was measured on held-out pictures, in a line."""
    if method.name == DEFAULT_METHOD:
        bits = f"clean {result.bits_per_dim_clean:.3f}, noisy {result.bits_per_dim_noisy:.3f}"
        return f"bits per dimension: {bits}"
    return "held out: " + ", ".join(f"{name} {value:.3f}" for name, value in result.figures.items())


def collect_overrides(
    method: FitMethod,
    overrides: Sequence[str],
    seed: int | None,
    time_budget: str | None,
    own: Mapping[str, object],
) -> list[str]:
    """Options that are short for ``--set``, as such; an explicit ``--set`` comes after them and wins.

    own: options that some methods have, where they were given. Raises ConfigError for one of another method.
    """
    settings: list[str] = []
    if seed is not None:
        settings.append(f"fit.seed={seed}")
    if time_budget is not None:
        settings += [f"fit.time_budget={parse_duration(time_budget)!r}", "fit.iterations=0"]
    for option, value in own.items():
        if option not in method.options:
            raise ConfigError(
                f"--{option.replace('_', '-')} is nothing to the method {method.name}",
                next_step=f"leave it out, or use --method {method_users(option, 'or')}",
            )
        if key := method.options[option]:
            settings.append(f"{key}={value}")
    if "downsample" in own:
        settings.append("fit.leak_test=false")
    return settings + list(overrides)
