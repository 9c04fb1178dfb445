"""Folders of small photographs, clean ones and noisy ones, and runs of a second or two on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deflow_cli.data.photos import packaged_photos
from deflow_cli.presets.methods import fit_method
from deflow_cli.workflows.translation.run import TranslationRequest, TranslationResult, fit_translation

SIGMA = 12.0  # grey levels, of the noisy photographs
SIDE = 160  # px of the photographs' middles
FAST = {
    "dsgan": ("dsgan.patch_size=32", "dsgan.channels=8", "dsgan.blocks=1", "dsgan.discriminator_channels=4"),
    "dasr": ("dasr.patch_size=32", "dasr.channels=4", "dasr.blocks=1", "dasr.discriminator_channels=4"),
    "cyclegan": (
        "cyclegan.patch_size=32",
        "cyclegan.channels=4",
        "cyclegan.blocks=1",
        "cyclegan.discriminator_channels=4",
        "cyclegan.history=3",
    ),
}


def make_folders(root: Path, count: int = 5) -> tuple[Path, Path]:
    """Middles of packaged photographs, and of others with white noise."""
    halves = packaged_photos()
    for name, files in zip(("clean", "noisy"), halves, strict=True):
        (root / name).mkdir()
        for number, file in enumerate(files[:count]):
            pixels = np.asarray(Image.open(file).convert("RGB"))
            top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
            middle = pixels[top : top + SIDE, left : left + SIDE].astype(float)
            if name == "noisy":
                middle = middle + np.random.default_rng(number).normal(0, SIGMA, middle.shape)
            Image.fromarray(np.clip(middle.round(), 0, 255).astype(np.uint8)).save(root / name / file.name)
    return root / "clean", root / "noisy"


def translate(
    method: str,
    folders: tuple[Path, Path],
    out: Path,
    *settings: str,
    iterations: int = 6,
    reporter: Any = None,
    **options: Any,
) -> TranslationResult:
    """A run with small networks."""
    chosen = fit_method(method)
    common = [f"fit.iterations={iterations}", "fit.time_budget=0", "fit.batch_size=2", "fit.log_every=2"]
    if "perceptual" in chosen.options:
        common.append(f"{method}.features=none")
    config = chosen.presets.apply_overrides(
        chosen.presets.load("tiny"), [*common, "fit.report=false", *FAST[method], *settings]
    )
    request = TranslationRequest(chosen, *folders, out, config, device="cpu", **options)
    return fit_translation(request, reporter)


@pytest.fixture(scope="session")
def unpaired_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_folders(tmp_path_factory.mktemp("unpaired"))
