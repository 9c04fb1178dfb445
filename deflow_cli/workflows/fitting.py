"""Fitting: a fit by any of the registered methods, for the command and the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deflow_cli.presets.methods import FitMethod
from deflow_cli.runtime.progress import Reporter

if TYPE_CHECKING:
    from deflow_cli.workflows.fit.run import FitResult
    from deflow_cli.workflows.translation.run import TranslationResult


@dataclass(frozen=True)
class FoldersToFit:
    """What every method is given. out: the run's folder. pairs: for those that take them.

    accepts_changed_data: a run that is resumed may go on with other data than it began with. kernels: a
    folder of blur kernels, by which the clean images are made small first.
    """

    clean: Path
    noisy: Path
    out: Path
    pairs: Path | None = None
    device: str = "auto"
    resume: bool = False
    accepts_changed_data: bool = False
    kernels: Path | None = None


def preset_for(method: FitMethod, device: str) -> str:
    """The preset of a method that is taken on a device where none is named. Raises DeviceError."""
    if method.trainer is None:
        from deflow_cli.workflows.fit import run as workflow

        return workflow.default_preset(device)
    from deflow_cli.runtime.device import choose_device

    return method.gpu_preset if choose_device(device).type == "cuda" else method.cpu_preset


def fit_by(
    method: FitMethod, folders: FoldersToFit, config: Any, reporter: Reporter
) -> FitResult | TranslationResult:
    """Fit by a method. config: as its presets have it. Raises DeflowError as the workflows do."""
    if method.trainer is None:
        from deflow_cli.workflows.fit import run as workflow

        request = workflow.FitRequest(
            clean=folders.clean,
            noisy=folders.noisy,
            out=folders.out,
            config=config,
            pairs=folders.pairs,
            device=folders.device,
            resume=folders.resume,
            accepts_changed_data=folders.accepts_changed_data,
            kernels=folders.kernels,
        )
        return workflow.fit(request, reporter)
    from deflow_cli.runtime.joining import refuse_ranks
    from deflow_cli.workflows.translation import run as translation

    refuse_ranks(f"--method {method.name}")
    return translation.fit_translation(
        translation.TranslationRequest(
            method=method,
            clean=folders.clean,
            noisy=folders.noisy,
            out=folders.out,
            config=config,
            device=folders.device,
            resume=folders.resume,
            accepts_changed_data=folders.accepts_changed_data,
            kernels=folders.kernels,
        ),
        reporter,
    )
