"""The choice of a degrader: a name and options as a user gives them, not yet known to agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deflow_cli.degraders.base import DegraderConfig
from deflow_cli.degraders.registry import DEFAULT, configuration, degrader_options
from deflow_cli.errors import ConfigError


@dataclass(frozen=True, init=False)
class DegraderChoice:
    """A degrader as a user names it, with the options that were given.

    Options of other degraders are accepted at first, because a data set's manifest may name the degrader
    later; ``config`` refuses them.

    >>> DegraderChoice("white-noise", sigma=8.0).config()
    WhiteNoiseConfig(sigma=8.0, noisy=None)
    """

    name: str
    options: Mapping[str, Any]

    def __init__(self, name: str | None = None, **options: object) -> None:
        """name: None: that of the method that the model's file names, where one is given, else the default.

        options: by their Python names; None counts as not given. Raises ConfigError for an unknown name or
        option, a value that cannot be, or a missing option.
        """
        if name is None:
            name = _name_of(options.get("model"))
        chosen, known = configuration(name), degrader_options()
        given = {key: value for key, value in options.items() if value is not None}
        for key in given:
            if key not in known:
                raise ConfigError(f"{key!r} is no option of a degrader", next_step=f"use {', '.join(known)}")
        for key, each in known.items():
            if key in given and each.check is not None:
                each.check(given[key])
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", given)
        self._built(chosen)

    def config(self) -> DegraderConfig:
        """The configuration. Raises ConfigError for an option that only other degraders have."""
        for key, each in degrader_options().items():
            given = key in self.options and self.options[key] != each.default
            if given and self.name not in each.users:
                raise ConfigError(
                    f"{each.flag} is nothing to the degrader {self.name}",
                    next_step=f"leave it out, or use --degrader {' or '.join(each.users)}",
                )
        return self._built(configuration(self.name))

    def repeating(self, facts: Mapping[str, Any]) -> DegraderConfig:
        """The configuration of a manifest's facts, with the folders and the model of this choice."""
        return configuration(str(facts["name"])).from_facts(facts, self.options)

    def _built(self, chosen: type[DegraderConfig]) -> DegraderConfig:
        names = {each.name for each in chosen.options()}
        return chosen(**{key: value for key, value in self.options.items() if key in names})


def _name_of(model: object) -> str:
    """The degrader that uses a model file; the default where none is given, or it does not tell."""
    if model is None:
        return DEFAULT
    from deflow_cli.checkpoints.registry import local_copy, method_of_model
    from deflow_cli.paths import MODEL_FILE

    path = local_copy(Path(str(model)), MODEL_FILE).path
    return method_of_model(path / MODEL_FILE if path.is_dir() else path) or DEFAULT
