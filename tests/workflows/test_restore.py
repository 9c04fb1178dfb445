"""Restore: files in, files out: depth, alpha, profiles and names carried, any scale, bad files told."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deflow_cli.checkpoints.esrgan.export import export_restorer
from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, read_image, to_pixels, to_tensor, write_image
from deflow_cli.data.images.resize import downsample, rescale
from deflow_cli.errors import CheckpointError, DataError
from deflow_cli.inference.layerwise_tiling import LayerwiseGenerator
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows import restore as workflow
from deflow_cli.workflows.restore import RestoreReport, RestoreRequest, restore
from tests.inference.small import smooth_images

ICC = b"\0\0\0\x80" + b"\0" * 124  # a profile's header alone: it is carried, not read


def network(scale: int = 4, **sizes: int) -> RRDBNet:
    """A tiny generator whose pictures lie within the gray levels, so that clamping hides nothing."""
    config = RestorerConfig(**{"scale": scale, "channels": 8, "blocks": 1, "growth_channels": 4} | sizes)
    model = RRDBNet(config, torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        model.conv_last.weight.mul_(4)
        model.conv_last.bias.fill_(0.5)
    return model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "restorer.safetensors"
    save_restorer(path, network(), {"title": "tiny"})
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a few pictures, one of them in a sub-folder."""
    folder = tmp_path / "photos"
    for index, name in enumerate(["a.png", "a.jpg", "sub/b.png"]):
        write_image(folder / name, picture(21, 26 + index, seed=index))
    return folder


def picture(height: int, width: int, bits: int = 8, seed: int = 0, **more: object) -> Image:
    return Image(to_pixels(smooth_images(1, height, width, seed=seed), bits), **more)  # type: ignore[arg-type]


def run(source: Path, target: Path, model: Path | None, **options: object) -> RestoreReport:
    request = RestoreRequest(source, target, model=model, device="cpu", **options)  # type: ignore[arg-type]
    return restore(request, Silent())


def whole(model: RRDBNet, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with torch.inference_mode():
        return to_pixels(model(to_tensor(pixels)), 16 if pixels.dtype == np.uint16 else 8)


def pixels_below(folder: Path) -> dict[str, NDArray[np.uint8]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): read_image(path).pixels for path in files}


