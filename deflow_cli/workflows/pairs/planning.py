"""Planning: what is decided before the first pair is made, anew, by a manifest, or by the folder's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from deflow_cli.data.blur.kernels import BlurKernel, load_kernels
from deflow_cli.data.pairs.formats import check_format
from deflow_cli.degraders.base import DegraderConfig, DegraderContext, ReadyDegrader
from deflow_cli.degraders.choice import DegraderChoice
from deflow_cli.errors import ConfigError, DataError
from deflow_cli.runtime.device import choose_device
from deflow_cli.runtime.progress import Reporter, Silent
from deflow_cli.workflows.pairs.making import PairPlan
from deflow_cli.workflows.pairs.plan import (
    LIBRARIES,
    Manifest,
    PairSettings,
    kernel_facts,
    plan_pairs,
    read_manifest,
)
from deflow_cli.workflows.pairs.request import MakePairsRequest
from deflow_cli.workflows.pairs.sources import CleanImages, check_unchanged, examine, root_of
from deflow_cli.workflows.pairs.target import refuse_other


def new_plan(request: MakePairsRequest, workers: int, reporter: Reporter) -> PairPlan:
    """Check everything that can be wrong before anything is written."""
    if request.manifest is not None:
        return _plan_again(request, request.manifest, workers, reporter)
    settings = request.settings
    check_format(settings.format)
    kernels = load_kernels(request.kernels) if request.kernels is not None else []
    degrader = request.degrader.config()
    device, kind = _devices(request, degrader)
    sources = examine(request.source, request.target, settings.least_side, workers, reporter)
    chosen = _prepare(degrader, sources, settings, device, reporter)
    _check_shrinking(chosen, settings, kernels)
    images = plan_pairs(sources, settings, kernels)
    if not degrader.is_random:
        _tell_not_random(degrader.name, settings, kernels, reporter)
    manifest = Manifest(
        settings,
        chosen.facts,
        kernel_facts(kernels),
        kind,
        sources,
        sum(len(planned.slots) for planned in images),
    )
    return PairPlan(manifest, chosen, kernels, images)


def _check_shrinking(chosen: ReadyDegrader, settings: PairSettings, kernels: Sequence[BlurKernel]) -> None:
    """Raise ConfigError where a degrader makes pictures smaller itself, and something else is to do it."""
    chosen.check_scale(settings.scale)
    if chosen.shrinks is not None and kernels:
        raise ConfigError(
            f"the degrader {chosen.facts['name']} makes pictures smaller itself: no kernel blurs them before",
            next_step="leave out --kernels",
        )


def _tell_not_random(
    name: str, settings: PairSettings, kernels: Sequence[BlurKernel], reporter: Reporter
) -> None:
    """Warn of variants that are equal, and of temperatures that change nothing."""
    if settings.variants > 1 and not kernels:
        who = "without a degrader and kernels" if name == "none" else f"the degrader {name} is not random:"
        reporter.warn(f"{who} all variants of an image are equal")
    if settings.temperature != (1.0, 1.0) and name != "none":
        reporter.warn(
            f"the degrader {name} is not random: temperature {settings.temperature} changes nothing"
        )


def _plan_again(request: MakePairsRequest, path: Path, workers: int, reporter: Reporter) -> PairPlan:
    """The plan of a manifest, with its images, model, folders and kernels found and compared."""
    manifest, content = read_manifest(path, root_of(request.source))
    check_format(manifest.settings.format)
    if request.device != "auto" and request.device.partition(":")[0] != manifest.device:
        raise ConfigError(
            f"--device {request.device}, but {path} was made on {manifest.device}: the bits would differ",
            next_step="leave out --device",
        )
    if content["libraries"] != LIBRARIES:
        versions = ", ".join(f"{name} {version}" for name, version in content["libraries"].items())
        reporter.warn(f"{path} was made with {versions}: bits may differ")
    check_unchanged(request.source, manifest.sources.images, workers)
    kernels = _same_kernels(request.kernels, manifest)
    degrader = request.degrader.repeating(manifest.degrader)
    device = choose_device(request.device if request.device != "auto" else manifest.device)
    chosen = _prepare(degrader, manifest.sources, manifest.settings, device, reporter)
    degrader.check_repeated(chosen.facts, manifest.degrader)
    chosen = replace(chosen, facts=dict(manifest.degrader))
    return PairPlan(manifest, chosen, kernels, plan_pairs(manifest.sources, manifest.settings, kernels))


def _same_kernels(folder: Path | None, manifest: Manifest) -> list[BlurKernel]:
    if not manifest.kernels:
        return []
    if folder is None:
        raise ConfigError("the manifest's pairs were made with blur kernels", next_step="add --kernels DIR")
    kernels = load_kernels(folder)
    if kernel_facts(kernels) != [dict(kernel) for kernel in manifest.kernels]:
        raise DataError(f"{folder}: not the manifest's kernels", next_step="pass that folder as --kernels")
    return kernels


def _prepare(
    degrader: DegraderConfig,
    sources: CleanImages,
    settings: PairSettings,
    device: torch.device,
    reporter: Reporter,
) -> ReadyDegrader:
    clean = [sources.path(index) for index in range(len(sources.images))]
    return degrader.prepare(DegraderContext(clean, settings.scale, settings.resize, device, reporter))


def _devices(request: MakePairsRequest, degrader: DegraderConfig) -> tuple[torch.device, str]:
    """Where the degrader is made ready here, and the kind of device that makes the pairs."""
    if not degrader.runs_on_device:
        return torch.device("cpu"), "cpu"
    if request.engine_device:
        return torch.device("cpu"), request.engine_device
    device = choose_device(request.device)
    return device, device.type


def plan_of_target(request: MakePairsRequest, path: Path, reporter: Reporter) -> PairPlan:
    """The plan that a data set's manifest ``path`` states, made or not, for one of its parts.

    Raises DataError where it is not what the request asks for. Images are compared as they are read.
    """
    manifest, content = read_manifest(path, root_of(request.source))
    settings, degrader = request.settings, request.degrader.config()
    if request.manifest is not None:
        settings = read_manifest(request.manifest, root_of(request.source))[0].settings
        degrader = request.degrader.repeating(manifest.degrader)
    check_format(settings.format)
    kernels = load_kernels(request.kernels) if request.kernels is not None else []
    device = torch.device("cpu")
    if degrader.runs_on_device:
        device = choose_device(request.device if request.device != "auto" else manifest.device)
    chosen = _prepare(degrader, manifest.sources, manifest.settings, device, reporter)
    if request.manifest is not None:
        degrader.check_repeated(chosen.facts, manifest.degrader)
        chosen = replace(chosen, facts=dict(manifest.degrader))
    ours = replace(
        manifest, settings=settings, degrader=chosen.facts, kernels=kernel_facts(kernels), device=device.type
    )
    refuse_other(path, content, ours)
    return PairPlan(manifest, chosen, kernels, plan_pairs(manifest.sources, settings, kernels))


def plan_to_merge(request: MakePairsRequest, path: Path) -> PairPlan:
    """The plan that a data set's manifest ``path`` states, of pairs that are made: nothing is degraded."""
    manifest, _ = read_manifest(path, root_of(request.source))
    check_format(manifest.settings.format)
    kernels = _same_kernels(request.kernels, manifest)
    nothing = _prepare(
        DegraderChoice("none").config(), manifest.sources, manifest.settings, torch.device("cpu"), Silent()
    )
    chosen = replace(nothing, facts=dict(manifest.degrader))
    return PairPlan(manifest, chosen, kernels, plan_pairs(manifest.sources, manifest.settings, kernels))
