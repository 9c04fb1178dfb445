"""TIFF: which page is the image, its orientation, and what a fourth channel is."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.formats.tiff import TiffFile
from deflow_cli.data.images.remarks import remarks_to

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(0)


def read(path: Path):  # type: ignore[no-untyped-def]
    said: list[str] = []
    with remarks_to(said.append):
        image = read_image(path)
        header = read_header(path)
    assert (header.height, header.width) == image.pixels.shape[:2]
    assert header.has_alpha == (image.alpha is not None)
    return image, [text.removeprefix(f"{path}: ") for text in said]


def noise(height: int, width: int, channels: int, kind: str) -> np.ndarray:
    top = np.iinfo(kind).max
    return RNG.integers(0, top, (height, width, channels), dtype=kind, endpoint=True)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_the_header(
    tmp_path: Path, kind: str, options: dict[str, object], orientation: int
) -> None:
    pixels = noise(12, 20, 3, kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], metadata=None, **options
    )
    image, said = read(path)
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    index = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
    if turn is not None:
        index = np.asarray(Pillow.fromarray(index).transpose(Pillow.Transpose(turn)))
    np.testing.assert_array_equal(image.pixels, pixels.reshape(-1, 3)[index])
    assert inspect_size(path) == index.shape[::-1]
    assert said == []


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_the_largest_page_is_the_image(tmp_path: Path, kind: str) -> None:
    small, large, last = noise(8, 9, 3, kind), noise(20, 30, 3, kind), noise(20, 30, 3, kind)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (small, large, last):
            writer.write(page, photometric="rgb", metadata=None)
    image, said = read(path)
    np.testing.assert_array_equal(image.pixels, large)
    assert said == ["holds 3 pages; only page 2 (30x20) is used"]


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_thumbnails_and_masks_are_no_images(tmp_path: Path, kind: str) -> None:
    image_pixels = noise(20, 30, 3, kind)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(40, 60, 3, kind), photometric="rgb", subfiletype=1, metadata=None)
        writer.write(image_pixels, photometric="rgb", extratags=[(274, 3, 1, 6, True)], metadata=None)
        writer.write(noise(80, 96, 1, "uint8")[..., 0] > 9, photometric="mask", subfiletype=4, metadata=None)
    image, said = read(path)
    np.testing.assert_array_equal(image.pixels, np.rot90(image_pixels, -1))
    assert said == []


def test_an_image_below_a_thumbnail_is_found(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3, "uint8")
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(4, 6, 3, "uint8"), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(pixels, photometric="rgb", metadata=None)
    image, said = read(path)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert said == []


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize(("code", "is_alpha"), [(None, True), (0, False), (2, True)])
def test_a_fourth_channel_is_alpha_only_where_it_says_so(
    tmp_path: Path, kind: str, code: int | None, is_alpha: bool
) -> None:
    pixels = noise(12, 20, 4, kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[code or 0], metadata=None)
    if code is None:  # older programs leave the tag out, and mean alpha
        data = bytearray(path.read_bytes())
        at = data.index(struct.pack("<HHI", 338, 3, 1))
        data[at : at + 2] = struct.pack("<H", 65000)
        path.write_bytes(data)
    image, said = read(path)
    np.testing.assert_array_equal(image.pixels, pixels[..., :3])
    if is_alpha:
        np.testing.assert_array_equal(image.alpha, pixels[..., 3])
        assert said == []
    else:
        assert image.alpha is None
        assert said == ["channels that are not transparency are not used (1)"]


def test_damage_behind_the_image_does_not_harm_it(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3, "uint8")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None)
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    for following in (start, 0xFFFFFF00, 3):  # a circle, behind the end, within the file's head
        struct.pack_into("<I", data, end, following)
        path.write_bytes(data)
        assert TiffFile(bytes(data)).main.width == 30
        image, _ = read(path)
        np.testing.assert_array_equal(image.pixels, pixels)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize(
    "layout", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}, {"rowsperstrip": 5}]
)
@pytest.mark.parametrize(("gray", "extra"), [(True, [2]), (True, [0]), (True, [0, 0, 0]), (False, [0, 0])])
def test_any_number_of_channels_of_16_bits(
    tmp_path: Path, compression: str | None, layout: dict[str, object], gray: bool, extra: list[int]
) -> None:
    colours = 1 if gray else 3
    pixels = noise(37, 45, colours + len(extra), "uint16")
    path = tmp_path / "a.tif"
    options = {} if compression is None else {"compression": compression, "predictor": True}
    if compression == "lzw":
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack" if gray else "rgb",
        planarconfig="contig",
        extrasamples=extra,
        metadata=None,
        **options,
        **layout,
    )
    image, said = read(path)
    assert image.gray == gray
    np.testing.assert_array_equal(image.pixels[..., :colours], pixels[..., :colours])
    if extra == [2]:
        np.testing.assert_array_equal(image.alpha, pixels[..., 1])
        assert said == []
    else:
        assert image.alpha is None
        assert said == [f"channels that are not transparency are not used ({len(extra)})"]


def test_gray_with_alpha_of_16_bits_is_alike_at_8(tmp_path: Path) -> None:
    deep = noise(20, 30, 2, "uint16") // 257 * 257
    for kind, scale in (("uint16", 1), ("uint8", 257)):
        tifffile.imwrite(
            tmp_path / f"{kind}.tif",
            (deep // scale).astype(kind),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=[2],
            metadata=None,
        )
    a, b = (read(tmp_path / f"{kind}.tif")[0] for kind in ("uint16", "uint8"))
    np.testing.assert_array_equal(a.pixels // 257, b.pixels)
    np.testing.assert_array_equal(a.alpha // 257, b.alpha)