def same(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """Equal but for values that round to the other side by their last bits."""
    difference = np.abs(found.astype(int) - expected)
    return found.shape == expected.shape and difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_folder_is_restored_by_what_the_network_computes(
    photos: Path, tmp_path: Path, model_path: Path
) -> None:
    report = run(photos, tmp_path / "out", model_path, ext="png")
    written = pixels_below(tmp_path / "out")
    assert set(written) == {"a_png.png", "a_jpg.png", "sub/b.png"}
    for name, pixels in written.items():
        source = {"a_png.png": "a.png", "a_jpg.png": "a.jpg"}.get(name, name)
        assert same(pixels, whole(network(), read_image(photos / source).pixels))
        assert pixels.std() > 5
    sizes = {record.source.name: (record.width, record.height) for record in report.records}
    assert sizes == {"a.png": (104, 84), "a.jpg": (108, 84), "b.png": (112, 84)}
    assert (report.scale, report.outscale, report.failed, report.skipped) == (4, 4.0, [], [])


@pytest.mark.parametrize("dialect", ["basicsr", "realsr", "esrgan"])
def test_any_dialect(photos: Path, tmp_path: Path, dialect: str) -> None:
    model = network(2)
    export_restorer(model, tmp_path / "m.pth", dialect)
    report = run(photos / "a.png", tmp_path / "out.png", tmp_path / "m.pth")
    assert report.scale == 2
    assert same(read_image(tmp_path / "out.png").pixels, whole(model, read_image(photos / "a.png").pixels))


def test_tiles_do_not_show_in_the_files(tmp_path: Path, model_path: Path) -> None:
    write_image(tmp_path / "in.png", picture(90, 70))
    for name, tile in [("whole", 0), ("tiled", 32), ("auto", None)]:
        run(tmp_path / "in.png", tmp_path / f"{name}.png", model_path, tile=tile)
    one, two, three = (read_image(tmp_path / f"{name}.png").pixels for name in ("whole", "tiled", "auto"))
    assert np.array_equal(one, three)
    assert same(two, one)


@pytest.mark.parametrize("scale", [1, 2])
def test_sides_that_the_unshuffle_does_not_divide(tmp_path: Path, scale: int) -> None:
    save_restorer(tmp_path / "m.safetensors", network(scale), {})
    for height, width in [(1, 1), (5, 7), (33, 30)]:
        write_image(tmp_path / "in.png", picture(height, width))
        run(tmp_path / "in.png", tmp_path / "out.png", tmp_path / "m.safetensors", tile=8)
        expected = whole(network(scale), read_image(tmp_path / "in.png").pixels)
        assert same(read_image(tmp_path / "out.png").pixels, expected)


@pytest.mark.parametrize(("outscale", "size"), [(1.5, (39, 32)), (4.0, (104, 84)), (6.3, (164, 132))])
def test_outscale_resizes_the_restored_image(
    photos: Path, tmp_path: Path, model_path: Path, outscale: float, size: tuple[int, int]
) -> None:
    record = run(photos / "a.png", tmp_path / "out.png", model_path, outscale=outscale, tile=8).records[0]
    assert (record.width, record.height) == size
    found = read_image(tmp_path / "out.png").pixels
    assert found.shape == (size[1], size[0], 3)
    with torch.inference_mode():
        restored = network()(to_tensor(read_image(photos / "a.png").pixels))[0].clamp(0, 1)
    resized = rescale(restored.permute(1, 2, 0).numpy(), size[1], size[0])
    assert same(found, np.floor(resized.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def test_rescale_is_matlabs_bicubic_and_keeps_what_needs_no_change() -> None:
    values = np.random.default_rng(0).random((24, 36, 3))
    halved = rescale(values, 12, 18)
    assert np.abs(halved - downsample(values, 2, "matlab-double")).max() < 1e-6
    assert np.array_equal(rescale(values, 24, 36), values.astype(np.float32))
    assert np.allclose(rescale(np.full((5, 3, 1), 0.25), 13, 1), 0.25, atol=1e-6)
    ramp = np.linspace(0, 1, 32)[:, None, None]
    assert np.allclose(np.diff(rescale(ramp, 80, 1)[10:-10, 0, 0]), 1 / 31 / 2.5, atol=1e-5)


@pytest.mark.parametrize("bits", [8, 16])
def test_depth_alpha_profile_and_exif_are_carried(tmp_path: Path, model_path: Path, bits: int) -> None:
    depth = np.uint16 if bits == 16 else np.uint8
    alpha = np.zeros((20, 31), depth)
    alpha[:, 16:] = 2**bits - 1
    exif = jpeg_with_exif(tmp_path / "exif.jpg")
    write_image(tmp_path / "in.png", picture(20, 31, bits, alpha=alpha, icc=ICC, exif=exif))
    run(tmp_path / "in.png", tmp_path / "out.png", model_path)
    done = read_image(tmp_path / "out.png")
    assert (done.bits, done.icc, done.exif) == (bits, ICC, exif)
    assert done.alpha is not None
    assert done.alpha.shape == done.pixels.shape[:2] == (80, 124)
    assert done.alpha[:, :58].max() == 0
    assert done.alpha[:, 70:].min() == 2**bits - 1
    assert 0.4 < done.alpha[40, 62:66].mean() / (2**bits - 1) < 0.7  # an edge between, no stairs of 4 pixels
    assert len(np.unique(done.alpha[40, 58:70])) > 4
    assert same(done.pixels, whole(network(), read_image(tmp_path / "in.png").pixels))
    if bits == 16:
        assert len(np.unique(done.pixels % 257)) > 100  # all sixteen bits are in use


def jpeg_with_exif(path: Path) -> bytes:
    from PIL import Image as Pillow

    exif = Pillow.Exif()
    exif[271] = "a camera"
    Pillow.new("RGB", (8, 8)).save(path, exif=exif)
    found = read_image(path).exif
    assert found
    return found


def test_gray_stays_gray_by_either_network(tmp_path: Path, model_path: Path) -> None:
    gray = np.repeat(picture(18, 18).pixels[..., :1], 3, -1)
    write_image(tmp_path / "in.png", Image(gray, gray=True))
    run(tmp_path / "in.png", tmp_path / "three.png", model_path)
    assert read_image(tmp_path / "three.png").gray
    one = network(2, image_channels=1)
    save_restorer(tmp_path / "one.safetensors", one, {})
    run(tmp_path / "in.png", tmp_path / "one.png", tmp_path / "one.safetensors")
    done = read_image(tmp_path / "one.png")
    with torch.inference_mode():
        expected = to_pixels(one(to_tensor(gray)[:, :1]).expand(-1, 3, -1, -1))
    assert done.gray
    assert same(done.pixels, expected)
    write_image(tmp_path / "in.png", picture(18, 18))
    run(tmp_path / "in.png", tmp_path / "colour.png", tmp_path / "one.safetensors")
    assert not read_image(tmp_path / "colour.png").gray


def test_transparency_is_never_lost_to_a_format(tmp_path: Path, model_path: Path) -> None:
    folder = tmp_path / "in"
    alpha = np.full((8, 8), 100, np.uint8)
    write_image(folder / "clear.png", picture(8, 8, alpha=alpha))
    write_image(folder / "solid.png", picture(8, 8))
    run(folder, tmp_path / "out", model_path, ext="jpg")
    assert set(pixels_below(tmp_path / "out")) == {"clear.png", "solid.jpg"}
    assert read_image(tmp_path / "out/clear.png").alpha is not None
    report = run(folder / "clear.png", tmp_path / "named.jpg", model_path)
    assert report.records[0].target == tmp_path / "named.png"
    with pytest.raises(DataError, match="overwrite"):
        run(folder, folder, model_path, ext="jpg")  # clear.png would be written over itself


def test_suffix_lets_outputs_stand_beside_the_inputs(photos: Path, model_path: Path) -> None:
    with pytest.raises(DataError, match="overwrite"):
        run(photos, photos, model_path)
    for _ in range(2):  # the second time the first outputs are there, and no inputs
        assert len(run(photos, photos, model_path, suffix="x4").records) == 3
    names = {path.relative_to(photos).as_posix() for path in photos.rglob("*.*")}
    assert names == {"a.png", "a.jpg", "sub/b.png", "a_x4.png", "a_x4.jpg", "sub/b_x4.png"}
    assert len(run(photos, photos, model_path, suffix="x4", skip_existing=True).skipped) == 3


def test_outputs_inside_the_input_folder_are_not_inputs(photos: Path, model_path: Path) -> None:
    for _ in range(2):
        assert len(run(photos, photos / "out", model_path).records) == 3


def test_bad_files_are_told_and_the_rest_goes_on(photos: Path, tmp_path: Path, model_path: Path) -> None:
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:200])
    report = run(photos, tmp_path / "out", model_path)
    assert len(report.records) == 3
    [(path, reason)] = report.failed
    assert path == photos / "broken.png"
    assert "broken.png" in reason


def test_outputs_too_large_for_a_format_fail_before_the_work(
    tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "in/wide.webp", picture(1, 4100))
    monkeypatch.setattr(LayerwiseGenerator, "__call__", lambda *args: pytest.fail("the network ran"))
    [(_, reason)] = run(tmp_path / "in", tmp_path / "out", model_path).failed
    for word in ("wide.webp", "16400x4", "16383", "--ext png"):
        assert word in reason


def test_memory_running_out_costs_no_image(
    photos: Path, tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos / "a.png", tmp_path / "whole.png", model_path)
    genuine, calls = LayerwiseGenerator.__call__, []

    def limited(self: LayerwiseGenerator, images: torch.Tensor, *tell: object) -> torch.Tensor:
        calls.append(images.shape)
        if len(calls) == 1:
            raise MemoryError
        return genuine(self, images, *tell)  # type: ignore[arg-type]

    class Listener(Silent):
        def warn(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    write_image(tmp_path / "in.png", picture(80, 60))
    monkeypatch.setattr(LayerwiseGenerator, "__call__", limited)
    request = RestoreRequest(tmp_path / "in.png", tmp_path / "out.png", model_path, device="cpu")
    assert len(restore(request, Listener()).records) == 1
    assert len(calls) > 2
    assert len(warnings) == 1
    assert "tiles of 40 pixels" in warnings[0]
    monkeypatch.setattr(LayerwiseGenerator, "__call__", genuine)
    run(tmp_path / "in.png", tmp_path / "whole.png", model_path)
    found, expected = (read_image(tmp_path / f"{name}.png").pixels for name in ("out", "whole"))
    assert same(found, expected)


def test_tta_changes_the_image_and_not_its_size(photos: Path, tmp_path: Path, model_path: Path) -> None:
    for name, tta in [("one", False), ("eight", True)]:
        run(photos / "a.png", tmp_path / f"{name}.png", model_path, tta=tta)
    one, eight = (read_image(tmp_path / f"{name}.png").pixels for name in ("one", "eight"))
    assert one.shape == eight.shape
    assert not np.array_equal(one, eight)


def test_again_is_bitwise_the_same(photos: Path, tmp_path: Path, model_path: Path) -> None:
    for name in ("one", "two"):
        run(photos / "a.png", tmp_path / f"{name}.png", model_path)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_default_is_the_newest_restorer_here(
    photos: Path, tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deflow_cli.workflows.restore.packaged_folder", lambda: None)
    with pytest.raises(CheckpointError, match="no restorer is embedded") as caught:
        run(photos / "a.png", tmp_path / "out.png", None)
    assert "sr-train" in caught.value.next_step
    for age, name in enumerate(["new", "old"]):
        path = tmp_path / "runs" / name / "restorer.safetensors"
        save_restorer(path, network(), {})
        os.utime(path, (1e9 - age, 1e9 - age))
    report = run(photos / "a.png", tmp_path / "out.png", None)
    assert (report.model, report.model_origin) == (
        tmp_path / "runs/new/restorer.safetensors", "newest restorer here"
    )  # fmt: skip
    assert run(photos / "a.png", tmp_path / "out.png", tmp_path / "runs/old").model_origin == "given"


def test_without_a_restorer_here_an_embedded_one_is_taken(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    defaults, entries = "", ""
    for name, scale in (("denoiser", 1), ("enlarger", 2)):
        save_restorer(package / f"{name}.safetensors", network(scale=scale), {})
        digest = hashlib.sha256((package / f"{name}.safetensors").read_bytes()).hexdigest()
        defaults += f'default_{name} = "{name}.safetensors"\n'
        entries += f'[[file]]\npath = "{name}.safetensors"\nsha256 = "{digest}"\n'
    (package / "manifest.toml").write_text(defaults + entries)
    monkeypatch.setattr("deflow_cli.workflows.restore.packaged_folder", lambda: package)
    monkeypatch.chdir(tmp_path)
    size = read_image(photos / "a.png").pixels.shape[:2]
    for outscale, name in ((None, "denoiser"), (1.0, "denoiser"), (2.0, "enlarger"), (3.0, "enlarger")):
        report = run(photos / "a.png", tmp_path / "out.png", None, outscale=outscale)
        assert (report.model.stem, report.model_origin) == (name, "embedded")
        shown = read_image(tmp_path / "out.png").pixels.shape[:2]
        assert shown == tuple(int(side * (outscale or 1)) for side in size)
    (package / "manifest.toml").write_text(defaults + entries.replace(digest, "0" * 64))
    with pytest.raises(CheckpointError, match="checksum differs"):
        run(photos / "a.png", tmp_path / "out.png", None, outscale=2.0)
    (package / "manifest.toml").write_text(defaults.splitlines()[0])
    report = run(photos / "a.png", tmp_path / "out.png", None, outscale=2.0)
    assert report.model.stem == "denoiser"  # whose image is enlarged


def test_what_concerns_all_images_is_an_error(photos: Path, tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        run(tmp_path / "empty", tmp_path / "out", model_path)
    with pytest.raises(CheckpointError, match="no such restorer"):
        run(photos, tmp_path / "out", tmp_path / "empty")
    save_restorer(tmp_path / "four.safetensors", network(4, image_channels=4), {})
    with pytest.raises(CheckpointError, match="4 channels"):
        run(photos, tmp_path / "out", tmp_path / "four.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_diverged_restorer_is_told_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.conv_last.bias.fill_(torch.nan)
    save_restorer(tmp_path / "nan.safetensors", model, {})
    report = run(photos / "a.png", tmp_path / "out.png", tmp_path / "nan.safetensors")
    assert "a.png" in report.failed[0][1]
    assert "not finite" in report.failed[0][1]
    assert not (tmp_path / "out.png").exists()


def test_half_of_the_memory_left_is_for_the_network(
    photos: Path, tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    genuine = workflow.Restorer

    def spy(*args: object, memory: int, **options: object) -> object:
        seen.append(memory)
        return genuine(*args, memory=memory, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(workflow, "Restorer", spy)
    monkeypatch.setattr(workflow, "available_memory", lambda device: 1000)
    run(photos / "a.png", tmp_path / "out.png", model_path)
    assert seen == [500]
