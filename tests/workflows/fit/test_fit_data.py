"""What a fit finds in two folders: each real file once, copies on one side, names of any bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.training.domains import Domains
from deflow_cli.workflows.fit.data import open_domains
from tests.listening import Listener
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
