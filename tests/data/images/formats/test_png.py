"""PNG: transparent colours at every depth, damaged chunks, metadata of any size, animations."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.folders import inspect_size
from deflow_cli.data.images.formats.png import SIGNATURE, read_png, read_png_header
from deflow_cli.data.images.formats.png_pixels import unpacked_size
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.errors import DataError
from tests.data.images.formats.chunks import chunk, png

RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
ROWS = b"".join(b"\0" + row.tobytes() for row in RGB)
ICC = b"\0" * 16 + b"RGB " + b"\0" * 16 + b"acsp" + b"\0" * 88
EXIF = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, 6, 0, 0)  # orientation 6


def read(folder: Path, data: bytes):  # type: ignore[no-untyped-def]
    """The image, and what was said of it; the header must say the same size."""
    path = folder / "a.png"
    path.write_bytes(data)
    said: list[str] = []
    with remarks_to(said.append):
        image = read_image(path)
        header = read_header(path)
    assert (header.height, header.width) == image.pixels.shape[:2]
    assert header.has_alpha == (image.alpha is not None)
    return image, [text.removeprefix(f"{path}: ") for text in said]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_gray_value_is_transparent(tmp_path: Path, depth: int) -> None:
    values = np.arange(2 ** min(depth, 4)) * (1 if depth < 16 else 4099)
    key = int(values[-2])
    if depth == 16:
        row = values.astype(">u2").tobytes()
    else:
        bits = "".join(f"{value:0{depth}b}" for value in values)
        row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    noise = 0 if depth == 16 else 1 << depth  # bits above the depth do not count
    data = png(len(values), 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key | noise)))
    image, said = read(tmp_path, data)
    top = 65535 if depth == 16 else 255
    assert image.gray
    np.testing.assert_array_equal(image.alpha[0], np.where(values == key, 0, top))
    np.testing.assert_array_equal(
        image.pixels[0, :, 0], values * (1 if depth == 16 else 255 // (2**depth - 1))
    )
    assert said == []


@pytest.mark.parametrize("depth", [8, 16])
def test_one_colour_is_transparent(tmp_path: Path, depth: int) -> None:
    kind = np.dtype(">u2" if depth == 16 else "u1")
    colours = np.array([[1, 2, 3], [1, 2, 4], [3, 2, 1], [1, 2, 3]]) * (257 if depth == 16 else 1)
    key = struct.pack(">HHH", *colours[0].tolist())
    image, _ = read(
        tmp_path, png(4, 1, depth, 2, b"\0" + colours.astype(kind).tobytes(), chunk(b"tRNS", key))
    )
    top = 2**depth - 1
    np.testing.assert_array_equal(image.alpha[0], [0, top, top, 0])
    np.testing.assert_array_equal(image.pixels[0], colours)


@pytest.mark.parametrize(("colour", "channels", "body"), [(0, 1, b"\0"), (2, 3, b"\0\1"), (4, 2, b"\0\1")])
def test_a_transparent_colour_that_is_none_is_none(
    tmp_path: Path, colour: int, channels: int, body: bytes
) -> None:
    image, _ = read(tmp_path, png(2, 1, 8, colour, b"\0" + bytes(range(2 * channels)), chunk(b"tRNS", body)))
    assert (image.alpha is not None) == (colour == 4)


def test_a_palette_keeps_its_transparency(tmp_path: Path) -> None:
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60])) + chunk(b"tRNS", bytes([255, 99]))
    image, _ = read(tmp_path, png(2, 1, 8, 3, b"\0\1\0", palette))
    np.testing.assert_array_equal(image.pixels[0], [[40, 50, 60], [10, 20, 30]])
    np.testing.assert_array_equal(image.alpha[0], [99, 255])


@pytest.mark.parametrize("depth", [8, 16])
def test_large_metadata_cost_nothing(tmp_path: Path, depth: int) -> None:
    noise = np.random.default_rng(1).bytes(2_000_000)
    rows = ROWS if depth == 8 else b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB)
    parts = (
        chunk(b"iCCP", b"p\0\0" + zlib.compress(ICC + noise)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x>" * 1_000_000),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 3_000_000)),
    )
    image, said = read(tmp_path, png(7, 9, depth, 2, rows, *parts))
    np.testing.assert_array_equal(image.pixels, RGB)
    assert image.icc == ICC + noise
    assert said == []


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"eXIf", b"gAMA", b"sRGB", b"aaAa"])
def test_a_wrong_checksum_costs_that_chunk_alone(tmp_path: Path, depth: int, place: str, kind: bytes) -> None:
    rows = ROWS if depth == 8 else b"".join(b"\0" + row.astype(">u2").tobytes() for row in RGB)
    bad = chunk(kind, b"k\0\0 some text", damage=1)
    data = png(7, 9, depth, 2, rows, *([bad] * (place == "before")), after=bad * (place == "after"))
    image, said = read(tmp_path, data)
    np.testing.assert_array_equal(image.pixels, RGB)
    assert len(said) == 1
    assert said[0].startswith(f"the checksum of a {kind.decode()} chunk at byte ")
    assert said[0].endswith(" is wrong; it was left out")


@pytest.mark.parametrize("length", [0, 3, 17, 1 << 20, (1 << 31) - 1, (1 << 32) - 1])
def test_a_wrong_length_costs_that_chunk_alone(tmp_path: Path, length: int) -> None:
    bad = struct.pack(">I", length) + chunk(b"tEXt", b"k\0some text that is long enough")[4:]
    image, said = read(tmp_path, png(7, 9, 8, 2, ROWS, bad, after=bad))
    np.testing.assert_array_equal(image.pixels, RGB)
    assert said


def test_damaged_profiles_and_exif_are_said(tmp_path: Path) -> None:
    for bad, what in (
        (chunk(b"iCCP", b"p\0\0no zlib"), "its colour profile is damaged and was left out"),
        (
            chunk(b"iCCP", b"p\0\0" + zlib.compress(b"short")),
            "its colour profile is damaged and was left out",
        ),
        (chunk(b"eXIf", b"junk" * 9), "its EXIF data are damaged and were left out"),
    ):
        image, said = read(tmp_path, png(7, 9, 8, 2, ROWS, bad))
        np.testing.assert_array_equal(image.pixels, RGB)
        assert image.icc is None
        assert said == [what]


def test_pixels_decide_where_their_checksum_or_the_end_is_wrong(tmp_path: Path) -> None:
    whole = png(7, 9, 8, 2, ROWS)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 9, 8, 2, 0, 0, 0))
    packed = zlib.compress(ROWS)
    image, said = read(tmp_path, SIGNATURE + header + chunk(b"IDAT", packed, damage=1) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(image.pixels, RGB)
    assert said[0].endswith("is wrong; its pixels are whole")
    image, said = read(tmp_path, whole[:-12])
    np.testing.assert_array_equal(image.pixels, RGB)
    assert said[0].endswith("(truncated); its pixels are whole")
    flipped = bytearray(packed)
    flipped[len(flipped) // 2] ^= 255
    for broken, reason in (
        (
            SIGNATURE + header + chunk(b"IDAT", bytes(flipped), 1) + chunk(b"IEND", b""),
            "checksum of a IDAT chunk",
        ),
        (whole[:-40], "truncated"),
        (SIGNATURE + chunk(b"IHDR", header[8:21], 1) + whole[33:], "checksum of a IHDR chunk"),
        (SIGNATURE + whole[33:], "no header"),
        (whole.replace(b"IDAT", b"iDAT"), "checksum of a iDAT chunk"),
        (SIGNATURE, "truncated"),
    ):
        with pytest.raises(DataError, match=reason):
            read(tmp_path, broken)


def test_cut_anywhere_is_read_or_refused_in_words(tmp_path: Path) -> None:
    whole = png(7, 9, 8, 2, ROWS, chunk(b"gAMA", bytes(4)), after=chunk(b"tEXt", b"k\0text"))
    path = tmp_path / "a.png"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with remarks_to(lambda text: None), contextlib.suppress(DataError):
            np.testing.assert_array_equal(read_image(path).pixels, RGB)


@pytest.mark.parametrize("place", ["before", "after"])
def test_orientation_is_found_on_both_sides_of_the_pixels(tmp_path: Path, place: str) -> None:
    turn = chunk(b"eXIf", EXIF)
    data = png(7, 9, 8, 2, ROWS, *([turn] * (place == "before")), after=turn * (place == "after"))
    image, _ = read(tmp_path, data)
    np.testing.assert_array_equal(image.pixels, np.rot90(RGB, -1))
    assert inspect_size(tmp_path / "a.png") == (9, 7)


def test_the_header_skips_small_pieces_of_pixels() -> None:
    noise = np.random.default_rng(0).bytes(1 << 20)
    pieces = b"".join(chunk(b"IDAT", noise[at : at + 8192]) for at in range(0, len(noise), 8192))
    start = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 600, 900, 8, 2, 0, 0, 0))
    decoy = chunk(b"tEXt", b"k\0 IDAT is a name IDAT")
    for middle in (pieces, chunk(b"IDAT", noise)):
        for after in (chunk(b"eXIf", EXIF), decoy + chunk(b"eXIf", EXIF), chunk(b"eXIf", EXIF) + decoy):
            content = read_png_header(start + middle + after + chunk(b"IEND", b""))
            assert content.exif == EXIF
            assert (content.width, content.height) == (600, 900)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Pillow.fromarray(RGB), Pillow.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    image, said = read(tmp_path, (tmp_path / "b.png").read_bytes())
    np.testing.assert_array_equal(image.pixels, RGB)
    assert said == ["holds 2 frames; only the first is used"]


def test_what_is_passed_to_decoders_is_bare() -> None:
    data = png(7, 9, 8, 2, ROWS, chunk(b"tEXt", b"k\0text"), after=chunk(b"eXIf", EXIF))
    bare = read_png(data).bare()
    assert b"tEXt" not in bare
    assert b"eXIf" not in bare
    assert zlib.decompress(bare[bare.index(b"IDAT") + 4 : -16]) == ROWS
    for plain in (png(7, 9, 8, 2, ROWS), png(7, 9, 8, 2, ROWS, chunk(b"pHYs", bytes(9)))):
        assert read_png(plain).bare() is plain


@pytest.mark.parametrize("colour", [0, 2, 3])
@pytest.mark.parametrize("interlaced", [0, 1])
def test_missing_rows_are_not_black_ones(tmp_path: Path, colour: int, interlaced: int) -> None:
    """A checksum that holds says nothing of rows that were never there."""
    channels = 3 if colour == 2 else 1
    before = (chunk(b"PLTE", bytes(range(256)) * 3),) if colour == 3 else ()
    size = unpacked_size(40, 34, 8 * channels, bool(interlaced))
    rows = b"\1" * (size - 1 - 40 * channels)  # filter 1, steps of 1
    header = struct.pack(">IIBBBBB", 40, 34, 8, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    data = b"".join([SIGNATURE, chunk(b"IHDR", header), *before, pixels, chunk(b"IEND", b"")])
    with pytest.raises(DataError, match="truncated"):
        read(tmp_path, data)


def test_a_palette_that_is_missing_is_not_invented(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 4, 8, 3, bytes(20)))
    for look in (read_image, read_header):
        with pytest.raises(DataError, match="its palette is missing"):
            look(path)


DEEP = np.random.default_rng(1).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
DEEP_ROWS = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
BAD_ZLIB = bytes([*zlib.compress(DEEP_ROWS)[:60], 0, 255, 0, 255, *zlib.compress(DEEP_ROWS)[64:]])


def test_decoders_print_nothing_of_sixteen_bits(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The library that decodes them would write lines of its own to stderr."""
    harmless = (
        chunk(b"gAMA", b"\0"),
        chunk(b"bKGD", bytes(1)),
        chunk(b"pHYs", b"x"),
        chunk(b"cHRM", bytes(31)),
    )
    for data in (
        png(7, 9, 16, 2, DEEP_ROWS, *harmless),
        png(7, 9, 16, 2, DEEP_ROWS + bytes(500)),  # more than there are rows
    ):
        image, _ = read(tmp_path, data)
        assert np.array_equal(image.pixels, DEEP)
    header = png(7, 9, 16, 2, b"").partition(b"IDAT")[0][:-4]
    broken = header + chunk(b"IDAT", BAD_ZLIB) + chunk(b"IEND", b"")
    for data in (png(7, 9, 16, 2, b"\7" + DEEP_ROWS[1:]), png(7, 9, 16, 2, DEEP_ROWS[:-20]), broken):
        (tmp_path / "b.png").write_bytes(data)
        with pytest.raises(DataError, match=r"b\.png: .*its compressed pixels cannot be decoded"):
            read_image(tmp_path / "b.png")
    assert capfd.readouterr() == ("", "")
