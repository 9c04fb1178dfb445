"""Methods of `deflow fit`: what each is called, configured by and carried out by. Loads no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deflow_cli.errors import ConfigError
from deflow_cli.presets.reader import CYCLEGAN, DASR, DSGAN, FIT, Presets

DEFAULT_METHOD = "deflow"


@dataclass(frozen=True)
class FitMethod:
    """One way to learn a degradation from two folders.

    name: of the method, of the degrader that uses its models, and of the section that only its configurations
    have. presets: of its runs. cpu_preset, gpu_preset: taken where none is named. about: what it learns, as a
    part of a sentence. trainer: module and class of what trains it, of the workflow ``translation``; empty
    for a DeFlow, which has a workflow of its own. options: those of the command that are for this method
    and not for all, each with the key that it sets, empty where it sets none.
    """

    name: str
    presets: Presets[Any]
    cpu_preset: str
    gpu_preset: str
    about: str
    trainer: tuple[str, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def section(self) -> str:
        """The section of a configuration by which it is known to be this method's."""
        return self.name if self.trainer else "flow"


def _perceptual(name: str) -> dict[str, str]:
    return {"perceptual": f"{name}.features", "perceptual_weights": f"{name}.features_file"}


# One line for each method, in the order in which users see them.
FIT_METHODS = [
    FitMethod(
        "deflow",
        FIT,
        "tiny",
        "base",
        "a flow, which draws another degradation each time",
        options={"pairs": "", "downsample": "flow.downsample", "memory": "fit.memory"},
    ),
    FitMethod(
        "dsgan",
        DSGAN,
        "tiny",
        "paper",
        "FSSR's network, from NOISY alone",
        ("deflow_cli.workflows.translation.dsgan", "DsganTrainer"),
        _perceptual("dsgan"),
    ),
    FitMethod(
        "dasr",
        DASR,
        "tiny",
        "aim",
        "DASR's network, which makes the clean images smaller itself",
        ("deflow_cli.workflows.translation.dasr", "DasrTrainer"),
        _perceptual("dasr"),
    ),
    FitMethod(
        "cyclegan",
        CYCLEGAN,
        "tiny",
        "paper",
        "CycleGAN, from clean images made smaller",
        ("deflow_cli.workflows.translation.cyclegan", "CycleGanTrainer"),
    ),
]


def fit_methods() -> dict[str, FitMethod]:
    """The methods by name."""
    return {method.name: method for method in FIT_METHODS}


def method_users(option: str, last: str) -> str:
    """The methods that have an option of the command, as ``a, b or c``, with ``last`` before the last one."""
    names = [method.name for method in FIT_METHODS if option in method.options]
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def fit_method(name: str) -> FitMethod:
    """The method of a name. Raises ConfigError for an unknown one.

    >>> fit_method("dsgan").presets.load("paper").dsgan.adversarial
    0.005
    """
    known = fit_methods()
    if name not in known:
        raise ConfigError(f"method {name!r} is unknown", next_step=f"use one of {', '.join(known)}")
    return known[name]


def method_of_file(path: Path) -> FitMethod | None:
    """The method whose configuration a TOML file holds, by its sections; None where it does not tell."""
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8", errors="surrogateescape")).keys()
    except (OSError, tomllib.TOMLDecodeError):
        return None
    return next((method for method in FIT_METHODS if method.section in sections), None)


def choose_method(given: str | None, own_config: Path, preset: str | None) -> FitMethod:
    """The method given, else that of a run's own configuration or of a preset's file, else the default.

    own_config: the run's, which need not exist. Raises ConfigError for an unknown method, and where a
    configuration is another method's.
    """
    chosen = fit_method(given) if given is not None else None
    for path, option in ((own_config, "--out"), (Path(preset or ""), "--preset")):
        found = method_of_file(path) if path.is_file() else None
        if found is None:
            continue
        if chosen is not None and chosen != found:
            raise ConfigError(
                f"{path} is a configuration of the method {found.name}, not of {chosen.name}",
                next_step=f"pass --method {found.name}, or another {option}",
            )
        chosen = found
    return chosen or fit_method(DEFAULT_METHOD)
