"""Restoring by an SRFlow: samples, sheet, consistency, depth and transparency, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, read_image, to_pixels, write_image
from deflow_cli.errors import ConfigError, DeflowError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.restore import RestoreRequest, restore
from deflow_cli.workflows.super_resolve import SpaceOptions
from tests.inference.small_srflow import images, started_srflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("space")
    save_srflow(root / "restorer.safetensors", started_srflow(), {})
    (root / "in").mkdir()
    for index, image in enumerate(images(3, 14, 18)):
        write_image(root / "in" / f"{index}.png", Image(to_pixels(image * 0.8 + 0.1)))
    return root


def run(folder: Path, target: Path, *, source: str = "in", model: str = "", **space):
    request = RestoreRequest(
        folder / source,
        target,
        model=folder / (model or "restorer.safetensors"),
        device="cpu",
        space=SpaceOptions(**space),
    )
    return restore(request, Silent())


def test_samples_of_each_image(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out", samples=3, temperature=0.9)
    assert not report.failed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{image}_s{sample:02d}.png" for image in range(3) for sample in (1, 2, 3)
    ]
    first = [read_image(tmp_path / "out" / f"0_s0{k}.png").pixels for k in (1, 2)]
    assert first[0].shape == (56, 72, 3)
    assert not np.array_equal(*first)
    assert report.lr_psnr is not None
    assert len(report.records[0].lr_psnr) == 3


def test_seeds_names_and_temperature_0(folder: Path, tmp_path: Path) -> None:
    for name, options in {
        "a": {},
        "b": {},
        "seed": {"seed": 1},
        "mild": {"temperature": 0.0},
        "mild-seed": {"temperature": 0.0, "seed": 1},
    }.items():
        run(folder, tmp_path / name, **options)
    pixels = {path.name: read_image(path / "0.png").pixels for path in tmp_path.iterdir()}
    assert np.array_equal(pixels["a"], pixels["b"])
    assert not np.array_equal(pixels["a"], pixels["seed"])
    assert np.array_equal(pixels["mild"], pixels["mild-seed"])


def test_consistent_samples_shrink_to_the_input(folder: Path, tmp_path: Path) -> None:
    plain, consistent = run(folder, tmp_path / "a"), run(folder, tmp_path / "b", consistent=True)
    assert consistent.lr_psnr > plain.lr_psnr + 3


@pytest.mark.parametrize("samples", [1, 2])
def test_a_sheet(folder: Path, tmp_path: Path, samples: int) -> None:
    run(folder, tmp_path / "out", samples=samples, sheet=tmp_path / "sheets" / "s.png")
    sheet = read_image(tmp_path / "sheets" / "s.png").pixels
    columns = 1 + (7 if samples == 1 else 2)
    assert sheet.shape[1] > columns * 72
    assert sheet.shape[0] > 3 * 56


def test_depth_transparency_and_outscale(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    deep = (images(1, 10, 12)[0].permute(1, 2, 0).numpy() * 65535).astype(np.uint16)
    write_image(tmp_path / "in" / "deep.png", Image(deep, alpha=np.full((10, 12), 40000, np.uint16)))
    request = RestoreRequest(
        tmp_path / "in", tmp_path / "out", folder / "restorer.safetensors", outscale=2.0, device="cpu"
    )
    assert not restore(request, Silent()).failed
    image = read_image(tmp_path / "out" / "deep.png")
    assert (image.pixels.shape, image.pixels.dtype) == ((20, 24, 3), np.uint16)
    assert image.alpha is not None
    assert np.abs(image.alpha.astype(int) - 40000).max() <= 1


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    save_restorer(folder / "esrgan.safetensors", RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    with pytest.raises(ConfigError, match="--samples is nothing to it"):
        run(folder, tmp_path / "out", model="esrgan.safetensors", samples=2)
    request = RestoreRequest(folder / "in", tmp_path / "o", folder / "restorer.safetensors", tta=True)
    with pytest.raises(ConfigError, match="--tta is nothing to an SRFlow"):
        restore(request, Silent())
    with pytest.raises(DeflowError, match="temperature 7"):
        SpaceOptions(temperature=7)
    with pytest.raises(ConfigError, match="--samples is 0"):
        SpaceOptions(samples=0)
    with pytest.raises(ConfigError, match="a sheet is a PNG"):
        SpaceOptions(sheet=Path("sheet.jpg"))


def test_frames_of_a_clip_share_their_latents(folder: Path, tmp_path: Path) -> None:
    pixels = to_pixels(images(1, 14, 18) * 0.8 + 0.1)
    for name in ("one/1.png", "one/2.png", "two/1.png"):
        write_image(tmp_path / "frames" / name, Image(pixels))
    request = RestoreRequest(
        tmp_path / "frames",
        tmp_path / "out",
        model=folder / "restorer.safetensors",
        device="cpu",
        space=SpaceOptions(temperature=0.9, clip=True),
    )
    assert not restore(request, Silent()).failed
    one, again, two = (
        read_image(tmp_path / "out" / name).pixels for name in ("one/1.png", "one/2.png", "two/1.png")
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("arch", ["esrgan", "srflow"])
def test_videos(folder: Path, tmp_path: Path, arch: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    pixels = to_pixels(images(1, 14, 18) * 0.8 + 0.1)
    with av.open(str(tmp_path / "in.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 14, 18, "bgr0"
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
            frame.pts = index
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    model = folder / "restorer.safetensors"
    if arch == "esrgan":
        model = tmp_path / "esrgan.safetensors"
        save_restorer(model, RRDBNet(RestorerConfig(scale=4, channels=8, blocks=1, growth_channels=4)), {})
    request = RestoreRequest(tmp_path / "in.mkv", tmp_path / "out", model=model, suffix="x4", device="cpu")
    report = restore(request, Silent())
    assert (report.records[0].width, report.records[0].height) == (72, 56)
    with av.open(str(tmp_path / "out/in_x4.mkv")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 2
    assert np.array_equal(*frames)
    write_image(tmp_path / "in.png", Image(pixels))
    if arch == "esrgan":
        still = RestoreRequest(tmp_path / "in.png", tmp_path / "out.png", model=model, device="cpu")
        restore(still, Silent())
        assert np.array_equal(read_image(tmp_path / "out.png").pixels, frames[0])
