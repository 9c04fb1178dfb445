"""Pixels: samples of one image as the integers that files hold, computed on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deflow_cli.arrays import Window
from deflow_cli.data.images.files import Image, quantised, to_pixels
from deflow_cli.inference.sampling.jobs import Job
from deflow_cli.inference.sampling.translator import Translator


def sample_pixels(
    translator: Translator, tensor: Tensor, job: Job, samples: Sequence[int], image: Image
) -> list[NDArray[Any]]:
    """The pixels of each sample, H x W x 3, integers of the image's bit depth."""
    if translator.device.type == "cuda":
        return translate_on_device(translator, tensor, job, samples, image)
    outputs = {sample: np.empty_like(image.pixels) for sample in samples}

    def write(sample: int, window: Window, piece: Tensor) -> None:
        outputs[sample][window.slices] = to_pixels(piece, image.bits)

    translator.translate(tensor, job, samples, write)
    return [outputs[sample] for sample in samples]


def translate_on_device(
    translator: Translator, tensor: Tensor, job: Job, samples: Sequence[int], image: Image
) -> list[NDArray[Any]]:
    """``sample_pixels`` with whole pictures on the device, which the host waits for once."""
    device, dtype = translator.device, torch.uint16 if image.bits == 16 else torch.uint8
    outputs = {sample: torch.empty(image.pixels.shape, dtype=dtype, device=device) for sample in samples}

    def write(sample: int, window: Window, piece: Tensor) -> None:
        outputs[sample][window.slices] = quantised(piece, image.bits)

    translator.translate(tensor, job, samples, write)
    pinned = device.type == "cuda"
    copies = []
    for sample in samples:
        copy = torch.empty(image.pixels.shape, dtype=dtype, pin_memory=pinned)
        copies.append(copy.copy_(outputs.pop(sample), non_blocking=pinned))
    if pinned:
        torch.cuda.current_stream(device).synchronize()
    return [copy.numpy() for copy in copies]
