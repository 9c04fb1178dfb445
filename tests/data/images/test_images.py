"""Image files: every kind is read right, nothing is lost on writing, trouble is named."""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from deflow_cli.data.images.files import Image, read_image, read_rgb8, to_pixels, to_tensor, write_image
from deflow_cli.data.images.listing import list_images
from deflow_cli.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (23, 17, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (23, 17), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (150, 33, 3), dtype=np.uint16)
ALPHA16 = RNG.integers(1, 65536, (150, 33), dtype=np.uint16)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_ICC = ICC[:16] + b"GRAY" + ICC[20:]


def gray_of(plane: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(plane[..., None], 3, -1)


def exif_block(orientation: int) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[274] = orientation
    exif[271] = "Maker"
    exif[34665] = {33434: 0.25, 40962: 17}
    return exif


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".webp", ".PNG"])
def test_lossless_round_trip_of_8_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sub/a{suffix}"
    write_image(path, Image(RGB, ALPHA, icc=ICC), quality=100)
    back = read_image(path)
    holds = suffix != ".bmp"
    if suffix == ".webp":  # colours under zero alpha are free
        np.testing.assert_array_equal(back.pixels[ALPHA > 0], RGB[ALPHA > 0])
    else:
        np.testing.assert_array_equal(back.pixels, RGB)
    assert back.icc == (ICC if holds else None)
    assert back.bits == 8
    assert not back.gray
    if holds:
        np.testing.assert_array_equal(back.alpha, ALPHA)
    else:
        assert back.alpha is None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [None, ALPHA16])
def test_16_bit_stays_16_bit(tmp_path: Path, suffix: str, gray: bool, alpha: NDArray[Any] | None) -> None:
    pixels = gray_of(RGB16[..., 0]) if gray else RGB16
    path = tmp_path / f"a{suffix}"
    written_as_gray = gray and not (suffix == ".tif" and alpha is not None)
    icc = GRAY_ICC if written_as_gray else ICC
    write_image(path, Image(pixels, alpha, gray, icc, exif_block(1).tobytes()))
    back = read_image(path)
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.bits == 16
    assert back.icc == icc
    assert back.gray == written_as_gray
    assert (back.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(back.alpha, alpha)
    exif = Pillow.Exif()
    exif.load(back.exif or b"")
    assert exif[271] == "Maker"
    assert float(exif.get_ifd(34665)[33434]) == 0.25
    with Pillow.open(path) as other:  # another reader takes the file, at its 8 bits
        other.load()
        assert other.size == (33, 150)
    if alpha is None and not gray:
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1], RGB16)


