"""Architectures: the kinds of networks whose weights are read, one class each, and the list of them."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, TypeAlias, TypeVar

from torch import Tensor, nn

from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.models.deflow.model import DeFlow
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.translation.generators import ResidualGenerator

N = TypeVar("N", bound=nn.Module)

# One line for each architecture, in the order in which a file is compared with them: its module and class.
# A file that none recognises is refused by the first of the kind that is wanted, which says what it misses.
ARCHITECTURES = [
    ("deflow_cli.checkpoints.foreign", "PublishedDeFlow"),
    ("deflow_cli.checkpoints.esrgan.files", "Esrgan"),
    ("deflow_cli.checkpoints.srflow.published", "PublishedSRFlow"),
    ("deflow_cli.checkpoints.translation.published", "PublishedTranslator"),
]


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """A network with a file's weights, in evaluation mode.

    layout: the naming of the file's tensors. unused: tensors of the file that no computation reads.
    assumed: in words, what the file does not tell and the network needs.
    """

    model: N
    layout: str
    unused: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


class Architecture(ABC, Generic[N]):
    """How the weights of one kind of network are recognised, read and written, whoever trained them.

    name: as in the ``modelspec.architecture`` of a safetensors file. formats: names of the files that
    ``export`` writes; no two architectures share one.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def detects(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the names of the tensors are this architecture's."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> Loaded[N]:
        """Derive the sizes from names and shapes, build the network and load every tensor.

        Raises CheckpointError naming the tensors that are missing, unexpected or misshapen.
        """

    def export(self, model: N, path: Path, file_format: str) -> list[str]:
        """Write a file of one of ``formats``; returns, in words, which programs will not take it.

        Raises ConfigError for another format or suffix.
        """
        raise ConfigError(f"format {file_format!r} is not known")


class DegraderArchitecture(Architecture[DeFlow]):
    """An architecture of degradation models: ``deflow import-weights`` reads its files."""


class RestorerArchitecture(Architecture[RRDBNet]):
    """An architecture of restorers: ``restore --model`` and ``sr-train --init`` read its files."""


class SuperResolverArchitecture(Architecture[SRFlow]):
    """An architecture of SRFlow models: ``import-weights`` and ``restore --model`` read its files."""

    @abstractmethod
    def load(
        self,
        state: Mapping[str, Tensor],
        stacked_blocks: Sequence[int] | None = None,
        affine_eps: float | None = None,
    ) -> Loaded[SRFlow]:
        """As for every architecture; the arguments are what a file may not tell, None: the usual ones.

        stacked_blocks: the encoder's blocks, from 0, whose outputs the flow sees. affine_eps: the least scale
        of couplings and injectors. Raises ConfigError where they cannot be those of the file.
        """

    def export(
        self, model: SRFlow, path: Path, file_format: str, spare: Mapping[str, Tensor] | None = None
    ) -> list[str]:
        """As for every architecture. spare: tensors, by their names, that no computation reads."""
        return super().export(model, path, file_format)


class TranslatorArchitecture(Architecture[ResidualGenerator]):
    """An architecture of networks that degrade, with one answer: ``import-weights`` reads its files."""

    @abstractmethod
    def method(self, model: ResidualGenerator) -> str:
        """The method of fit, and the name of the degrader, that a model is of."""


AnyArchitecture: TypeAlias = (
    Architecture[DeFlow] | Architecture[RRDBNet] | Architecture[SRFlow] | Architecture[ResidualGenerator]
)
Importable: TypeAlias = DegraderArchitecture | SuperResolverArchitecture | TranslatorArchitecture


def architectures() -> list[AnyArchitecture]:
    """All architectures, in the order of the list."""
    return [getattr(importlib.import_module(module), name)() for module, name in ARCHITECTURES]


def importable(state: Mapping[str, Tensor]) -> Importable:
    """The architecture of a state dict that ``import-weights`` reads: a model that degrades, or an SRFlow."""
    known = [each for each in architectures() if isinstance(each, Importable)]
    return next((each for each in known if each.detects(state)), known[0])


def read_restorer(state: Mapping[str, Tensor]) -> Loaded[RRDBNet] | Loaded[SRFlow]:
    """The restorer of a state dict. Raises CheckpointError where it fits no architecture."""
    known = [
        each for each in architectures() if isinstance(each, RestorerArchitecture | SuperResolverArchitecture)
    ]
    return next((each for each in known if each.detects(state)), known[0]).load(state)


def restorer_formats() -> dict[str, RestorerArchitecture]:
    """The formats that ESRGAN generators are exported in, and the architecture that writes each."""
    known = [each for each in architectures() if isinstance(each, RestorerArchitecture)]
    return {name: each for each in known for name in each.formats}


def super_resolver_formats() -> dict[str, SuperResolverArchitecture]:
    """The formats that SRFlow models are exported in, and the architecture that writes each."""
    known = [each for each in architectures() if isinstance(each, SuperResolverArchitecture)]
    return {name: each for each in known for name in each.formats}


def check_least_parameters(state: Mapping[str, Tensor], least: int) -> None:
    """Refuse sizes that a file's tensors cannot have, before a network of these sizes is built.

    least: numbers that a network of the sizes has at least. Raises CheckpointError.
    """
    held = sum(value.numel() for value in state.values())
    if held < least:
        raise CheckpointError(
            f"its sizes are those of a model of more than {least} numbers, but it holds {held}",
            next_step="copy or download the file again",
        )


def misfits(
    state: Mapping[str, Tensor], layout: Mapping[str, tuple[int, ...] | None], optional: Collection[str] = ()
) -> str:
    """What keeps a state dict from fitting a layout, the first five problems in words; empty where it fits.

    layout: every tensor's name and shape; None for a shape that cannot be known. optional: names that may be
    missing. Losing a tensor is a problem as well as lacking one.
    """
    problems = [f"missing {key}" for key in layout if key not in state and key not in optional]
    problems += [f"unexpected {key}" for key in sorted(set(state) - set(layout))]
    problems += [
        f"{key} is {tuple(state[key].shape)}, expected {shape}"
        for key, shape in layout.items()
        if shape is not None and key in state and tuple(state[key].shape) != shape
    ]
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return "; ".join(problems[:5]) + more
