"""Registry of degraders: every name, list, option and check of the program derives from this list."""

from __future__ import annotations

import importlib
from dataclasses import replace

from deflow_cli.degraders.base import DegraderConfig, DegraderOption
from deflow_cli.errors import ConfigError

DEFAULT = "deflow"

# One line for each degrader, in the order in which users see them: the module and its configuration class.
CONFIGURATIONS = [
    ("deflow_cli.degraders.deflow", "FlowDegraderConfig"),
    ("deflow_cli.degraders.simple", "WhiteNoiseConfig"),
    ("deflow_cli.degraders.spectral", "SpectralConfig"),
    ("deflow_cli.degraders.patches", "NoisePatchConfig"),
    ("deflow_cli.degraders.simple", "NoDegradationConfig"),
]


def configurations() -> dict[str, type[DegraderConfig]]:
    """The configuration classes by name."""
    found: dict[str, type[DegraderConfig]] = {}
    for module, name in CONFIGURATIONS:
        config: type[DegraderConfig] = getattr(importlib.import_module(module), name)
        found[config.name] = config
    return found


def degrader_names() -> tuple[str, ...]:
    """The names of all degraders."""
    return tuple(configurations())


def configuration(name: str) -> type[DegraderConfig]:
    """The configuration class of a name. Raises ConfigError for an unknown one."""
    known = configurations()
    if name not in known:
        raise ConfigError(f"degrader {name!r} is unknown", next_step=f"use one of {', '.join(known)}")
    return known[name]


def degrader_options() -> dict[str, DegraderOption]:
    """The options of all degraders by name; ``users`` names all degraders that have one.

    >>> degrader_options()["noisy"].users
    ('white-noise', 'spectral', 'noise-patches')
    """
    found: dict[str, DegraderOption] = {}
    for config in configurations().values():
        for each in config.options():
            known = found.get(each.name)
            if known is None:
                found[each.name] = each
            elif replace(known, users=each.users) != each:
                raise TypeError(
                    f"{config.__name__} defines the option {each.name} otherwise than {known.users}"
                )
            else:
                found[each.name] = replace(known, users=(*known.users, *each.users))
    return found
