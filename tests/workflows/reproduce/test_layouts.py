"""Layouts: both ways in which archives are unpacked, what is missing, and sides that are swapped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from deflow_cli.data.images.files import Image, write_image
from deflow_cli.errors import DataError
from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.layouts import find_layout, warn_of_swapped_sides


def lay_out(root: Path, folders: dict[str, list[str]]) -> Path:
    """Empty pictures."""
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).touch()
    return root


AIM = {
    "train-noisy-images": ["000001.png", "000002.png"],
    "train-clean-images": ["0001.png"],
    "valid-input-noisy": ["0801.png"],
    "valid-gt-clean": ["0801.png"],
}


@pytest.mark.parametrize("inside", ["", "{name}/", "1x/"])
@pytest.mark.parametrize("above", ["", "AIM-RWSR/"])
def test_archives_with_and_without_their_folder(tmp_path: Path, inside: str, above: str) -> None:
    folders = {f"{above}{name}/{inside.format(name=name)}": files for name, files in AIM.items()}
    layout = find_layout(lay_out(tmp_path, folders), EXPERIMENTS["aim"])
    assert layout.missing == ()
    counts = {role: len(part.images) for role, part in layout.parts.items()}
    assert counts == {"noisy": 2, "clean": 1, "valid_input": 1, "valid_truth": 1}
    assert layout.parts["noisy"].pixels == 0
    assert "2 images (000001.png to 000002.png), sizes unknown" in layout.parts["noisy"].text


def test_names_of_the_challenge_and_of_div2k(tmp_path: Path) -> None:
    folders = {
        "TrainingSource": ["1.png"],
        "DIV2K_train_HR": ["0001.png"],
        "ValidationSource": ["0801.png"],
        "DIV2K_valid_HR": ["0801.png"],
    }
    assert find_layout(lay_out(tmp_path, folders), EXPERIMENTS["aim"]).missing == ()


def test_tracks_of_ntire(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "Corrupted-tr-x": ["Flickr2K_000058.png"],
            "Corrupted-tr-y": ["0001.png"],
            "Corrupted-va-x": ["0801.png"],
            "track1-valid-gt": ["0801.png"],
            "DPEDiphone-tr-x/DPEDiphone-tr-x": ["1.jpg"],
            "DPEDiphone-va": ["2.png"],
        },
    )
    for name in ("ntire", "dped"):
        assert find_layout(tmp_path, EXPERIMENTS[name]).missing == ()


def test_scales_beside_the_originals_are_not_taken_for_originals(tmp_path: Path) -> None:
    lay_out(tmp_path, AIM | {"train-noisy-images/1x": ["a.png"], "train-noisy-images/8x": ["a.png"]})
    part = find_layout(tmp_path, EXPERIMENTS["aim"]).parts["noisy"]
    assert [path.parent.name for path in part.images] == ["1x"]


def test_every_missing_part_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, {"train-clean-images": ["0001.png"], "valid-input-noisy": []})
    layout = find_layout(tmp_path, EXPERIMENTS["aim"])
    assert len(layout.missing) == 3
    with pytest.raises(DataError) as refused:
        layout.require()
    for name in ("train-noisy-images or TrainingSource", "valid-input-noisy", "valid-gt-clean"):
        assert name in str(refused.value)
    with pytest.raises(DataError, match="no such folder"):
        find_layout(tmp_path / "nowhere", EXPERIMENTS["aim"])


def test_inputs_without_truth_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path, AIM | {"valid-input-noisy": ["0801.png", "0802.png"]})
    [missing] = find_layout(tmp_path, EXPERIMENTS["aim"]).missing
    assert "lacks the clean images of 1 inputs: 0802" in missing


def test_fingerprint_is_of_names_and_contents(aim_data: Path, tmp_path: Path) -> None:
    first = find_layout(aim_data, EXPERIMENTS["aim"]).parts["noisy"]
    copied = tmp_path / "elsewhere" / "train-noisy-images"
    shutil.copytree(first.folder, copied)
    lay_out(tmp_path / "elsewhere", {name: files for name, files in AIM.items() if "noisy-i" not in name})
    second = find_layout(tmp_path / "elsewhere", EXPERIMENTS["aim"]).parts["noisy"]
    assert second.fingerprint() == first.fingerprint()
    second.images[0].write_bytes(b"other")
    assert second.fingerprint() != first.fingerprint()


def test_swapped_sides_are_warned_of(aim_data: Path) -> None:
    parts = find_layout(aim_data, EXPERIMENTS["aim"]).parts
    clean, noisy = parts["clean"].images, parts["noisy"].images
    assert warn_of_swapped_sides(clean, noisy) == ""
    assert "swapped?" in warn_of_swapped_sides(noisy, clean)


def test_brightness_is_divided_out(tmp_path: Path) -> None:
    """Dark images of little noise have more of it, for their brightness, than bright ones of more."""
    random = np.random.default_rng(0)
    paths = []
    for name, level, noise in (("dark", 20, 2.0), ("bright", 200, 6.0)):
        path = tmp_path / f"{name}.png"
        pixels = level + noise * random.standard_normal((96, 96, 3))
        write_image(path, Image(pixels.clip(0, 255).astype(np.uint8)))
        paths.append(path)
    assert warn_of_swapped_sides(paths[:1], paths[1:])
    assert not warn_of_swapped_sides(paths[1:], paths[:1])
