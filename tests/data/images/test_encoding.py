"""Encoding: profiles only where they fit, metadata that a format cannot hold, and what is lost is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from deflow_cli.data.images.encoding import check_sides
from deflow_cli.data.images.files import Image, read_image, write_image
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (23, 17, 3), dtype=np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_ICC = ICC[:16] + b"GRAY" + ICC[20:]


def written(path: Path, image: Image, **options: int) -> tuple[Image, list[str]]:
    said: list[str] = []
    with remarks_to(said.append):
        write_image(path, image, **options)
    return read_image(path), [text.removeprefix(f"{path}: ") for text in said]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_a_profile_is_written_only_where_it_fits(tmp_path: Path, suffix: str) -> None:
    gray = Image(RGB[..., :1].repeat(3, -1), None, True)
    writes_gray = suffix != ".webp"
    for icc, image, fits in (
        (ICC, Image(RGB, icc=ICC), True),
        (GRAY_ICC, Image(RGB, icc=GRAY_ICC), False),
        (GRAY_ICC, Image(gray.pixels, None, True, GRAY_ICC), writes_gray),
        (ICC, Image(gray.pixels, None, True, ICC), not writes_gray),
    ):
        back, said = written(tmp_path / f"a{suffix}", image)
        assert back.icc == (icc if fits else None)
        losses = [text for text in said if "colour profile" in text]
        space, mode = ("GRAY", "RGB") if icc is GRAY_ICC else ("RGB", "gray")
        assert losses == (
            [] if fits else [f"a colour profile for {space} does not fit {mode} pixels and was left out"]
        )


def test_a_profile_that_readers_refuse_is_left_out(tmp_path: Path) -> None:
    large = ICC + RNG.bytes(2_000_000)
    back, said = written(tmp_path / "a.png", Image(RGB, icc=large))
    assert back.icc is None
    assert said == [
        "the colour profile of 2.0 MB is more than readers of PNG take and was left out; --ext tif keeps it"
    ]
    with Pillow.open(tmp_path / "a.png") as other:
        np.testing.assert_array_equal(np.asarray(other), RGB)
    for name in ("a.tif", "a.webp", "a.jpg"):
        assert written(tmp_path / name, Image(RGB, icc=large))[0].icc == large


def test_exif_that_jpeg_cannot_hold_is_left_out(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[270] = "x" * 70_000
    back, said = written(tmp_path / "a.jpg", Image(RGB, exif=exif.tobytes()))
    assert back.exif is None
    assert any("EXIF data of 70" in text for text in said)
    assert written(tmp_path / "a.png", Image(RGB, exif=exif.tobytes()))[0].exif is not None


def test_webp_is_lossless_and_jpeg_says_what_it_does(tmp_path: Path) -> None:
    back, said = written(tmp_path / "a.webp", Image(RGB))
    np.testing.assert_array_equal(back.pixels, RGB)
    assert said == []
    said = []
    with remarks_to(said.append):
        for number in range(5):
            write_image(tmp_path / f"{number}.jpg", Image(RGB))
    assert said == ["JPEG is lossy and changes the pixels that were computed; --ext png keeps them"]


def test_lost_depth_and_transparency_are_said(tmp_path: Path) -> None:
    deep = Image(RGB.astype(np.uint16) * 257, np.full(RGB.shape[:2], 65535, np.uint16))
    assert written(tmp_path / "a.png", deep)[1] == []
    assert written(tmp_path / "a.bmp", deep)[1] == [
        "BMP holds no transparency, which is lost; --ext png keeps it",
        "BMP holds 8 bits, so 16 were rounded; --ext png keeps them",
    ]


def test_sides_are_checked_before_the_work() -> None:
    check_sides("a.png", ".webp", 16383, 1)
    check_sides("a.png", ".png", 1 << 20, 1)
    for suffix, side in ((".webp", 16384), (".JPG", 65501)):
        with pytest.raises(DataError, match=rf"a\.png: 5x{side} pixels are more than .* use --ext png"):
            check_sides("a.png", suffix, side, 5)


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    write_image(path, Image(RGB))
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read_image(path).pixels, RGB)
