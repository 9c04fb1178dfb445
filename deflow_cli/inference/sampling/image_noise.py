"""Image noise: the random fields of one image, by absolute position."""

from __future__ import annotations

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.inference.positional_noise import PositionalNoise, stable_generator
from deflow_cli.models.deflow.grain import KERNEL_SIDE


class ImageNoise:
    """All random fields of one image, by absolute position, drawn on the device that is asked for.

    The noise on h and the dequantisation depend on the image (``key``) alone: every sample, and every seed,
    shares them, so that temperature 0 has nothing random left. The shift's noise depends on ``seed`` too.
    """

    def __init__(self, seed: int, key: str) -> None:
        self._image = PositionalNoise(0, key)
        self._shift = PositionalNoise(seed, key)

    def h(self, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Standard normals at h's resolution."""
        return self._image.normal("h", channels, *_place(window), device)

    def dequantisation(self, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Uniforms in [-0.5, 0.5) at the image's resolution."""
        return self._image.uniform("dequantisation", channels, *_place(window), device)

    def latent(
        self, index: int, sample: int, channels: int, window: Window, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Standard normals e of one latent of one sample, at the latent's resolution."""
        return self._shift.normal(f"latent {index} sample {sample}", channels, *_place(window), device)

    def guide(self, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """Standard normals at the resolution of the grain's guide: 1 H W."""
        return self._image.normal("guide", 1, *_place(window), device)[0]

    def grain(self, sample: int, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        """White noise of one sample's stationary pattern, and ``KERNEL_SIDE`` - 1 more for its filter."""
        top, left, height, width = _place(window)
        more = KERNEL_SIDE - 1
        return self._shift.normal(
            f"grain sample {sample}", channels, top, left, height + more, width + more, device
        )

    def level(self, sample: int) -> float:
        """A standard normal, of which the noise level of one sample follows."""
        return float(stable_generator(self._shift.seed, self._shift.key, "level", sample).standard_normal())


def _place(window: Window) -> tuple[int, int, int, int]:
    return window.top, window.left, window.height, window.width
