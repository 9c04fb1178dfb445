"""Registry of degraders: every name, list, option and check of the program derives from this list."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace

from deflow_cli.degraders.base import DegraderConfig, DegraderOption
from deflow_cli.errors import ConfigError

DEFAULT = "deflow"

# One line for each degrader, in the order in which users see them: the module and its configuration class.
CONFIGURATIONS = [
    ("deflow_cli.degraders.deflow", "FlowDegraderConfig"),
    ("deflow_cli.degraders.translation", "DsganDegraderConfig"),
    ("deflow_cli.degraders.translation", "DasrDegraderConfig"),
    ("deflow_cli.degraders.translation", "CycleGanDegraderConfig"),
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

    ``help`` is the command line's, with a sentence for each of the definitions. Raises TypeError where two
    degraders define an option of one name with another type, default, bound, kind or check.

    >>> degrader_options()["noisy"].users
    ('white-noise', 'spectral', 'noise-patches')
    >>> degrader_options()["patch_size"].help
    'For noise-patches: their side in pixels (default: 256).'
    """
    found: dict[str, DegraderOption] = {}
    users_of: dict[str, dict[str, list[str]]] = {}
    for config in configurations().values():
        for each in config.options():
            known = found.get(each.name, each)
            if replace(known, users=each.users, help=each.help) != each:
                raise TypeError(
                    f"{config.__name__} defines the option {each.name} otherwise than {known.users}"
                )
            users_of.setdefault(each.name, {}).setdefault(each.help, []).append(config.name)
            found[each.name] = replace(known, users=tuple(dict.fromkeys((*known.users, *each.users))))
    return {
        name: replace(each, help=" ".join(_sentence(*item) for item in users_of[name].items()))
        for name, each in found.items()
    }


def listed(names: Sequence[str], last: str) -> str:
    """``a, b or c``, with ``last`` before the last one."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _sentence(text: str, users: Sequence[str]) -> str:
    if "{users}" in text:
        return text.replace("{users}", listed(users, "and"))
    return f"For {listed(users, 'and')}: {text}"
