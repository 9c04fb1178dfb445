"""`deflow sr-train --arch srflow`: its settings, and the call of its workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deflow_cli.cli.console import ConsoleReporter
from deflow_cli.cli.trainings import configuration_of_run
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.durations import parse_duration
from deflow_cli.presets.reader import SRFLOW

if TYPE_CHECKING:
    from deflow_cli.degraders.choice import DegraderChoice
    from deflow_cli.workflows.restorer.data import SrSource
    from deflow_cli.workflows.restorer.request import SrResult


@dataclass(frozen=True)
class GivenSource:
    """Where the pairs come from, as given: PAIRS and --val, or --hr with its scale and degrader."""

    pairs: Path | None
    val: Path | None
    hr: Path | None
    scale: int | None
    of_degrader: Mapping[str, Any]
    of_hr: Mapping[str, Any]

    def built(self, source: Callable[..., SrSource], choice: Callable[..., DegraderChoice]) -> SrSource:
        """The source as a workflow takes it, by its classes, which need torch to be imported."""
        return source(
            pairs=self.pairs,
            val=self.val,
            hr=self.hr,
            scale=self.scale,
            degrader=choice(**self.of_degrader),
            **self.of_hr,
        )


@dataclass(frozen=True)
class GivenRun:
    """The run as given: its folder, preset, settings, the encoder's start, device, and how it resumes."""

    out: Path
    preset: str | None
    settings: list[str]
    encoder: Path | None
    device: str
    resume: bool
    accepts_changed_data: bool


def refuse_esrgan_options(given: Mapping[str, Any]) -> None:
    """Raise ConfigError where an option of the ESRGAN's stages is given."""
    for name in given:
        option = name.replace("_", "-")
        raise ConfigError(f"--{option} is for ESRGAN, not for SRFlow", next_step=f"leave --{option} out")


def srflow_settings(
    *,
    time_budget: str | None,
    iterations: int | None,
    seed: int | None,
    select: str | None,
    lpips_weights: Path | None,
) -> list[str]:
    """The settings that options stand for. An explicit ``--set`` comes after them, and so has precedence."""
    settings: list[str] = []
    if iterations is not None and time_budget is not None:
        raise ConfigError("both --iterations and --time-budget given", next_step="leave one out")
    if iterations is not None:
        settings += [f"pretrain.iterations={iterations}", f"flow.iterations={iterations}"]
        settings.append("sr.time_budget=0")
    if time_budget is not None:
        settings += ["pretrain.iterations=0", "flow.iterations=0"]
        settings.append(f"sr.time_budget={parse_duration(time_budget)!r}")
    keys = {"sr.seed": seed, "sr.select": select, "sr.lpips_file": lpips_weights}
    settings += [f"{key}={value}" for key, value in keys.items() if value is not None]
    SRFLOW.parse_overrides(settings)
    return settings


def run_srflow(source: GivenSource, run: GivenRun) -> SrResult:
    """Train; what can be wrong with preset and settings is said before torch loads."""
    SRFLOW.parse_overrides(run.settings)
    recorded = run.out / CONFIG_FILE
    resumes = run.resume and recorded.exists()
    if run.preset is not None and not resumes:
        SRFLOW.apply_overrides(SRFLOW.load(run.preset), run.settings)

    from deflow_cli.workflows.restorer.srflow import run as workflow

    with ConsoleReporter() as reporter:
        config = configuration_of_run(
            SRFLOW,
            run.out,
            lambda: run.preset or workflow.default_srflow_preset(run.device),
            run.settings,
            reporter,
        )
        request = workflow.SRFlowRequest(
            source.built(workflow.SrSource, workflow.DegraderChoice),
            run.out,
            config,
            run.encoder,
            run.device,
            run.resume,
            run.accepts_changed_data,
        )
        return workflow.train_srflow(request, reporter)
