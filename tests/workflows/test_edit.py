"""Editing files: outputs, records and sheets of each mode, and what is refused with its file named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deflow_cli.checkpoints.restorer import save_restorer
from deflow_cli.checkpoints.srflow.files import save_srflow
from deflow_cli.config.editing import Edit
from deflow_cli.config.restorer import RestorerConfig
from deflow_cli.data.images.files import Image, read_image, to_pixels, write_image
from deflow_cli.errors import CheckpointError, ConfigError, DataError
from deflow_cli.models.esrgan.generator import RRDBNet
from deflow_cli.runtime.progress import Silent
from deflow_cli.workflows.edit import EditReport, EditRequest, edit, read_mask
from tests.inference.small_srflow import images, started_srflow

HEIGHT, WIDTH = 40, 52


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("edit")
    save_srflow(root / "restorer.safetensors", started_srflow(), {})
    save_restorer(root / "esrgan.safetensors", RRDBNet(RestorerConfig(scale=2, channels=8, blocks=1)), {})
    for name, seed in (("a", 1), ("b", 2)):
        write_image(root / f"{name}.png", Image(to_pixels(images(1, HEIGHT, WIDTH, seed=seed))))
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[12:24, 16:30] = 255
    write_image(root / "mask.png", Image(mask))
    return root


def run(folder: Path, target: Path, settings: Edit, source: str = "a.png", **files: object) -> EditReport:
    named = {name: folder / str(value) for name, value in files.items() if name in ("other", "mask", "model")}
    named.setdefault("model", folder / "restorer.safetensors")
    sheet = files.get("sheet")
    assert sheet is None or isinstance(sheet, Path)
    request = EditRequest(folder / source, target, settings, sheet=sheet, device="cpu", **named)
    return edit(request, Silent())


def test_transfer_keeps_the_rest_and_says_how_far(folder: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "out.png", tmp_path / "sheets" / "s.png"
    report = run(folder, out, Edit("transfer"), other="b.png", mask="mask.png", sheet=sheet)
    assert not report.failed
    (record,) = report.records
    assert (record.targets, record.width, record.height) == ([out], WIDTH, HEIGHT)
    assert record.mirrored == (56, 40)
    before, after = (read_image(path).pixels.astype(float) for path in (folder / "a.png", out))
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[12:24, 16:30] = False
    change = np.abs(after - before)
    assert record.outside_mean == pytest.approx(change[outside].mean())
    assert record.outside_most == change[outside].max()
    assert change[~outside].mean() > 4 * change[outside].mean()
    assert (report.sheet, report.scale, report.mode) == (sheet, 4, "transfer")
    assert read_image(sheet).pixels.shape[1] > 3 * WIDTH


@pytest.mark.parametrize(
    ("settings", "files", "count"),
    [
        (Edit("style"), {"other": "b.png"}, 1),
        (Edit("restore", samples=2), {"mask": "mask.png"}, 2),
        (Edit("interpolate"), {}, 5),
        (Edit("interpolate", samples=12), {"other": "b.png"}, 12),
        (Edit("vary", samples=3, consistent=True), {}, 3),
    ],
)
def test_results_and_sheets(
    folder: Path, tmp_path: Path, settings: Edit, files: dict[str, str], count: int
) -> None:
    sheet = tmp_path / "s.png"
    report = run(folder, tmp_path / "out", settings, sheet=sheet, **files)
    (record,) = report.records
    assert len(record.targets) == len(record.lr_psnr) == count
    assert all(read_image(target).pixels.shape == (HEIGHT, WIDTH, 3) for target in record.targets)
    columns = 1 + ("other" in files) + min(count, 8)
    assert read_image(sheet).pixels.shape[1] >= columns * WIDTH
    assert (record.outside_mean is None) == ("mask" not in files)
    assert np.isfinite([record.spread_before, record.spread_after, record.strayed]).all()


def test_folders_depth_and_transparency(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    deep = (images(1, 32, 32)[0].permute(1, 2, 0).numpy() * 65535).astype(np.uint16)
    alpha = np.full((32, 32), 40000, np.uint16)
    write_image(source / "sub" / "deep.png", Image(deep, alpha=alpha))
    write_image(source / "plain.png", Image((deep // 257).astype(np.uint8)))
    settings = Edit("vary", strength=0.0)
    request = EditRequest(
        source, tmp_path / "out", settings, model=folder / "restorer.safetensors", device="cpu"
    )
    report = edit(request, Silent())
    assert len(report.records) == 2
    assert report.records[0].mirrored is None
    image = read_image(tmp_path / "out" / "sub" / "deep.png")
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels.astype(int) - deep).max() <= 20
    assert np.array_equal(image.alpha, alpha)


def test_the_seed_and_the_name_draw(folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(folder, tmp_path / f"{name}.png", Edit("vary", seed=seed))
    a, b, c = (read_image(tmp_path / f"{name}.png").pixels for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_masks(tmp_path: Path) -> None:
    grey = np.zeros((8, 8, 3), np.uint8)
    grey[2], grey[3], grey[4] = 255, 128, 4
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, 5:] = 0
    write_image(tmp_path / "m.png", Image(grey, alpha=alpha))
    mask = read_mask(tmp_path / "m.png")
    assert mask.shape == (1, 1, 8, 8)
    assert mask[0, 0, :, 0].tolist() == pytest.approx([0, 0, 1, 128 / 255, 0, 0, 0, 0])
    assert not mask[..., 5:].any()
    write_image(tmp_path / "black.png", Image(np.zeros_like(grey)))
    with pytest.raises(DataError, match=r"black.png: the mask is all black"):
        read_mask(tmp_path / "black.png")


def test_images_of_other_sizes_are_named(folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "small.png", Image(np.full((20, 30, 3), 255, np.uint8)))
    small = str(tmp_path / "small.png")
    for files in ({"other": small, "mask": "mask.png"}, {"other": "b.png", "mask": small}):
        report = run(folder, tmp_path / "out.png", Edit("transfer"), **files)
        ((path, reason),) = report.failed
        assert path == folder / "a.png"
        assert "small.png: 30x20 pixels" in reason
        assert f"has {WIDTH}x{HEIGHT}" in reason
        assert not (tmp_path / "out.png").exists()


def test_what_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="an ESRGAN has no latents to edit") as caught:
        run(folder, tmp_path / "out.png", Edit("vary"), model="esrgan.safetensors")
    assert "--arch srflow" in caught.value.next_step
    with pytest.raises(CheckpointError, match="no such restorer") as caught:
        run(folder, tmp_path / "out.png", Edit("vary"), model="none.safetensors")
    assert "--arch srflow" in caught.value.next_step
    with pytest.raises(ConfigError, match="transfer needs a mask"):
        run(folder, tmp_path / "out.png", Edit("transfer"), other="b.png")
    with pytest.raises(ConfigError, match="a sheet is a PNG"):
        run(folder, tmp_path / "out.png", Edit("vary"), sheet=tmp_path / "s.jpg")
    with pytest.raises(DataError, match="would overwrite the input"):
        run(folder, folder / "a.png", Edit("vary"))
