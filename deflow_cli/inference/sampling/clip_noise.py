"""Clip noise: noise of the frames of one clip, which share what belongs to the camera and not to a frame."""

from __future__ import annotations

import math
from pathlib import PurePosixPath

import torch
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.errors import ConfigError
from deflow_cli.inference.sampling.image_noise import ImageNoise


class ClipNoise(ImageNoise):
    """The random fields of one frame of a clip.

    All frames share the noise on h, the dequantisation and the noise level, so that what is not random about
    a degradation does not flicker. The shift's noise is drawn anew for each frame; with a correlation r it is
    sqrt(r) c + sqrt(1 - r) w of a pattern c that all frames share and one w for each frame. Any two frames
    are then correlated by r, whatever their distance and order, and a frame can be made alone. r = 1 is
    noise that stands still, as dust on a sensor.

    clip, frame: names that the randomness belongs to. Raises ConfigError unless 0 <= correlation <= 1.
    """

    def __init__(self, seed: int, clip: str, frame: str, correlation: float = 0.0) -> None:
        super().__init__(seed, clip)
        check_correlation(correlation)
        self._frame = ImageNoise(seed, frame)
        self._shared_weight, self._frame_weight = math.sqrt(correlation), math.sqrt(1 - correlation)

    def latent(
        self, index: int, sample: int, channels: int, window: Window, device: torch.device | str = "cpu"
    ) -> Tensor:
        if self._shared_weight == 0:
            return self._frame.latent(index, sample, channels, window, device)
        return self._mixed(
            super().latent(index, sample, channels, window, device),
            self._frame.latent(index, sample, channels, window, device),
        )

    def grain(self, sample: int, channels: int, window: Window, device: torch.device | str = "cpu") -> Tensor:
        if self._shared_weight == 0:
            return self._frame.grain(sample, channels, window, device)
        return self._mixed(
            super().grain(sample, channels, window, device),
            self._frame.grain(sample, channels, window, device),
        )

    def _mixed(self, shared: Tensor, of_frame: Tensor) -> Tensor:
        """Standard normals, as both are."""
        return self._shared_weight * shared + self._frame_weight * of_frame


def check_correlation(correlation: float) -> None:
    """Raise ConfigError for a correlation of frames that cannot be one."""
    if not 0 <= correlation <= 1:
        raise ConfigError(
            f"the noise of two frames cannot be correlated by {correlation:g}", next_step="use 0 to 1"
        )


def clip_of(key: str) -> str:
    """The clip that a frame belongs to: the frames of a folder are one clip. key: the frame's posix path.

    >>> clip_of("a/0001.png") == clip_of("a/0002.png") != clip_of("b/0001.png")
    True
    """
    return f"clip {PurePosixPath(key).parent}"
