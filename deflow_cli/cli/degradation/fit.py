"""`deflow fit`: learn a degradation model from two unpaired folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, format_seconds, print_json, show_path
from deflow_cli.cli.guard import INTERRUPTED, is_main_rank
from deflow_cli.cli.options import AcceptChangedData, AsJson, Debug, Device, check_device, check_folder
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE, RUNS_FOLDER
from deflow_cli.presets.durations import parse_duration
from deflow_cli.presets.reader import FIT

if TYPE_CHECKING:
    from deflow_cli.workflows.fit.run import FitResult


def fit(
    clean: Annotated[Path, typer.Argument(metavar="CLEAN", help="Folder of clean images (recursive).")],
    noisy: Annotated[Path, typer.Argument(metavar="NOISY", help="Folder of degraded images, of any scenes.")],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="tiny, base, aim, ntire, dped or a .toml file (default: tiny; with a GPU, base).",
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
    downsample: Annotated[
        int | None,
        typer.Option(metavar="S", help="Downsampling of h(x): 2, 4, 8, 16 (default: by a domain-leak test)."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="normal|low", help="low: a fraction of the memory, for a third more time."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Learn how NOISY photographs differ from CLEAN ones; writes one model.safetensors."""
    check_device(device)
    clean, noisy = check_folder(clean, "CLEAN"), check_folder(noisy, "NOISY")
    if pairs is not None:
        check_folder(pairs, "--pairs")
    settings = collect_overrides(overrides or [], seed, time_budget, downsample, memory)
    # What can be wrong is said before torch loads.
    FIT.parse_overrides(settings)
    if preset is not None:
        FIT.apply_overrides(FIT.load(preset), settings)
    run_dir = choose_run_dir(out, name or noisy.resolve().name, resume)

    with ConsoleReporter() as reporter:
        result = run(
            clean, noisy, run_dir, preset, settings, pairs, device, resume, reporter, accept_changed_data
        )
    tell(result, as_json)


def run(
    clean: Path,
    noisy: Path,
    run_dir: Path,
    preset: str | None,
    settings: Sequence[str],
    pairs: Path | None,
    device: str,
    resume: bool,
    reporter: ConsoleReporter,
    accepts_changed_data: bool = False,
) -> FitResult:
    """Choose the configuration, the run's own if it has one, and call the workflow."""
    from deflow_cli.workflows.fit import run as workflow

    own_config = run_dir / CONFIG_FILE
    if own_config.exists():
        config = FIT.load(own_config)
        if ignored := FIT.ignored_overrides(config, settings):
            reporter.warn(
                f"--resume keeps the run's own settings; not applied: {', '.join(ignored)}. "
                f"Edit {show_path(own_config)} to change them"
            )
    else:
        config = FIT.apply_overrides(FIT.load(preset or workflow.default_preset(device)), settings)
    request = workflow.FitRequest(
        clean=clean,
        noisy=noisy,
        out=run_dir,
        config=config,
        pairs=pairs,
        device=device,
        resume=resume,
        accepts_changed_data=accepts_changed_data,
    )
    return workflow.fit(request, reporter)


def tell(result: FitResult, as_json: bool) -> None:
    """Print a fit's result on stdout; an interrupted one ends the program with 130."""
    if not is_main_rank():
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    if as_json:
        print_json(result)
    else:
        bits = f"clean {result.bits_per_dim_clean:.3f}, noisy {result.bits_per_dim_noisy:.3f}"
        typer.echo(f"{'interrupted' if result.interrupted else 'done'} at step {result.step}")
        typer.echo(f"time: {format_seconds(result.seconds)}")
        typer.echo(f"bits per dimension: {bits}")
        typer.echo(f"model: {show_path(result.model_path)}")
        if result.report_path is not None:
            typer.echo(f"report: {show_path(result.report_path)}")
    if result.interrupted:
        typer.echo("go on with the same command and --resume", err=True)
        raise typer.Exit(INTERRUPTED)


def collect_overrides(
    overrides: Sequence[str],
    seed: int | None,
    time_budget: str | None,
    downsample: int | None,
    memory: str | None = None,
) -> list[str]:
    """Options that are short for ``--set``, as such; an explicit ``--set`` comes after them and wins."""
    settings: list[str] = []
    if seed is not None:
        settings.append(f"fit.seed={seed}")
    if time_budget is not None:
        settings += [f"fit.time_budget={parse_duration(time_budget)!r}", "fit.iterations=0"]
    if downsample is not None:
        settings += [f"flow.downsample={downsample}", "fit.leak_test=false"]
    if memory is not None:
        settings.append(f"fit.memory={memory}")
    return settings + list(overrides)


def choose_run_dir(out: Path | None, name: str, resume: bool) -> Path:
    """``out``; else ``runs/NAME``, or the first free ``runs/NAME-2``, ``-3``...; to resume, the last taken.

    Raises ConfigError where ``out`` holds a run that is not to be resumed.
    """
    if out is not None:
        if (out / CONFIG_FILE).exists() and not resume:
            raise ConfigError(
                f"{show_path(out)} holds a run already", next_step="pass --resume to go on, or another --out"
            )
        return out
    taken = Path(RUNS_FOLDER) / name
    free, count = taken, 1
    while free.exists():
        taken, count = free, count + 1
        free = Path(RUNS_FOLDER) / f"{name}-{count}"
    return taken if resume else free
