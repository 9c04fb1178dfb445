"""Scorers: which metrics are computed, and the scorers of those that can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deflow_cli.checkpoints.hub import locate
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.metrics.base import Scorer
from deflow_cli.metrics.options import LPIPS_NETS, PROTOCOLS, ScorerOptions
from deflow_cli.metrics.registry import ScorerContext, metric_entries


@dataclass(frozen=True)
class MissingMetric:
    """A metric that cannot be had, and why."""

    metric: str
    message: str
    next_step: str


def choose_metrics(named: Sequence[str], has_reference: bool, options: ScorerOptions) -> tuple[str, ...]:
    """The metrics to compute: those named, in the registry's order, or all that apply.

    ``lpips`` stands for the variant of its net. Raises ConfigError for an unknown name, one that needs
    references where there are none, or an option that none of the metrics uses.
    """
    if options.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {options.protocol!r}", next_step=f"use {' or '.join(PROTOCOLS)}")
    if options.lpips_net not in LPIPS_NETS:
        raise ConfigError(f"LPIPS net is {options.lpips_net!r}", next_step=f"use {' or '.join(LPIPS_NETS)}")
    entries = metric_entries()
    unknown = [name for name in named if name not in entries]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a metric", next_step=f"use {', '.join(entries)}")
    lonely = [name for name in named if entries[name].needs_reference and not has_reference]
    if lonely:
        blind = ", ".join(name for name, entry in entries.items() if not entry.needs_reference)
        raise ConfigError(
            f"{lonely[0]} needs references", next_step=f"pass them as --ref, or choose from {blind}"
        )
    of_net = {"alex": "lpips", "vgg": "lpips-vgg"}
    if named:
        wanted = {of_net[options.lpips_net] if name == "lpips" else name for name in named}
    else:
        other_nets = set(of_net.values()) - {of_net[options.lpips_net]}
        wanted = {name for name, entry in entries.items() if has_reference or not entry.needs_reference}
        wanted -= other_nets
    chosen = tuple(name for name in entries if name in wanted)
    _check_options(chosen, options)
    return chosen


def _check_options(chosen: Sequence[str], options: ScorerOptions) -> None:
    """Raise ConfigError for an option that was given and has no effect on any metric."""
    entries = metric_entries()
    for option, given in options.given().items():
        if given and not any(option in entries[name].options for name in chosen):
            users = [name for name, entry in entries.items() if option in entry.options]
            raise ConfigError(
                f"{option} has no effect on {', '.join(chosen)}",
                next_step=f"leave it out, or add {min(users)}",
            )


def build_scorers(
    names: Sequence[str], options: ScorerOptions, device: torch.device
) -> tuple[list[Scorer], list[MissingMetric]]:
    """A scorer per name, and the metrics whose figures or weights are not at hand."""
    context, entries = ScorerContext(names, device, locate), metric_entries()
    scorers, missing = [], []
    for name in names:
        try:
            scorers.append(entries[name].build(options, context))
        except CheckpointError as error:
            missing.append(MissingMetric(name, str(error), error.next_step))
    return scorers, missing
