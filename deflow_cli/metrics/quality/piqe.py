"""PIQE: the share of blockiness and noise in a picture's active blocks, from the picture alone.

Venkatanath et al., "Blind image quality evaluation using perception based features", 2015; follows MATLAB's
``piqe``, whose published values it reproduces to their two decimals. No parameters are learned.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from deflow_cli.errors import ConfigError
from deflow_cli.metrics.base import Metric, Score
from deflow_cli.metrics.nss import check_images, cut_blocks, matlab_gray, mirror_index, mscn, one_by_one
from deflow_cli.metrics.options import ScorerOptions
from deflow_cli.metrics.registry import ScorerContext

Padding = Literal["replicate", "symmetric"]
PIQE_BLOCK = 16
ACTIVE_VARIANCE = 0.1
RUN = 6
"""Samples of a block's border line that make a visible edge where they hardly vary."""
RUN_STD = 0.1


def _pad_to_blocks(gray_bhw: Tensor, padding: Padding) -> Tensor:
    """Extend the bottom and the right to whole blocks."""
    for dim in (-2, -1):
        size = gray_bhw.shape[dim]
        whole = -(-size // PIQE_BLOCK) * PIQE_BLOCK
        if padding == "replicate":
            index = torch.arange(whole, device=gray_bhw.device).clamp(max=size - 1)
        else:
            index = mirror_index(0, whole, size, gray_bhw.device)
        gray_bhw = gray_bhw.index_select(dim, index)
    return gray_bhw


def _variance(blocks: Tensor) -> Tensor:
    """Sample variance of each B x N x height x width block, faster than torch's own."""
    values = blocks.flatten(2)
    centred = values - values.mean(-1, keepdim=True)
    return torch.linalg.vector_norm(centred, dim=-1).square() / (values.shape[-1] - 1)


def _impaired(blocks: Tensor) -> Tensor:
    """B x N: is there a run of six nearly equal samples along one of the four border lines?"""
    lines = torch.stack((blocks[..., 0, :], blocks[..., -1, :], blocks[..., 0], blocks[..., -1]), dim=-2)
    runs = [lines[..., start : PIQE_BLOCK - RUN + 1 + start] for start in range(RUN)]
    mean = sum(runs[1:], start=runs[0]) / RUN
    square = sum(((run - mean).square_() for run in runs[1:]), start=(runs[0] - mean).square_())
    return ((square / (RUN - 1)).sqrt_() < RUN_STD).flatten(2).any(-1)


def _noisy(blocks: Tensor, std: Tensor) -> Tensor:
    """B x N: is a block's spread more than twice the contrast between it and its two central columns?

    The surround is what MATLAB's code leaves of the block: deleting column 8 and then column 9 of what
    remains deletes columns 8 and 10 (counted from one); deleting 8 and 9 misses the published values.
    """
    centre = blocks[..., 7:9]
    surround = torch.cat((blocks[..., :7], blocks[..., 8:9], blocks[..., 10:]), dim=-1)
    ratio = (_variance(centre).sqrt() / _variance(surround).sqrt()).nan_to_num(nan=0.0, posinf=torch.inf)
    contrast = (std - ratio).abs() / torch.maximum(std, ratio)
    return std > 2 * contrast


def piqe(images_bchw: Tensor, padding: Padding = "replicate") -> Tensor:
    """PIQE of uint8 B x 3 x H x W images: float64 B, higher is worse; 100 where no block is active."""
    normalised, _ = mscn(_pad_to_blocks(matlab_gray(images_bchw), padding))
    blocks = cut_blocks(normalised, PIQE_BLOCK)
    variance = _variance(blocks)
    active = variance > ACTIVE_VARIANCE
    distortion = _impaired(blocks) * (1 - variance) + _noisy(blocks, variance.sqrt()) * variance
    total = torch.where(active, distortion, 0.0).sum(-1)
    return 100 * (total + 1) / (active.sum(-1) + 1)


class Piqe:
    """Scores with PIQE; higher is worse.

    padding: how the bottom and right are extended to whole 16x16 blocks. ``replicate`` is MATLAB's of
    2018; other ports use ``symmetric``. They differ only on sizes that 16 does not divide.
    """

    def __init__(self, padding: Padding = "replicate") -> None:
        if padding not in get_args(Padding):
            raise ConfigError(f"PIQE padding {padding!r} is unknown", next_step="use replicate or symmetric")
        self.padding = padding

    @property
    def metric(self) -> Metric:
        """See metrics.base.Metric."""
        variant = f"MATLAB's definition, MATLAB gray, 16x16 blocks, {self.padding} padding, no crop"
        return Metric("piqe", "PIQE", False, False, 2, variant)

    def __call__(self, images_bchw: Tensor, references_bchw: Tensor | None = None) -> list[Score]:
        """One score per uint8 image; references are ignored. A uniform image has 100, by definition."""
        check_images(images_bchw)
        return [
            Score(value) for value in one_by_one(partial(piqe, padding=self.padding), images_bchw).tolist()
        ]


def build_piqe(options: ScorerOptions, context: ScorerContext) -> Piqe:
    """PIQE, which has no options."""
    return Piqe()
