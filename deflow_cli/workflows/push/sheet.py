"""Sheet: what a model does, on photographs that come with deflow, so that no picture of the user is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deflow_cli.arrays import Pixels
from deflow_cli.checkpoints.restorer import RestoringNetwork
from deflow_cli.data.images.files import read_rgb8, to_pixels, to_tensor
from deflow_cli.data.images.resize import rescale
from deflow_cli.data.photos import packaged_photos
from deflow_cli.degraders.base import Draw
from deflow_cli.degraders.flow.degrader import FlowDegrader
from deflow_cli.degraders.translator.tiled import ImageTranslator
from deflow_cli.inference.restoring import Restorer
from deflow_cli.inference.super_resolving import SuperResolver
from deflow_cli.models.srflow.model import SRFlow
from deflow_cli.models.translation.generators import Generator
from deflow_cli.reports.contact_sheet import contact_sheet, residual_view

_ROWS, _SIDE = 3, 128
_LARGEST_SIDE = 288  # px, of which every packaged photograph has a crop
_TEMPERATURES = (0.5, 1.0, 1.0)  # of the samples beside each photograph
_KEY = "sheet"


def degrader_sheet(degrader: FlowDegrader) -> Pixels:
    """Photographs, and samples of each at half and full strength."""
    rows = []
    for number, clean in enumerate(_photographs(_SIDE)):
        draws = [Draw(sample, f"{_KEY} {number}", 0, heat) for sample, heat in enumerate(_TEMPERATURES)]
        samples = degrader.degrade(to_tensor(clean).expand(len(draws), -1, -1, -1), draws)
        rows.append([clean, *(to_pixels(sample[None]) for sample in samples)])
    return contact_sheet(rows, ["clean", "at 0.5", "at 1", "at 1, again"])


def translator_sheet(generator: Generator) -> Pixels:
    """Photographs, made small where the network makes them small, its answers, and what it changes."""
    scale = generator.scale
    side = min(_SIDE * scale, _LARGEST_SIDE)
    translator = ImageTranslator(generator)
    rows = []
    for clean in _photographs(side):
        small = _reduced(clean, side // scale) if scale > 1 else clean
        degraded = to_pixels(translator(to_tensor(clean)))
        change = (degraded.astype(np.float32) - small.astype(np.float32)) / 255
        rows.append([small, degraded, residual_view(change)])
    labels = [f"clean, 1/{scale}" if scale > 1 else "clean", "degraded", "change x8"]
    return contact_sheet(rows, labels, scale=-(-_SIDE // (side // scale)))


def restorer_sheet(model: RestoringNetwork) -> Pixels:
    """Photographs made small by MATLAB's bicubic, enlarged by bicubic and restored, and as they were."""
    scale = model.scale
    small_side = max(16, _SIDE // scale)
    network = SuperResolver(model) if isinstance(model, SRFlow) else Restorer(model)
    rows = []
    for clean in _photographs(small_side * scale):
        small = _reduced(clean, small_side)
        enlarged = _reduced(small, small_side * scale)
        with torch.no_grad():
            restored = network(to_tensor(small))
        rows.append([enlarged, to_pixels(restored), clean])
    return contact_sheet(rows, [f"bicubic x{scale}", f"restored x{scale}", "as it was"])


def _reduced(pixels: Pixels, side: int) -> Pixels:
    """The picture with sides of so many pixels."""
    values = rescale(pixels.astype("float32") / 255, side, side)
    return to_pixels(torch.from_numpy(values).permute(2, 0, 1)[None])


def _photographs(side: int) -> Sequence[Pixels]:
    found = []
    for path in packaged_photos()[0][:: len(packaged_photos()[0]) // _ROWS][:_ROWS]:
        pixels = read_rgb8(path)
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        found.append(pixels[top : top + side, left : left + side])
    return found
