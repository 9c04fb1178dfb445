"""Batch normalisation by the statistics of a batch that several processes share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MeanOverRanks = Callable[[Tensor], Tensor]
"""The mean of a tensor's values over the processes, through which gradients pass."""


class SharedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` of the whole batch, of which each of ``parts`` processes has an equal part.

    Mean and variance are means over the processes, as if one of them had all images; the running variance is
    the unbiased one of the whole batch.
    """

    def __init__(self, channels: int, mean_over_ranks: MeanOverRanks, parts: int) -> None:
        super().__init__(channels)
        self.mean_over_ranks, self.parts = mean_over_ranks, parts

    def forward(self, x_bchw: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_bchw)
        values = x_bchw.float()
        mean = self.mean_over_ranks(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = self.mean_over_ranks(centred.square().mean((0, 2, 3)))
        self._remember(mean.detach(), variance.detach(), self.parts * x_bchw[:, 0].numel())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x_bchw.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        self.num_batches_tracked.add_(1)


def share_batch_statistics(module: nn.Module, mean_over_ranks: MeanOverRanks, parts: int) -> None:
    """Put a SharedBatchNorm2d in the place of every ``nn.BatchNorm2d`` of default settings in a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(child.num_features, mean_over_ranks, parts)
                shared.load_state_dict(child.state_dict())
                setattr(parent, name, shared.train(child.training))
