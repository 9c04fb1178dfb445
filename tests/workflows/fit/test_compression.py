"""Compression: found in the noisy folder, recorded unless the clean folder has it too, given to samples."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.checkpoints.format import load_model
from deflow_cli.data.images.files import read_image, read_rgb8
from deflow_cli.data.images.listing import list_images
from deflow_cli.data.jpeg_history import FolderCompression, JpegSetting, compress, read_history
from deflow_cli.data.photos import packaged_photos
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.degrade import DegradeRequest, degrade
from deflow_cli.workflows.fit import run as workflow
from deflow_cli.workflows.fit.closed_form import SampleSizes
from deflow_cli.workflows.fit.compression import choose_compression
from tests.listening import Listener
from tests.small import small_run

FitRequest = partial(workflow.FitRequest, samples=SampleSizes(start=8, moments=40, final=40, held_out=4))
# cat-wide.png had been a JPEG file before it was packaged.
PHOTOS = [
    read_rgb8(path)[:192, :192] for half in packaged_photos() for path in half if path.stem != "cat-wide"
]
SETTINGS = ["flow.steps=1", "fit.iterations=2", "fit.channel_statistics=no", "fit.report=false"]


def folder(path: Path, quality: int | None = None, form: str = "png", subsampling: str = "4:2:0") -> Path:
    """Photographs with some noise, half of them for each of the two folders; as JPEG files or decoded."""
    path.mkdir()
    rng = np.random.default_rng(len(path.name))
    for index, photo in enumerate(PHOTOS[len(path.name) % 2 :: 2][:8]):
        noisy = np.clip(photo + rng.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
        target = path / f"{index}.{form}"
        if form == "jpg":
            Pillow.fromarray(noisy).save(target, quality=quality or 75, subsampling=subsampling)
            continue
        if quality is not None:
            noisy = compress(noisy, JpegSetting.of_quality(quality, subsampling))
        Pillow.fromarray(noisy).save(target)
    return path


def chosen(clean: Path, noisy: Path) -> tuple[FolderCompression | None, list[str]]:
    listener = Listener()
    return choose_compression(list_images(clean), list_images(noisy), listener), listener.notes


@pytest.mark.parametrize("form", ["jpg", "png"])
def test_the_noisy_folder_is_read_by_headers_or_pixels(tmp_path: Path, form: str) -> None:
    found, notes = chosen(folder(tmp_path / "clean"), folder(tmp_path / "noisy!", 85, form))
    assert found is not None
    assert found.settings == ((JpegSetting.of_quality(85), 1.0),)
    count = found.examined
    assert notes == [
        f"noisy: {count} of {count} images are JPEGs of quality 85, 4:2:0: samples will be compressed alike"
    ]


def test_lossless_pictures_leave_no_record(tmp_path: Path) -> None:
    assert chosen(folder(tmp_path / "clean"), folder(tmp_path / "noisy!")) == (None, [])


def test_a_few_compressed_pictures_are_not_the_folder_s_kind(tmp_path: Path) -> None:
    noisy = folder(tmp_path / "noisy!")
    for path in list_images(noisy)[:2]:
        Pillow.fromarray(compress(read_rgb8(path), JpegSetting.of_quality(70))).save(path)
    assert chosen(folder(tmp_path / "clean"), noisy) == (None, [])


@pytest.mark.parametrize(
    ("quality", "subsampling", "recorded"),
    [
        (85, "4:2:0", False),
        (60, "4:2:0", False),
        (95, "4:2:0", True),
        (60, "4:4:4", True),
        (85, "4:2:2", True),
    ],
)
def test_a_clean_folder_that_has_it_too_leaves_no_record(
    tmp_path: Path, quality: int, subsampling: str, recorded: bool
) -> None:
    clean = folder(tmp_path / "clean", quality, "jpg", subsampling)
    found, notes = chosen(clean, folder(tmp_path / "noisy!", 85, "jpg"))
    assert (found is not None) == recorded
    assert notes[0].endswith(
        "samples will be compressed alike" if recorded else "clean ones alike: samples will not be compressed"
    )


def test_unreadable_pictures_are_left_out(tmp_path: Path) -> None:
    noisy = folder(tmp_path / "noisy!", 85, "jpg")
    (noisy / "0.jpg").write_bytes(b"no image")
    found, _ = chosen(folder(tmp_path / "clean"), noisy)
    assert found is not None
    assert found.examined == len(list_images(noisy)) - 1


def test_a_fit_records_it_and_samples_lie_on_the_lattice(tmp_path: Path) -> None:
    clean, noisy = folder(tmp_path / "clean"), folder(tmp_path / "noisy!", 75, "jpg")
    listener = Listener()
    workflow.fit(FitRequest(clean, noisy, tmp_path / "run", small_run(*SETTINGS), device="cpu"), listener)
    assert any("quality 75, 4:2:0: samples will be compressed alike" in note for note in listener.notes)
    _, facts = load_model(tmp_path / "run" / "model.safetensors")
    assert FolderCompression.from_dict(facts["compression"]).settings == ((JpegSetting.of_quality(75), 1.0),)
    degrade(DegradeRequest(clean, tmp_path / "out", model=tmp_path / "run" / "model.safetensors"), Silent())
    for path in list_images(tmp_path / "out"):
        history = read_history(read_image(path).pixels)
        assert history is not None
        assert history.phase == (0, 0)
        assert history.setting.quality == 75


def test_a_fit_that_is_told_not_to_look_records_nothing(tmp_path: Path) -> None:
    clean, noisy = folder(tmp_path / "clean"), folder(tmp_path / "noisy!", 75, "jpg")
    config = small_run(*SETTINGS, "fit.compression=no")
    workflow.fit(FitRequest(clean, noisy, tmp_path / "run", config, device="cpu"))
    assert "compression" not in load_model(tmp_path / "run" / "model.safetensors")[1]
