"""Shared loss: the loss of a rank's part of a batch, whose gradients are those of the whole batch."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deflow_cli.runtime.distributed import Ranks

# the name since torch 2.15, and that before
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)
Loss = tuple[Tensor, Mapping[str, Tensor]]  # a loss and the figures to log


class SharedLoss:
    """Calls ``loss_of(*inputs)``; several ranks average its gradients in the backward pass.

    The average is that of DistributedDataParallel, with all ranks' losses weighing the same: each must be a
    mean over as many images. modules: whose parameters the loss trains. The wrapper is built at the first
    call, when the modules hold the same weights on all ranks and it is known which of them are trained.
    With one rank nothing is wrapped.
    """

    def __init__(self, loss_of: Callable[..., Loss], modules: Sequence[nn.Module]) -> None:
        self._loss_of, self._modules = loss_of, tuple(modules)
        self._parallel: nn.Module | None = None

    def __call__(self, *inputs: Tensor) -> Loss:
        if Ranks.current().size == 1:
            return self._loss_of(*inputs)
        if self._parallel is None:
            device = next(self._modules[0].parameters()).device
            options: dict[str, Any] = {_SYNC_BUFFERS: False}  # all ranks compute the same
            self._parallel = DistributedDataParallel(
                _Forward(self._loss_of, self._modules),
                device_ids=[device] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                static_graph=True,
                **options,
            )
        loss, figures = self._parallel(*inputs)
        return loss, figures

    def forget(self) -> None:
        """Wrap anew at the next call, since other parameters are trained from here on."""
        self._parallel = None
        if Ranks.current().size > 1:
            gc.collect()  # the wrapper's hooks on the parameters end with it, and it refers to itself


class _Forward(nn.Module):
    """A loss as a module, because gradients are averaged only of what ``forward`` computed."""

    def __init__(self, loss_of: Callable[..., Loss], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.loss_of, self.trained = loss_of, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Loss:
        loss, figures = self.loss_of(*inputs)
        return loss, {name: figure.detach() for name, figure in figures.items()}


def mean_figures(figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Figures of the whole batch, from those of each rank's part."""
    ranks = Ranks.current()
    if ranks.size == 1 or not figures:
        return {name: figure.detach() for name, figure in figures.items()}
    means = ranks.mean(torch.stack([figure.detach().float() for figure in figures.values()]))
    return dict(zip(figures, means, strict=True))
