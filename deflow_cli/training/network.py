"""Network: what is trained, with its optimiser, whose steps are skipped without asking the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Network:
    """A network that is trained, with its optimiser. prefix: of its tensors in the state file."""

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, prefix: str = "") -> None:
        self.module, self.optimizer, self.prefix = module, optimizer, prefix
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

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
            state = _below(f"{self.prefix}optimizer.{index}.", tensors)
            self.optimizer.state[parameter] = {k: _placed(v, parameter) for k, v in state.items()}
        for parameter in [p for p in self.optimizer.state if not self.optimizer.state[p]]:
            del self.optimizer.state[parameter]


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
