"""Pictures, a model, noisy pictures and kernels for make-pairs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import save_model
from deflow_cli.data.images.files import to_pixels
from tests.inference.small import small_model, smooth_images
from tests.workflows.pairs.asking import NAMES, save


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, small_model(), {"step": 1})
    return path


@pytest.fixture
def hr(tmp_path):
    """Four pictures of odd sizes, some in a sub-folder; with 0.1 of texture none is doubtful."""
    folder = tmp_path / "photos"
    for index, name in enumerate(NAMES):
        image = smooth_images(1, 69 + index, 82 - index, seed=index)
        grain = 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(index))
        save(folder / name, to_pixels(image + grain))
    return folder


@pytest.fixture
def noisy(tmp_path):
    """Flat pictures with noise of 6 grey levels, and one with structure."""
    rng = np.random.default_rng(1)
    for index in range(4):
        grain = rng.normal(0, 6, (90, 90, 3)) + 20 * index + 90
        save(tmp_path / "noisy" / f"{index}.png", np.clip(np.rint(grain), 0, 255).astype(np.uint8))
    return tmp_path / "noisy"


@pytest.fixture
def kernels(tmp_path):
    (tmp_path / "kernels").mkdir()
    for index, sigma in enumerate((0.7, 1.6)):
        line = cv2.getGaussianKernel(9, sigma)
        np.save(tmp_path / "kernels" / f"{index}.npy", line @ line.T)
    return tmp_path / "kernels"
