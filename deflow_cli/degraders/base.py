"""What a degrader is: the protocol, its options, and how it becomes ready. This module loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, get_args, get_type_hints

from deflow_cli.errors import ConfigError, DataError, ShapeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deflow_cli.checkpoints.registry import FoundModel
    from deflow_cli.data.images.resize import Rule
    from deflow_cli.runtime.progress import Reporter

Facts = dict[str, Any]
OptionKind = Literal["value", "folder", "model"]


# -- a degrader at work -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """What determines one degraded picture, apart from the clean one.

    key: the name that the randomness belongs to, such as the picture's. sample: number of the degradation of
    this picture. temperature: strength of the noise; 1 is the degrader as it was fitted, 0 is deterministic.

    >>> Draw(seed=7, key="photo.png", sample=2)
    Draw(seed=7, key='photo.png', sample=2, temperature=1.0)
    """

    seed: int
    key: str
    sample: int = 0
    temperature: float = 1.0


class Degrader(Protocol):
    """Degrades clean pictures.

    The result is a function of the picture and its draw alone. The other pictures of the batch, their order
    and the tiles do not matter, so that any process can make the same picture again at any time.
    """

    def degrade(self, image_bchw: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Degrade B x 3 x H x W, float32 in [0, 1], with one draw for each picture.

        The result has the same shape and device, and lies in [0, 1]. A degrader that shrinks
        (``ReadyDegrader.shrinks``) takes the large pictures, and its result is so many times smaller. Raises
        ShapeError for another layout or another number of draws.
        """
        ...


def check_draws(image_bchw: Tensor, draws: Sequence[Draw]) -> None:
    """Raise ShapeError unless the pictures are B x 3 x H x W, not empty, with B draws."""
    if image_bchw.dim() != 4 or image_bchw.shape[1] != 3 or 0 in image_bchw.shape:
        raise ShapeError(f"images of shape {tuple(image_bchw.shape)}; expected B x 3 x H x W, none of them 0")
    if len(draws) != image_bchw.shape[0]:
        raise ShapeError(f"{len(draws)} draws for {image_bchw.shape[0]} images")


def check_same_model(found: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Raise DataError unless the facts of a degrader's model name the content that a manifest recorded."""
    ours, theirs = found["model"], recorded["model"]
    if ours["sha256"] != theirs["sha256"]:
        raise DataError(
            f"{ours['file']}: not the manifest's model {theirs['file']} (sha256 {theirs['sha256'][:12]}...)",
            next_step="pass that model as --model",
        )


def add_noise(image_bchw: Tensor, noise_bchw: Tensor) -> Tensor:
    """The sum, clipped to [0, 1], on the device and in the precision of the image."""
    return (image_bchw + noise_bchw.to(image_bchw)).clamp(0, 1)


# -- a degrader's options ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class DegraderOption:
    """An option of one or several degraders: annotates a field of their configurations.

    help: a sentence for the command line, which puts "For NAME: " before it, or the names of all degraders
    that have the option in the place of ``{users}``; ``{hr}`` becomes the command's word for the clean
    pictures. metavar, least: as the command line shows and bounds the value. kind: a value is part of the
    recipe, and a manifest repeats it; a folder or a model is a place, which may move. check: raises
    ConfigError for a value that cannot be, whichever degrader is chosen.

    The rest follows from the field: its name, the type of its value (without None), its default, and
    the names of the degraders that have it. Degraders may share an option; they may describe it differently.
    """

    help: str
    metavar: str | None = None
    least: float | None = None
    kind: OptionKind = "value"
    check: Callable[[Any], None] | None = None
    name: str = ""
    type: type = object
    default: object = None
    users: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class DegraderContext:
    """What a degrader may need to become ready.

    clean: the large clean pictures that are to be degraded. scale, rule: how they are made smaller before.
    device: where a degrader that ``runs_on_device`` is to run.
    """

    clean: Sequence[Path]
    scale: int
    rule: Rule
    device: torch.device
    reporter: Reporter


@dataclass(frozen=True)
class ReadyDegrader:
    """A degrader that can be used.

    facts: JSON-ready, equal for equal degraders; a manifest records them. model: the file, if it has one.
    shrinks: how many times smaller than its pictures the results are, of a degrader that takes the large
    pictures and makes them smaller itself; None for those that take the small pictures and keep their size.
    """

    degrader: Degrader
    facts: Facts
    model: FoundModel | None = None
    shrinks: int | None = None

    def check_scale(self, scale: int) -> None:
        """Raise ConfigError unless pictures that are made ``scale`` times smaller are what it gives."""
        if self.shrinks is not None and self.shrinks != scale:
            raise ConfigError(
                f"the degrader {self.facts['name']} makes pictures {self.shrinks} times smaller itself, and "
                f"the scale is {scale}",
                next_step=f"use --scale {self.shrinks}",
            )


@dataclass(frozen=True)
class DegraderConfig:
    """Base of the configurations: a degrader's name, its options, and how it becomes ready.

    A new degrader is a subclass in a module of its own, and a line in ``registry.py``. Each field is an
    option, annotated by a DegraderOption. The command line imports that module, so it must not import torch
    or NumPy; ``prepare`` imports what it needs.

    runs_on_device: whether the degrader runs on the device that was asked for. Most run on the CPU, where
    they are done sooner than their pictures would be brought to a GPU. is_random: whether draws make a
    difference; of the others every degradation of a picture is the same.
    """

    name: ClassVar[str]
    runs_on_device: ClassVar[bool] = False
    is_random: ClassVar[bool] = True

    def prepare(self, context: DegraderContext) -> ReadyDegrader:
        """Load or estimate the degrader. Raises DataError, ConfigError or CheckpointError."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """The name and the values of the recipe: what ``from_facts`` needs, apart from the places."""
        values = {each.name: getattr(self, each.name) for each in self.options() if each.kind == "value"}
        return {"name": self.name, **values}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], places: Mapping[str, Any]) -> Self:
        """The configuration that recorded facts describe, with its folders and model at ``places``."""
        values: dict[str, Any] = {}
        for each in cls.options():
            if each.kind == "value":
                values[each.name] = facts[each.name]
            elif each.name in places:
                values[each.name] = places[each.name]
        return cls(**values)

    def check_repeated(self, found: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
        """Raise DataError unless the facts of the places that were found are the recorded ones."""
        for each in self.options():
            if each.kind != "value" and found.get(each.name) != recorded.get(each.name):
                raise DataError(
                    f"the {each.name} pictures are not those that the manifest's {self.name} degrader saw",
                    next_step=f"pass that folder as {each.flag}",
                )

    @classmethod
    def options(cls) -> tuple[DegraderOption, ...]:
        """The options, in the order of the fields."""
        hints = get_type_hints(cls, include_extras=True)
        found = []
        for each in fields(cls):
            value, option = get_args(hints[each.name])
            kind = next((part for part in get_args(value) if part is not NoneType), value)
            users = (cls.name,)
            found.append(replace(option, name=each.name, type=kind, default=each.default, users=users))
        return tuple(found)
