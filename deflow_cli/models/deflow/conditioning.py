"""Conditioning: what the flow may know of an image, h(x), and the colour statistics of the two domains."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from deflow_cli.layers.networks.resize import bicubic_downsample


def condition_image(image_bchw: Tensor, downsample: int) -> Tensor:
    """h(x) before its noise: bicubic downsampling of the MATLAB kind (DeFlow, CVPR 2021, section 3.4)."""
    return bicubic_downsample(image_bchw, downsample)


class DomainStatistics(nn.Module):
    """Channel means and stds of both domains, of the images and of h; identity until ``set`` is called.

    Degraded images are brought to the clean set's statistics before the flow, x' = (x - m_y) / s_y * s_x
    + m_x clamped to [0, 1], and degraded outputs are mapped back by the inverse (DeFlow, AIM model).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        # rows: clean, degraded, clean h, degraded h
        self.register_buffer("mean", torch.zeros(4, channels))
        self.register_buffer("std", torch.ones(4, channels))
        self._found: tuple[tuple[Hashable, ...], bool] | None = None  # what ``active`` found, and of what

    @property
    def active(self) -> bool:
        """Whether the two domains' statistics differ at all.

        The device is asked once after each change, not at every step of a training.
        """
        buffers = (self.mean, self.std)
        if any(buffer.is_inference() for buffer in buffers):  # those do not count their changes
            return self._differ()
        stamp = tuple((buffer.data_ptr(), buffer._version) for buffer in buffers)
        if self._found is None or self._found[0] != stamp:
            self._found = (stamp, self._differ())
        return self._found[1]

    def _differ(self) -> bool:
        return not (
            torch.equal(self.mean[0], self.mean[1])
            and torch.equal(self.std[0], self.std[1])
            and torch.equal(self.mean[2], self.mean[3])
            and torch.equal(self.std[2], self.std[3])
        )

    @torch.no_grad()
    def set(self, mean_4c: Tensor, std_4c: Tensor) -> None:
        """Rows: clean images, degraded images, clean h, degraded h."""
        self.mean.copy_(mean_4c)
        self.std.copy_(std_4c)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._found = None  # a place that is left may be taken again by other values
        super()._load_from_state_dict(*args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DomainStatistics:
        self._found = None
        return super()._apply(fn, recurse)

    def to_clean(self, degraded_bchw: Tensor) -> Tensor:
        """Degraded images with the clean set's statistics."""
        return self._map(degraded_bchw, 1, 0).clamp(0, 1) if self.active else degraded_bchw

    def to_clean_h(self, h_bchw: Tensor) -> Tensor:
        """The same for h of degraded images."""
        return self._map(h_bchw, 3, 2).clamp(0, 1) if self.active else h_bchw

    def to_degraded(self, image_bchw: Tensor) -> Tensor:
        """Images out of the flow with the degraded set's statistics."""
        return self._map(image_bchw, 0, 1) if self.active else image_bchw

    def _map(self, x_bchw: Tensor, source: int, target: int) -> Tensor:
        mean, std = self.mean[..., None, None], self.std[..., None, None]
        return (x_bchw - mean[source]) / std[source] * std[target] + mean[target]
