"""Layerwise tiling: a generator over a large image, each layer in pieces; exact, in little memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deflow_cli.arrays import Window
from deflow_cli.layers.networks.resize import pad_to_multiple
from deflow_cli.models.esrgan.generator import RRDBNet

# Between two stages the whole feature map is kept, so that a piece needs no more around it than one stage
# reaches: 5 pixels for a dense block, where 23 blocks in one go need 350 (or 96, and are then not exact).
DENSE_REACH = 5  # trunk pixels: five 3x3 convolutions
TAIL_REACH = 3  # trunk pixels: a convolution, and as many at each doubled size as make less than two more
# Of 64, 128 and 256 pixels, 128 measured fastest on one core (256 x 256 in 13.3 CPU-seconds, the whole in one
# go in 16.5), since a piece's tensors stay in the caches. On CUDA larger ones keep the device busy.
CPU_PIECE = 128  # trunk pixels
CUDA_PIECE = 512
SMALLEST_PIECE = 16


class Graphs(Protocol):
    """Calls a function of tensors, replaying CUDA graphs of it; results last until the next call."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]: ...

    def clear(self) -> None:
        """Give the graphs' memory back."""


MakeGraphs = Callable[[Callable[..., Sequence[Tensor]]], Graphs]
"""Makes graphs of a function: :class:`deflow_cli.runtime.cuda_graphs.GraphCache` does."""


class LayerwiseGenerator:
    """Computes what ``model(images)`` computes, up to rounding.

    The residual sum over the blocks stays float32; with ``dtype`` the convolutions compute in it, except the
    last, whose output would else come in steps of half a grey level. piece: side in trunk pixels; None: by
    device. Holds the model in channels-last order, which is faster on CPUs and on CUDA. graphs: on CUDA
    images of a single piece, which keep the device less busy than the host, are computed by CUDA graphs that
    this makes; None: no graphs.
    """

    def __init__(
        self,
        model: RRDBNet,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        piece: int | None = None,
        graphs: MakeGraphs | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        self.config = model.config
        self.piece = piece or (CUDA_PIECE if self.device.type == "cuda" else CPU_PIECE)
        self._last = copy.deepcopy(model.conv_last).to(self.device).to(memory_format=torch.channels_last)
        self._model = model.to(self.device, self.dtype).eval()
        self._model = self._model.to(memory_format=torch.channels_last)
        self._graphs = None
        if graphs is not None and self.device.type == "cuda":
            self._graphs = graphs(lambda pixels: [self._computed(pixels)])

    def clear_graphs(self) -> None:
        """Give the memory of recorded graphs back."""
        if self._graphs is not None:
            self._graphs.clear()

    @torch.inference_mode()
    def __call__(self, images_bchw: Tensor, tell: Callable[[float], None] = lambda share: None) -> Tensor:
        """B x C x H x W in [0, 1] to float32 B x C x scale H x scale W on the device, unclamped.

        tell: takes the share of the work that is done, after each block.
        """
        height, width = (side * self.config.scale for side in images_bchw.shape[-2:])
        padded = pad_to_multiple(images_bchw.to(self.device), self.config.unshuffle_factor)
        pixels = F.pixel_unshuffle(padded, self.config.unshuffle_factor)
        pixels = pixels.to(self.dtype, memory_format=torch.channels_last)
        if self._graphs is not None and max(pixels.shape[-2:]) <= self.piece:
            result = self._graphs(pixels)[0].clone()  # which the next call overwrites
            tell(self.config.blocks / (self.config.blocks + 2))
        else:
            result = self._computed(pixels, tell)
        return result[..., :height, :width]

    def _computed(self, pixels: Tensor, tell: Callable[[float], None] = lambda share: None) -> Tensor:
        """The picture of unshuffled pixels, with the padding's part."""
        x = self._model.conv_first(pixels).float()
        for index, block in enumerate(self._model.body):
            inner = x.to(self.dtype)
            for dense in block.children():
                inner = self._in_pieces(dense, inner)
            x.add_(inner, alpha=0.2)
            tell((index + 1) / (self.config.blocks + 2))  # the tail takes about as long as two blocks
        return self._tail(pixels, x.to(self.dtype))

    def _in_pieces(self, module: nn.Module, x_bchw: Tensor) -> Tensor:
        height, width = x_bchw.shape[-2:]
        windows = self._windows(height, width, self.piece)
        if len(windows) == 1:
            return cast(Tensor, module(x_bchw))
        result = torch.empty_like(x_bchw)
        for window in windows:
            seen = window.grown(DENSE_REACH, height, width)
            result[(..., *window.slices)] = module(x_bchw[(..., *seen.slices)])[(..., *window.within(seen))]
        return result

    def _tail(self, pixels: Tensor, body: Tensor) -> Tensor:
        """From the last block to the picture."""
        batch, _, height, width = body.shape
        zoom = 2**self.config.doublings
        windows = self._windows(height, width, max(self.piece // 2, 8))
        shape = (batch, self.config.image_channels, height * zoom, width * zoom)
        result = torch.empty(shape, device=self.device)
        for window in windows:
            seen = window.grown(TAIL_REACH, height, width)
            picture = self._picture(pixels[(..., *seen.slices)], body[(..., *seen.slices)])
            shown, around = zoomed(window, zoom), zoomed(seen, zoom)
            result[(..., *shown.slices)] = picture[(..., *shown.within(around))]
        return result

    def _picture(self, pixels: Tensor, body: Tensor) -> Tensor:
        x = self._model.conv_first(pixels) + self._model.conv_body(body)
        for index in range(1, self.config.doublings + 1):
            conv = self._model.get_submodule(f"conv_up{index}")
            x = F.leaky_relu_(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return cast(Tensor, self._last(F.leaky_relu_(self._model.conv_hr(x), 0.2).float()))

    @staticmethod
    def _windows(height: int, width: int, side: int) -> Sequence[Window]:
        """Pieces of nearly equal sides, since the last of 300 in steps of 256 would be mostly overlap."""
        rows, columns = -(-height // side), -(-width // side)
        return [
            Window(top, left, bottom - top, right - left)
            for top, bottom in _cuts(height, rows)
            for left, right in _cuts(width, columns)
        ]


def zoomed(window: Window, factor: int) -> Window:
    """The same rectangle at ``factor`` times the resolution."""
    return Window(*(factor * side for side in (window.top, window.left, window.height, window.width)))


def _cuts(size: int, count: int) -> list[tuple[int, int]]:
    edges = [size * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))
