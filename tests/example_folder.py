"""Example folder: what the examples of the documentation find around them."""

from __future__ import annotations

from pathlib import Path

import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import Image, to_pixels, write_image
from tests.inference.small import small_model, smooth_images

COUNT, SIDE = 6, 64


def lay_out_examples(folder: Path) -> None:
    """Lay out ``clean/`` and ``noisy/``, pictures of different scenes, and a model in ``runs/camera/``."""
    for index in range(COUNT):
        write_image(folder / "clean" / f"{index}.png", Image(to_pixels(smooth_images(1, SIDE, SIDE, index))))
        noise = 0.05 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(index))
        noisy = smooth_images(1, SIDE, SIDE, seed=100 + index) + noise
        write_image(folder / "noisy" / f"{index}.png", Image(to_pixels(noisy)))
    save_model(folder / "runs" / "camera" / "model.safetensors", small_model(), {"step": 3})