def test_16_bit_is_rounded_where_the_format_has_8(tmp_path: Path) -> None:
    write_image(tmp_path / "a.bmp", Image(RGB16))
    expected = np.floor(RGB16 / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").pixels, expected)
    write_image(tmp_path / "a.png", Image(RGB16))
    np.testing.assert_array_equal(read_rgb8(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    smooth = np.zeros((32, 48, 3), np.uint8)
    smooth[:8, :16] = 255
    smooth[16:, :] = 90
    options = {"quality": 100} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    Pillow.fromarray(smooth).save(path, exif=exif_block(orientation).tobytes(), **options)
    back = read_image(path)
    expected = np.asarray(Pillow.fromarray(smooth))
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    if turn is not None:
        expected = np.asarray(Pillow.fromarray(smooth).transpose(Pillow.Transpose(turn)))
    assert back.pixels.shape == expected.shape
    assert np.abs(back.pixels.astype(int) - expected).max() <= (30 if suffix == ".jpg" else 0)
    write_image(path, back)
    again = read_image(path)
    assert again.pixels.shape == expected.shape
    exif = Pillow.Exif()
    exif.load(again.exif or b"")
    assert (exif[274], exif[271], float(exif.get_ifd(34665)[33434])) == (1, "Maker", 0.25)
    assert 40962 not in exif.get_ifd(34665)


def test_orientation_of_16_bit_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    for order in "<>":
        tifffile.imwrite(
            tmp_path / "a.tif", RGB16, photometric="rgb", byteorder=order, extratags=[(274, 3, 1, 6, True)]
        )
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, np.rot90(RGB16, -1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "transparent P", "transparent L"])
def test_modes_of_png(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    source = Pillow.fromarray(np.concatenate([RGB, ALPHA[..., None]], -1))
    options: dict[str, Any] = {}
    if mode.startswith("transparent"):
        options, mode = {"transparency": 5}, mode[-1]
    picture = source.convert("RGB").convert(mode) if mode in ("P", "1", "L") else source.convert(mode)
    picture.save(path, **options)
    back = read_image(path)
    stored = Pillow.open(path)
    rgba = np.asarray(stored.convert("RGBA"))
    np.testing.assert_array_equal(back.pixels, rgba[..., :3])
    assert back.gray == (mode in ("1", "L", "LA"))
    assert (back.alpha is not None) == (mode in ("LA", "RGBA") or bool(options))
    if back.alpha is not None:
        np.testing.assert_array_equal(back.alpha, rgba[..., 3])


def test_gray_stays_gray(tmp_path: Path) -> None:
    gray = Image(gray_of(ALPHA), None, True)
    for suffix, mode in ((".png", "L"), (".jpg", "L"), (".bmp", "L"), (".tif", "L"), (".webp", "RGB")):
        write_image(tmp_path / f"a{suffix}", gray)
        assert Pillow.open(tmp_path / f"a{suffix}").mode == mode
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, gray.pixels)


def test_cmyk_jpeg_is_read_as_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Pillow.new("RGB", (16, 16), (200, 60, 30)).convert("CMYK").save(path, quality=100, icc_profile=b"junk")
    back = read_image(path)
    assert np.abs(back.pixels.astype(int) - (200, 60, 30)).max() < 6
    assert back.icc is None


def test_broken_files_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for suffix, picture in (
        (".png", Image(RGB)),
        (".png", Image(RGB16)),
        (".jpg", Image(RGB)),
        (".tif", Image(RGB16)),
    ):
        path = tmp_path / f"broken{suffix}"
        write_image(path, picture)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(DataError, match=rf"broken\{suffix}: .*(truncated|broken)"):
            read_image(path)
    write_image(path := tmp_path / "flip.png", Image(RGB16))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        read_image(path)


def test_unusable_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    Pillow.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    cv2.imwrite(str(tmp_path / "float3.tif"), np.zeros((4, 4, 3), np.float32))
    Pillow.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "int.tif")
    for name, reason in (
        ("text.png", "known format"),
        ("empty.png", "empty"),
        ("float.tif", "32-bit floating point"),
        ("float3.tif", "32-bit floating point"),
        ("int.tif", "32-bit signed integer"),
        ("missing.png", "No such file"),
    ):
        with pytest.raises(DataError, match=f"{name}.*{reason}"):
            read_image(tmp_path / name)


def test_large_photographs_meet_no_limit_and_absurd_ones_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", Image(RGB))
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)  # anything is a bomb to Pillow now
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").pixels.shape == RGB.shape
    assert Pillow.MAX_IMAGE_PIXELS == 10
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 1 << 17, 1 << 17)
    data[29:33] = struct.pack(">I", __import__("zlib").crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(DataError, match="131072x131072"):
        read_image(tmp_path / "bomb.png")


def test_writing_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gif"):
        write_image(tmp_path / "a.gif", Image(RGB))
    with pytest.raises(DataError, match="WEBP"):
        write_image(tmp_path / "a.webp", Image(np.zeros((1, 20000, 3), np.uint8)))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_image(tmp_path / "file/a.png", Image(RGB))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_pure_noise_is_written_as_jpeg(tmp_path: Path) -> None:
    """Such files are larger than the buffer that an optimised encoding would allow."""
    pixels = np.random.default_rng(1).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels, icc=ICC, exif=exif_block(1).tobytes()), quality=100)
    assert np.abs(read_rgb8(tmp_path / "a.jpg").astype(int) - pixels).mean() < 2


def test_listing(tmp_path: Path) -> None:
    for name in (
        "b.PNG",
        "a/z.jpg",
        "a.jpeg",
        ".hidden.png",
        "._a.jpeg",
        ".git/x.png",
        "notes.txt",
        "c.webp",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["a.jpeg", "a/z.jpg", "b.PNG", "c.webp"]
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="is a file"):
        list_images(tmp_path / "c.webp")


def test_tensors_and_pixels() -> None:
    for pixels in (RGB, RGB16):
        tensor = to_tensor(pixels)
        assert tensor.dtype == torch.float32
        assert tensor.shape == (1, 3, *pixels.shape[:2])
        np.testing.assert_array_equal(to_pixels(tensor, 8 * pixels.dtype.itemsize), pixels)
    values = torch.tensor([-1.0, 2.0, 0.5 / 255]).reshape(1, 3, 1, 1)
    assert to_pixels(values, 8).tolist() == [[[0, 255, 1]]]


def test_16_bit_png_of_other_writers(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(RGB16[..., 0]).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    back = read_image(tmp_path / "a.png")
    assert back.gray
    np.testing.assert_array_equal(back.pixels, gray_of(RGB16[..., 0]))
    cv2.imwrite(str(tmp_path / "b.png"), np.dstack([RGB16[..., ::-1], ALPHA16]))
    back = read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(back.pixels, RGB16)
    np.testing.assert_array_equal(back.alpha, ALPHA16)
