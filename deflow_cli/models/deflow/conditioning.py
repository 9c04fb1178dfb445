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

    saturation: what degraded images keep of the differences between channels, beside their contrasts. With
    one, S, that leaves the mean of the channels as it is, x' = S^-1 (x - m_y) / s_y * s_x + m_x.
    """

    mean: Tensor
    std: Tensor
    saturation: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        # rows: clean, degraded, clean h, degraded h
        self.register_buffer("mean", torch.zeros(4, channels))
        self.register_buffer("std", torch.ones(4, channels))
        self.register_buffer("saturation", torch.ones(()))
        self._found: tuple[tuple[Hashable, ...], bool] | None = None  # what ``active`` found, and of what

    @property
    def active(self) -> bool:
        """Whether the two domains' statistics differ at all.

        The device is asked once after each change, not at every step of a training.
        """
        buffers = (self.mean, self.std, self.saturation)
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
            and float(self.saturation) == 1.0
        )

    @torch.no_grad()
    def set(self, mean_4c: Tensor, std_4c: Tensor, saturation: float = 1.0) -> None:
        """Rows: clean images, degraded images, clean h, degraded h."""
        self.mean.copy_(mean_4c)
        self.std.copy_(std_4c)
        self.saturation.fill_(saturation)

    @property
    def log_det(self) -> Tensor:
        """log|det| of the map from degraded images to the clean statistics, for each pixel; a scalar."""
        channels = self.mean.shape[1]
        return (self.std[0] / self.std[1]).log().sum() - (channels - 1) * self.saturation.log()

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self._found = None  # a place that is left may be taken again by other values
        add_saturation(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DomainStatistics:
        self._found = None
        return super()._apply(fn, recurse)

    def to_clean(self, degraded_bchw: Tensor) -> Tensor:
        """Degraded images with the clean set's statistics."""
        return self._to_clean(degraded_bchw, 0).clamp(0, 1) if self.active else degraded_bchw

    def to_clean_h(self, h_bchw: Tensor) -> Tensor:
        """The same for h of degraded images."""
        return self._to_clean(h_bchw, 2).clamp(0, 1) if self.active else h_bchw

    def to_degraded(self, image_bchw: Tensor) -> Tensor:
        """Images out of the flow with the degraded set's statistics."""
        if not self.active:
            return image_bchw
        mean, std = self.mean[..., None, None], self.std[..., None, None]
        return _saturated((image_bchw - mean[0]) / std[0] * std[1], self.saturation) + mean[1]

    def _to_clean(self, x_bchw: Tensor, row: int) -> Tensor:
        """By the rows of clean and degraded images, or of their h."""
        mean, std = self.mean[..., None, None], self.std[..., None, None]
        centred = _saturated(x_bchw - mean[row + 1], 1 / self.saturation)
        return centred / std[row + 1] * std[row] + mean[row]


def _saturated(x_bchw: Tensor, saturation: Tensor) -> Tensor:
    """Differences of the channels times a factor, their mean kept."""
    grey = x_bchw.mean(1, keepdim=True)
    return grey + saturation * (x_bchw - grey)


def add_saturation(tensors: dict[str, Tensor], prefix: str) -> None:
    """Give tensors of statistics from before there was a saturation the one that changes nothing."""
    mean = tensors.get(f"{prefix}mean")
    if mean is not None:
        tensors.setdefault(f"{prefix}saturation", torch.ones((), dtype=mean.dtype, device=mean.device))
