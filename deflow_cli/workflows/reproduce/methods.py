"""Methods: what a table compares, one line for each: how it is fitted and by which degrader it degrades."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from deflow_cli.degraders.registry import degrader_names
from deflow_cli.errors import ConfigError

FitKind = Literal["", "flow", "sigma", "network"]
ALL = ("aim", "ntire", "dped")
SYNTHETIC = ("aim", "ntire")  # those with ground truth


@dataclass(frozen=True)
class Method:
    """A row of a table.

    degrader: its name in the registry. fit: how it learns from the two folders: ``flow`` (`deflow fit`),
    ``network`` (`deflow fit --method` of its name), ``sigma`` (white noise, tuned by LPIPS), or nothing but
    what the degrader itself estimates. learns_from: role of the clean images of such a network's fit, by
    experiment, where it is not the experiment's clean images at full size. experiments:
    those whose table has it. folders: options of the degrader that take a folder of the experiment, by the
    folder's role. options: the other options, by experiment; small_options: those where it is scaled down.
    fresh: experiments in which the restorer sees a new degradation of every crop, as published for injected
    noise; elsewhere each clean image is degraded once and for all. blurred: whether the clean images are
    blurred first where the experiment has kernels. overrides: settings of the fit that differ from the
    experiment's preset.
    """

    name: str
    title: str
    degrader: str
    fit: FitKind = ""
    experiments: tuple[str, ...] = ALL
    learns_from: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    blurred: bool = True
    small_options: Mapping[str, object] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def options_for(self, experiment: str, small: bool) -> dict[str, object]:
        """The options of the degrader that are no folders."""
        return {**self.options.get(experiment, {}), **(self.small_options if small else {})}


METHODS = (
    Method("none", "No degradation", "none", blurred=False),
    Method("white-noise", "White noise", "white-noise", "sigma", experiments=SYNTHETIC, fresh=SYNTHETIC),
    Method("spectral", "Spectral noise", "spectral", folders={"noisy": "noisy", "clean": "clean_small"}),
    Method(
        "noise-patches",
        "Impressionism",
        "noise-patches",
        folders={"noisy": "noisy"},
        options={"dped": {"patch_mean": 50.0}},
        fresh=SYNTHETIC,
        small_options={"patch_size": 64, "patch_variance": 400.0},
    ),
    Method(
        "dsgan",
        "Frequency separation",
        "dsgan",
        "network",
        learns_from={"dped": "other_clean"},
        blurred=False,
    ),
    Method("dasr", "DASR", "dasr", "network", experiments=SYNTHETIC),
    Method("cyclegan", "CycleGAN", "cyclegan", "network", learns_from={"dped": "other_clean"}, blurred=False),
    Method("kernelgan", "KernelGAN only", "none", experiments=("dped",)),
    Method("deflow", "DeFlow", "deflow", fit="flow"),
)


def _ablation(name: str, title: str, *overrides: str) -> Method:
    return Method(name, title, "deflow", fit="flow", experiments=("ablations",), overrides=overrides)


# Table 4. The digits of the step counts are inferred: the full model's 16 halved twice.
ABLATIONS = (
    _ablation("steps-4", "4 flow steps", "flow.steps=4"),
    _ablation("steps-8", "8 flow steps", "flow.steps=8"),
    _ablation("h-4", "h at 1/4", "flow.downsample=4"),
    _ablation("h-16", "h at 1/16", "flow.downsample=16"),
    _ablation("no-conditional", "No conditional flow", "flow.conditioning=none"),
    _ablation("diagonal", "Uncorrelated shift", "flow.shift=diagonal"),
    _ablation("post-hoc", "Unlearned shift", "flow.shift=post-hoc"),
    _ablation("full", "DeFlow: 16 steps, h at 1/8, learned correlated shift"),
)


def methods_of(experiment: str) -> tuple[Method, ...]:
    """The methods of an experiment whose degraders this installation has, in the order of its table."""
    installed = degrader_names()
    return tuple(
        method
        for method in (*METHODS, *ABLATIONS)
        if experiment in method.experiments and method.degrader in installed
    )


def missing_roles(method: Method, experiment: str, roles: Collection[str]) -> list[str]:
    """Roles of folders that a method needs and that were not found."""
    needed = [role for name, role in method.learns_from.items() if name == experiment]
    return [role for role in needed if role not in roles]


def chosen_methods(experiment: str, only: tuple[str, ...]) -> tuple[Method, ...]:
    """Those of the given names, in the order of the table; all without names. Raises ConfigError."""
    known = methods_of(experiment)
    names = [method.name for method in known]
    for name in only:
        if name not in names:
            raise ConfigError(
                f"{name!r} is no method of {experiment}", next_step=f"use --only with {', '.join(names)}"
            )
    return tuple(method for method in known if not only or method.name in only)
