"""Fitting recovers a known truth: two sets of Gaussian images, a known shift and a known covariance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deflow_cli.checkpoints.format import load_model
from deflow_cli.config.fit import FitConfig, RunConfig
from deflow_cli.config.model import EncoderConfig, FlowConfig
from deflow_cli.data.images.files import Image, write_image
from deflow_cli.workflows.fit.previews import sample_patches
from deflow_cli.workflows.fit.run import FitRequest, fit

SHIFT = np.array([0.06, -0.05, 0.08])
COVARIANCE = np.array([[0.0060, 0.0030, 0.0010], [0.0030, 0.0050, -0.0015], [0.0010, -0.0015, 0.0040]])
SIDE = 96


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """24 images a side: N(0.5, 0.08^2) per pixel, and the same plus the known shift."""
    root = tmp_path_factory.mktemp("gaussian")
    rng = np.random.default_rng(0)
    for name, shifted in (("clean", False), ("noisy", True)):
        (root / name).mkdir()
        for index in range(24):
            x = 0.5 + 0.08 * rng.standard_normal((SIDE, SIDE, 3))
            if shifted:
                x = x + rng.multivariate_normal(SHIFT, COVARIANCE, size=(SIDE, SIDE))
            pixels = np.clip(np.floor(x * 255 + 0.5), 0, 255).astype(np.uint8)
            write_image(root / name / f"{index:03d}.png", Image(pixels))
    return root / "clean", root / "noisy"


def config(**fit_options: object) -> RunConfig:
    """A flow of one level without conditioning, fitted in seconds."""
    flow = FlowConfig(
        levels=1,
        steps=2,
        transition_steps=1,
        hidden_channels=8,
        splits="none",
        scale="bounded",
        scale_bound=0.1,
        conditioning="none",
        downsample=2,
        shift="correlated",
        quantization_levels=256,
    )
    options: dict[str, object] = {
        "iterations": 300,
        "batch_size": 16,
        "patch_size": 32,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "channel_statistics": "no",
        "validate_every": 1000,
        "preview_every": 1000,
        "checkpoint_every": 1000,
    }
    encoder = EncoderConfig(channels=4, growth_channels=4, blocks=1, stacked_blocks=(0,))
    return RunConfig(flow, encoder, FitConfig(**(options | fit_options)))  # type: ignore[arg-type]


BY_MOMENTS = {"start": "moments", "shift_update": "moments", "coupling_rate": 0.0}
BY_LIKELIHOOD = {
    "start": "constant",
    "shift_update": "gradient",
    "coupling_rate": 0.1,
    "shift_learning_rate": 0.02,
    "iterations": 900,
}


@pytest.mark.slow(seconds=29)
@pytest.mark.parametrize("options", [BY_MOMENTS, BY_LIKELIHOOD], ids=["moments", "likelihood"])
def test_known_shift_and_covariance_are_recovered(
    folders: tuple[Path, Path], tmp_path: Path, options: dict[str, object]
) -> None:
    """Slow couplings: the truth is an affine flow, and free ones take long to come back to it."""
    result = fit(FitRequest(*folders, tmp_path / "run", config(**options), device="cpu"))
    model, _ = load_model(result.model_path)
    clean = torch.from_numpy(
        np.clip(0.5 + 0.08 * np.random.default_rng(1).standard_normal((16, 3, SIDE, SIDE)), 0, 1)
    ).float()
    with torch.no_grad():
        added = sample_patches(model, clean, torch.Generator().manual_seed(2), 1.0) - clean
    flat = added.transpose(0, 1).flatten(1).double()
    mean, covariance = flat.mean(1).numpy(), torch.cov(flat).numpy()
    assert np.linalg.norm(mean - SHIFT) < 0.05 * np.linalg.norm(SHIFT)
    assert np.linalg.norm(covariance - COVARIANCE) < 0.05 * np.linalg.norm(COVARIANCE)


def test_published_start_learns_no_randomness(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """M = 0 is a stationary point: fitted from there, the spread stays exactly zero."""
    settings = config(start="zero", iterations=20, shift_update="gradient")
    result = fit(FitRequest(*folders, tmp_path / "run", settings, device="cpu"))
    model, _ = load_model(result.model_path)
    assert all(not bool(latent.root.any()) for latent in model.prior.shared())
    assert float(model.prior.shared()[0].mean.detach().abs().max()) > 0
