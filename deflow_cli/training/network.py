"""Network: what is trained, with its optimiser, whose steps are skipped without asking the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class MixedPrecision(Protocol):
    """A model whose networks can compute in another precision than its flow."""

    def set_net_precision(self, dtype: torch.dtype | None) -> None: ...


@contextmanager
def full_precision(model: MixedPrecision, usual: torch.dtype | None) -> Iterator[None]:
    """The networks of a model compute in float32 inside, and in their usual precision afterwards."""
    model.set_net_precision(None)
    try:
        yield
    finally:
        model.set_net_precision(usual)


class Network:
    """A network that is trained, with its optimiser. prefix: of its tensors in the state file."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, prefix: str = "") -> None:
        self.module, self.optimizer, self.prefix = module, optimizer, prefix
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.replacements = 0  # how often ``load`` put new tensors into the optimiser's state

    def tensors(self) -> dict[str, Tensor]:
        """Weights and the optimiser's state, under their names in the state file."""
        tensors = {f"{self.prefix}model.{k}": v for k, v in self.module.state_dict().items()}
        for index, parameter in enumerate(self.parameters):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{self.prefix}optimizer.{index}.{key}"] = torch.as_tensor(value)
        return tensors

    def update(self, finite: Tensor) -> None:
        """Take the optimiser's step where ``finite`` (0-dim bool) holds; else all stays as it is.

        Fused optimisers decide that on the device: ``found_inf`` is what torch's own GradScaler gives them.
        """
        optimizer: Any = self.optimizer
        if all(group.get("fused") for group in optimizer.param_groups):
            optimizer.found_inf = finite.logical_not().float()
            optimizer.step()
            del optimizer.found_inf
        elif bool(finite):  # others cannot: the host waits for the device
            optimizer.step()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what ``tensors`` gave. Raises RuntimeError where a tensor is missing or misshapen."""
        self.module.load_state_dict(_below(f"{self.prefix}model.", tensors), strict=True)
        for index, parameter in enumerate(self.parameters):
            self._load_state(parameter, _below(f"{self.prefix}optimizer.{index}.", tensors))

    def _load_state(self, parameter: nn.Parameter, saved: Mapping[str, Tensor]) -> None:
        """Load the state of one parameter; in place where there is one, for the sake of recorded graphs."""
        present = self.optimizer.state.get(parameter, {})
        if saved and all(key in present and present[key].shape == saved[key].shape for key in saved):
            for key, value in saved.items():
                present[key].copy_(value)
            return
        self.replacements += 1
        self.optimizer.state.pop(parameter, None)
        if saved:
            self.optimizer.state[parameter] = {key: _placed(v, parameter) for key, v in saved.items()}


def move_together(values: list[Tensor], targets: list[Tensor], share: Tensor) -> None:
    """values += share (targets - values), in place; share 0-dim. A few kernels for all of them on a GPU."""
    changes = torch._foreach_sub(targets, values)
    torch._foreach_mul_(changes, share)
    torch._foreach_add_(values, changes)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _placed(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy on the parameter's device, and laid out in memory as it is where the shapes are the same."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
