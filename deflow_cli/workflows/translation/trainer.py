"""Trainer: what a method of translation must offer, and what all of them share."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from deflow_cli.config.translation import TranslationConfig, TranslationFitConfig
from deflow_cli.models.translation.generators import Generator
from deflow_cli.presets.methods import FitMethod
from deflow_cli.runtime.progress import Reporter
from deflow_cli.training.deferred_metrics import Outcome
from deflow_cli.training.network import Network
from deflow_cli.workflows.translation.data import CropRecipe, TranslationBatch

Figures = Mapping[str, Tensor]


class TranslationRunConfig(Protocol):
    """The configuration of a run of any method: the method's section, and how it is trained."""

    @property
    def translation(self) -> TranslationConfig: ...

    @property
    def fit(self) -> TranslationFitConfig: ...


class TranslationTrainer(ABC):
    """A generator with all that trains it. A new method is a subclass in a module of its own.

    name: of the method. recipe: where its crops come from. A trainer is called with a step, the share of the
    run that is done, and a factor on the learning rate, trains all networks once, and returns the outcome; a
    step that is not finite leaves all of them as they were. Losses are means over all elements.
    """

    name: ClassVar[str]
    recipe: ClassVar[CropRecipe]

    def __init__(self, config: TranslationRunConfig, device: torch.device) -> None:
        self.fit, self.device = config.fit, device
        self.batch_of: Callable[[int], TranslationBatch] | None = None
        self.networks: list[Network] = []

    @classmethod
    @abstractmethod
    def build(cls, config: Any, device: torch.device, reporter: Reporter) -> TranslationTrainer:
        """The trainer of a run at its start. Raises CheckpointError where a loss lacks weights."""

    @property
    @abstractmethod
    def generator(self) -> Generator:
        """The network from clean to degraded pictures, which is the first of ``networks``."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the model's file is to tell of the losses, JSON-ready."""
        return {}

    @abstractmethod
    def train(self, step: int, batch: TranslationBatch) -> tuple[Figures, Tensor]:
        """Update all networks; returns the figures to log, and whether the step counts (0-dim bool)."""

    def held_out_figures(self, batch: TranslationBatch) -> dict[str, float]:
        """Figures of held-out clean crops that the method alone has."""
        return {}

    def __call__(self, step: int, share: float, rate_factor: float) -> Outcome:
        factor = linear_factor(share, self.fit.constant_share) * rate_factor
        for network in self.networks:
            for group in network.optimizer.param_groups:
                group["lr"] = self.fit.learning_rate * factor
        assert self.batch_of is not None
        figures, finite = self.train(step, self.batch_of(step))
        return Outcome(figures, factor, finite)

    def network(self, module: nn.Module, prefix: str = "") -> Network:
        """A network with its Adam, in training mode on the device."""
        module.to(self.device).train()
        adam = torch.optim.Adam(
            module.parameters(), lr=self.fit.learning_rate, betas=self.fit.betas, fused=True
        )
        return Network(module, adam, prefix)


def trainer_class(method: FitMethod) -> type[TranslationTrainer]:
    """The class that trains a method."""
    assert method.trainer is not None
    module, name = method.trainer
    found: type[TranslationTrainer] = getattr(importlib.import_module(module), name)
    return found


def linear_factor(share: float, constant_share: float) -> float:
    """The learning rate's factor at a share of the run: 1, then linearly to 0.

    >>> [linear_factor(share, 0.5) for share in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    """
    if share <= constant_share:
        return 1.0
    return max(0.0, (1.0 - share) / (1.0 - constant_share))


def backward(network: Network, loss: Tensor) -> Tensor:
    """The gradients of a network; returns their norm."""
    network.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return gradient_norm(network)


def gradient_norm(network: Network) -> Tensor:
    """The norm of all gradients of a network, 0-dim."""
    gradients = [parameter.grad for parameter in network.parameters if parameter.grad is not None]
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))


def snapshot(network: Network) -> dict[str, Tensor]:
    """Copies of a network's weights, statistics and optimiser state."""
    return {key: value.clone() for key, value in network.tensors().items()}


@torch.no_grad()
def go_back_unless(finite: Tensor, network: Network, before: Mapping[str, Tensor]) -> None:
    """Undo what became of a network since its snapshot unless ``finite`` (0-dim bool); nothing waits for it.

    State that the optimiser did not have before becomes 0, as it begins.
    """
    for key, value in network.tensors().items():
        old = before.get(key)
        value.copy_(torch.where(finite, value, torch.zeros_like(value) if old is None else old))
