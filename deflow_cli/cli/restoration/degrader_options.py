"""Command-line options of the degraders, derived from their registry."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from deflow_cli.cli.options import check_folder, model_file
from deflow_cli.degraders.base import DegraderOption
from deflow_cli.degraders.registry import degrader_names, degrader_options, listed

PARAMETER = "degrader"  # of a command, which becomes the option of that name and all options of the degraders


@dataclass(frozen=True)
class GivenDegrader:
    """What the command line says of a degrader. name: None without ``--degrader``. options: those given."""

    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """Everything that was given, by the names of the command line's parameters."""
        return ({} if self.name is None else {PARAMETER: self.name}) | dict(self.options)

    @property
    def recipe(self) -> dict[str, Any]:
        """Of these, the degrader and the values, which a manifest repeats; folders and models may move."""
        places = {key for key, each in degrader_options().items() if each.kind != "value"}
        return {key: value for key, value in self.given.items() if key not in places}

    def arguments(self) -> dict[str, Any]:
        """The arguments of a ``DegraderChoice``. Raises DataError or CheckpointError for a missing place."""
        found: dict[str, Any] = {} if self.name is None else {"name": self.name}
        known = degrader_options()
        for key, value in self.options.items():
            if known[key].kind == "folder":
                check_folder(value, known[key].flag)
            found[key] = model_file(value) if known[key].kind == "model" else value
        return found


NO_DEGRADER = GivenDegrader()


def with_degrader_options(command: Callable[..., None], *, names: str, clean: str) -> Callable[..., None]:
    """Replace a command's parameter ``degrader``, a GivenDegrader, by ``--degrader`` and all its options.

    names: help of ``--degrader``, with ``{names}`` for their list. clean: the command's word for the clean
    pictures, in the help of the options.
    """
    options = degrader_options()
    title = names.format(names=listed(degrader_names(), "or"))
    added = [_parameter(PARAMETER, Annotated[str | None, typer.Option(metavar="NAME", help=title)])]
    added += [_parameter(name, _annotation(each, clean)) for name, each in options.items()]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        name = arguments.pop(PARAMETER)
        values = {key: arguments.pop(key) for key in options}
        given = {key: value for key, value in values.items() if value is not None}
        command(**arguments, **{PARAMETER: GivenDegrader(name, given)})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += added if parameter.name == PARAMETER else [parameter]
    vars(run)["__signature__"] = inspect.Signature(parameters, return_annotation=None)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=annotation
    )


def _annotation(each: DegraderOption, clean: str) -> Any:
    """The option as Typer has it: None where it is not given."""
    text = each.help.format(hr=clean)
    return Annotated[each.type | None, typer.Option(metavar=each.metavar, min=each.least, help=text)]
