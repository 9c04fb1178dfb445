"""wtp_dataset_destroyer: what the adapter file that ``deflow export wtp`` writes calls for every image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deflow_cli.errors import ConfigError, ShapeError
from deflow_cli.integrations.strength import Strength

_KNOWN = ("type", "model", "temperature", "probability", "seed", "device")


class WtpDegradation:
    """A degradation of wtp_dataset_destroyer: made of a block of its configuration, called from many threads.

    model: what the block does not name. block: ``type``, ``temperature`` (a number, or lowest and highest;
    1), ``probability`` (1), ``seed`` (0), ``device`` (cpu), ``model``. What an image becomes is a function of
    the seed and its pixels, whichever thread it is in and in whatever order; NumPy's global generator is not
    touched. Raises ConfigError for an unknown key or value.
    """

    def __init__(self, model: str | Path | None, block: Mapping[str, object]) -> None:
        unknown = [key for key in block if key not in _KNOWN]
        if unknown:
            raise ConfigError(
                f"degradation deflow: {unknown[0]} is unknown", next_step=f"use {', '.join(_KNOWN[1:])}"
            )
        given = {"model": model, "seed": 0} | {key: block[key] for key in _KNOWN[1:] if key in block}
        self.strength = Strength.of(**given)  # type: ignore[arg-type]

    def run(
        self, lq: NDArray[np.float32], hq: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The degraded ``lq`` and ``hq`` as it is; both H x W x 3, or H x W for grey, RGB in [0, 1].

        Neither array is written to. Raises ShapeError for another layout.
        """
        picture = lq[..., None] if lq.ndim == 2 else lq
        if picture.ndim != 3 or picture.shape[2] not in (1, 3):
            raise ShapeError(f"an image of shape {lq.shape}; expected H x W, or H x W x 3")
        values = torch.tensor(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)
        degraded = self.strength.degraded(values.clamp(0, 1).expand(3, -1, -1).contiguous())
        if picture.shape[2] == 1:
            degraded = degraded.mean(0, keepdim=True)
        result = degraded.permute(1, 2, 0).contiguous().numpy()
        return result.reshape(lq.shape), hq
