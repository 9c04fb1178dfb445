"""What a fit finds in two folders: each real file once, copies on one side, names of any bytes, fading."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.images.files import Image, read_rgb8, write_image
from deflow_cli.presets.reader import FIT
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.data import open_domains
from deflow_cli.workflows.fit.run import FitRequest, fit
from tests.listening import Listener
from tests.metrics.distances.generators import scene, to_pixels
from tests.small import small_run


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name in ("clean", "noisy"):
        for index in range(8):
            write_image(
                tmp_path / name / f"{index}.png", Image(rng.integers(0, 256, (64, 72, 3), dtype=np.uint8))
            )
    return tmp_path / "clean", tmp_path / "noisy"


def opened(folders: tuple[Path, Path]) -> tuple[Domains, list[str]]:
    listener = Listener()
    domains = open_domains(*folders, small_run("fit.held_out=0.25"), False, listener)
    return domains, listener.warnings


def test_links_inside_the_noisy_folder_add_nothing(folders: tuple[Path, Path]) -> None:
    before, _ = opened(folders)
    (folders[1] / "again").symlink_to(".")
    (folders[1] / "twin.png").symlink_to("3.png")
    os.link(folders[1] / "4.png", folders[1] / "hard.png")
    after, _ = opened(folders)
    assert after.facts == before.facts
    assert after.facts["noisy_images"] == 8
    assert after.held_noisy.paths == before.held_noisy.paths


def test_copies_are_said_and_never_on_both_sides(folders: tuple[Path, Path]) -> None:
    for index in range(8):
        shutil.copy(folders[1] / f"{index}.png", folders[1] / f"copy{index}.png")
    domains, warnings = opened(folders)
    assert warnings == [
        f"{folders[1]}: copies of other files (8): copy0.png (of 0.png), copy1.png (of 1.png), copy2.png"
        " (of 2.png) and 5 more; they stay on one side of the held-out split"
    ]
    train = {path.stem[-1] for path in domains.noisy.paths}
    held = {path.stem[-1] for path in domains.held_noisy.paths}
    assert not train & held
    assert held


def test_names_that_are_not_utf8(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        os.rename(folder / "5.png", os.fsencode(folder) + b"/caf\xe9.png")
    domains, warnings = opened(folders)
    assert warnings == []
    assert domains.facts["noisy_images"] == 8


def test_fading_is_found_and_given_to_samples(tmp_path: Path) -> None:
    """Contrast 0.8 and a lifted black, told from other scenes, are in a sample at temperature 0 too."""
    rng = np.random.default_rng(0)
    for seed in range(160):
        pixels = scene(seed)
        if seed % 2:
            pixels = 0.8 * pixels + 25 + rng.normal(0, 5, pixels.shape)
        write_image(
            tmp_path / ("noisy" if seed % 2 else "clean") / f"{seed:03}.png", Image(to_pixels(pixels))
        )
    settings = ("fit.iterations=2", "flow.steps=1", "fit.report=false", "flow.grain=none", "fit.whiten=false")
    listener = Listener()
    result = fit(
        FitRequest(
            tmp_path / "clean",
            tmp_path / "noisy",
            tmp_path / "run",
            small_run(*settings),
            device="cpu",
            samples=SampleSizes(start=8, moments=40, final=40, held_out=4),
        ),
        listener,
    )
    told = [note for note in listener.notes if note.startswith("channel statistics used: contrast 0.8")]
    assert len(told) == 1
    model, facts = load_model(result.model_path)
    assert facts["channel_statistics"] in told[0]
    np.testing.assert_allclose(model.statistics.std[1] / model.statistics.std[0], 0.8, atol=0.03)
    assert FIT.load(tmp_path / "run" / "config.toml").fit.channel_statistics == "auto"
    (tmp_path / "in").mkdir()
    os.link(tmp_path / "clean" / "000.png", tmp_path / "in" / "000.png")
    request = DegradeRequest(tmp_path / "in", tmp_path / "out", result.model_path, (0.0, 0.0), device="cpu")
    degrade(request, Listener())
    before = read_rgb8(tmp_path / "in" / "000.png").astype(float)
    after = read_rgb8(tmp_path / "out" / "000.png").astype(float)
    slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
    assert slope == pytest.approx(0.8, abs=0.05)
    assert offset == pytest.approx(25, abs=6)
