"""JPEG, WebP, BMP, GIF, TGA, JPEG 2000, AVIF, and files that are no pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image as Pillow
from PIL import features

from tests.zoo.animals import Animal, Refused, Right, RightOrRefused, by_pillow, picture, right
from tests.zoo.pngs import SRGB, as_bytes, exif, turned

Pillow.init()


def image(channels: int = 3, **size: int) -> Pillow.Image:
    samples = picture(channels, **size)
    return Pillow.fromarray(samples[..., 0] if channels == 1 else samples)


def seen(data: bytes, said: str = "") -> Right:
    """What Pillow sees, for lossy files, of which no array is known."""
    return Right(*by_pillow(data), said)


# -- JPEG -------------------------------------------------------------------------------------------------


def segments_of(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the compressed pixels."""
    found, position = [], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        found.append((data[position + 1], position, end))
        position = end
    return [*found, (0xDA, position, position + 2 + struct.unpack_from(">H", data, position + 2)[0])]


def jpegs() -> Iterator[Animal]:
    kinds: dict[str, dict[str, object]] = {
        "plain": {},
        "progressive": {"progressive": True},
        "optimized": {"optimize": True},
        "restart markers": {"restart_marker_blocks": 2},
        "quality 20": {"quality": 20},
        "quality 100": {"quality": 100},
    }
    for mode in ("L", "RGB"):
        for name, options in kinds.items():
            for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
                data = as_bytes(image(1 if mode == "L" else 3), "JPEG", subsampling=subsampling, **options)
                yield Animal("JPEG", f"{mode}, {name}, subsampling {subsampling}", data, seen(data), ".jpg")
    for size in ((1, 1), (1, 60), (60, 1), (8, 8), (9, 17), (129, 250)):
        data = as_bytes(image(3, height=size[0], width=size[1]), "JPEG")
        yield Animal("JPEG", f"{size[1]}x{size[0]}", data, seen(data), ".jpg")
    cmyk = Pillow.fromarray(picture(4), "CMYK")
    yield Animal("JPEG", "CMYK of Adobe", (data := as_bytes(cmyk, "JPEG")), seen(data), ".jpg")
    big = b"x" * 60_000
    for name, options in (
        ("sRGB profile", {"icc_profile": SRGB}),
        ("profile of 200 kB", {"icc_profile": SRGB + bytes(200_000)}),
        ("comment", {"comment": big}),
        ("XMP", {"xmp": b"<x:xmpmeta/>"}),
    ):
        data = as_bytes(image(), "JPEG", **options)
        yield Animal("JPEG", name, data, seen(data), ".jpg")
    data = as_bytes(image(), "JPEG", exif=b"Exif\0\0nonsense")
    yield Animal("JPEG", "EXIF that is none", data, seen(as_bytes(image(), "JPEG"), "EXIF"), ".jpg")
    for orientation in range(1, 9):
        upright = turned(by_pillow(as_bytes(image(), "JPEG"))[0], orientation)
        data = as_bytes(image(), "JPEG", exif=b"Exif\0\0" + exif(orientation))
        expected = Right(np.ascontiguousarray(upright))
        yield Animal("orientation", f"JPEG, {orientation}", data, expected, ".jpg")
    data = as_bytes(image(), "JPEG")
    yield Animal("JPEG", "bytes behind the end", data + b"more" * 99, seen(data), ".jpg")
    yield Animal("JPEG", "two in one file", data + data, seen(data), ".jpg")
    pictures = [image(3, height=20, width=30), image()]
    data = as_bytes(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    larger = Right(*by_pillow(as_bytes(pictures[1], "JPEG")), "holds 2 pictures; only picture 2")
    yield Animal("JPEG", "MPO, the second larger", data, larger, ".mpo")


def damaged_jpegs() -> Iterator[Animal]:
    data = as_bytes(image(), "JPEG", exif=b"Exif\0\0" + exif(1), comment=b"word", icc_profile=SRGB)
    whole = by_pillow(data)[0]
    refused = Refused("truncated|cannot be|not an image")
    for number, (marker, start, end) in enumerate(segments_of(data)):
        title = f"segment {number} (FF{marker:02X})"
        for where, at in (("before", start), ("in the length of", start + 3), ("in", (start + end) // 2)):
            yield Animal("JPEG, damaged", f"cut {where} {title}", data[:at], refused, ".jpg")
        for change in (-1, 1, 500, -500):
            broken = bytearray(data)
            length = struct.unpack_from(">H", data, start + 2)[0]
            struct.pack_into(">H", broken, start + 2, (length + change) % 65536)
            name = f"length of {title} {change:+}"
            yield Animal("JPEG, damaged", name, bytes(broken), RightOrRefused(whole), ".jpg")
    scan = segments_of(data)[-1][2]
    for share in (0.0, 0.3, 0.9):
        at = scan + int((len(data) - scan - 2) * share)
        yield Animal("JPEG, damaged", f"cut at {share:.0%} of its pixels", data[:at], refused, ".jpg")
    for name, marker, reason in (
        ("lossless", 0xC3, "cannot be"),
        ("arithmetic", 0xCA, "cannot be"),
        ("JPEG-LS", 0xF7, "cannot|not an"),
    ):
        broken = bytearray(data)
        frame = next(start for each, start, _ in segments_of(data) if each == 0xC0)
        broken[frame + 1] = marker
        yield Animal("JPEG, damaged", f"said to be {name}", bytes(broken), Refused(reason), ".jpg")
    broken = bytearray(data)
    broken[frame + 4] = 12
    yield Animal(
        "JPEG, damaged", "said to be of 12 bits", bytes(broken), Refused("cannot be|not an image"), ".jpg"
    )
    broken = bytearray(data)
    struct.pack_into(">HH", broken, frame + 5, 0, 0)
    yield Animal(
        "JPEG, damaged", "0x0 by its header", bytes(broken), Refused("cannot be|not an image"), ".jpg"
    )
    struct.pack_into(">HH", broken, frame + 5, 65_500, 65_500)
    yield Animal("JPEG, damaged", "65500x65500 by its header", bytes(broken), Refused("more than"), ".jpg")


# -- WebP -------------------------------------------------------------------------------------------------


def riff_of(data: bytes) -> list[tuple[bytes, int, int]]:
    found, position = [], 12
    while position + 8 <= len(data):
        length = struct.unpack_from("<I", data, position + 4)[0]
        end = position + 8 + length + length % 2
        found.append((data[position : position + 4], position, end))
        position = end
    return found


def webps() -> Iterator[Animal]:
    for channels in (3, 4):
        samples = picture(channels)
        data = as_bytes(image(channels), "WEBP", lossless=True, exact=True)
        yield Animal("WebP", f"lossless, {channels} channels", data, right(samples), ".webp")
        for quality in (10, 90):
            data = as_bytes(image(channels), "WEBP", quality=quality)
            yield Animal("WebP", f"quality {quality}, {channels} channels", data, seen(data), ".webp")
    lossless = {"lossless": True, "exact": True}
    for size in ((1, 1), (1, 60), (60, 1), (129, 250)):
        samples = picture(3, height=size[0], width=size[1])
        data = as_bytes(Pillow.fromarray(samples), "WEBP", **lossless)
        yield Animal("WebP", f"{size[1]}x{size[0]}", data, right(samples), ".webp")
    for orientation in range(1, 9):
        data = as_bytes(image(), "WEBP", exif=b"Exif\0\0" + exif(orientation), **lossless)
        upright = np.ascontiguousarray(turned(picture(3), orientation))
        yield Animal("orientation", f"WebP, {orientation}", data, right(upright), ".webp")
    data = as_bytes(image(), "WEBP", icc_profile=SRGB, xmp=b"<x/>", **lossless)
    yield Animal("WebP", "sRGB profile and XMP", data, right(picture(3)), ".webp")
    yield Animal("WebP", "bytes behind the end", data + b"more" * 9, right(picture(3)), ".webp")
    frames = [Pillow.fromarray(picture(3, seed=1))]
    moving = as_bytes(image(), "WEBP", save_all=True, append_images=frames, **lossless)
    first = Right(picture(3), None, "holds 2 frames")
    yield Animal("WebP", "two frames", moving, first, ".webp")
    yield from webps_cut_behind_their_picture()
    refused = Refused("cannot be|not an image|truncated")
    for number, (kind, start, end) in enumerate(riff_of(data)):
        title = f"chunk {number} ({kind.decode().strip()})"
        needed = kind in (b"VP8X", b"VP8L", b"ICCP")
        for where, at in (("before", start), ("in", (start + end) // 2)):
            expected = refused if needed else Right(picture(3), None, "metadata are cut off")
            yield Animal("WebP, damaged", f"cut {where} {title}", data[:at], expected, ".webp")
        for change in (-2, 2, 10_000):
            broken = bytearray(data)
            length = struct.unpack_from("<I", data, start + 4)[0]
            struct.pack_into("<I", broken, start + 4, (length + change) % 2**32)
            unsure = RightOrRefused(picture(3))
            yield Animal("WebP, damaged", f"length of {title} {change:+}", bytes(broken), unsure, ".webp")


def webps_cut_behind_their_picture() -> Iterator[Animal]:
    """With EXIF data and XMP behind the picture, of which some bytes, or a whole one, are there."""
    for channels in (3, 4):
        samples = picture(channels)
        blocks = {"exif": b"Exif\0\0" + exif(1), "xmp": b"<x>" + b"y" * 41 + b"</x>"}
        data = as_bytes(image(channels), "WEBP", lossless=True, exact=True, **blocks)
        said = replace(right(samples), said="metadata are cut off")
        for kind, start, end in riff_of(data):
            if kind in (b"EXIF", b"XMP "):
                for at in (start, start + 2, start + 6, start + 8, (start + end) // 2, end - 2):
                    title = f"{channels} channels, cut in {kind.decode().strip()} at {at - start}"
                    yield Animal("WebP, damaged", title, data[:at], said, ".webp")


# -- BMP, GIF, TGA ----------------------------------------------------------------------------------------


def bmp(
    rows: list[bytes],
    width: int,
    bits: int,
    *,
    palette: bytes = b"",
    compression: int = 0,
    masks: bytes = b"",
    top_down: bool = False,
    height: int | None = None,
) -> bytes:
    """By hand, from the structure of BITMAPINFOHEADER."""
    body = b"".join(row + bytes(-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    start = 54 + len(masks) + len(palette)
    tall = len(rows) if height is None else height
    info = struct.pack(
        "<IiiHHIIiiII",
        40,
        width,
        -tall if top_down else tall,
        1,
        bits,
        compression,
        len(body),
        0,
        0,
        len(palette) // 4,
        0,
    )
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + masks + palette + body


def bmps() -> Iterator[Animal]:
    samples = picture(3)
    height, width = samples.shape[:2]
    rows = [row[:, ::-1].tobytes() for row in samples]
    for top_down in (False, True):
        way = "from the top" if top_down else "from the bottom"
        yield Animal(
            "BMP", f"24 bits, {way}", bmp(rows, width, 24, top_down=top_down), right(samples), ".bmp"
        )
    for bits in (1, 4, 8):
        colours = picture(3, height=1, width=2**bits)[0]
        index = picture(1, "uint16")[..., 0] >> (16 - bits)
        table = b"".join(bytes([*colour[::-1], 0]) for colour in colours)
        shown = (index[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        lines = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in shown]
        yield Animal(
            "BMP",
            f"palette of {bits} bits",
            bmp(lines, width, bits, palette=table),
            right(colours[index]),
            ".bmp",
        )
        if bits == 8:
            runs = [
                b"".join(bytes([1, value]) for value in row.astype(np.uint8).tobytes()) + b"\0\0"
                for row in index
            ]
            body = b"".join(runs[::-1]) + b"\0\1"
            packed = bmp([body], width, 8, palette=table, compression=1, height=height)
            yield Animal("BMP", "runs of 8 bits", packed, right(colours[index]), ".bmp")
    five = [
        np.uint16((row >> 3).astype(np.uint16) @ np.array([1024, 32, 1], np.uint16)).tobytes()
        for row in samples
    ]
    yield Animal("BMP", "15 bits", (data := bmp(five, width, 16)), seen(data), ".bmp")
    yield Animal(
        "BMP", "32 bits with alpha", as_bytes(image(4), "BMP"), seen(as_bytes(image(4), "BMP")), ".bmp"
    )
    data = bmp(rows, width, 24)
    refused = Refused("truncated|cannot be|not an image")
    for at in (1, 2, 10, 14, 18, 30, 53, 54, 60, len(data) // 2, len(data) - 2):
        yield Animal("BMP, damaged", f"cut at byte {at}", data[:at], refused, ".bmp")
    for name, at, values in (
        ("width", 18, (0, 50_000_000, 2**31 - 1)),
        ("height", 22, (0, 34, 2**30)),
        ("bits", 28, (0, 7, 64)),
        ("compression", 30, (3, 4, 99)),
        ("start", 10, (0, 2**31)),
    ):
        for value in values:
            broken = bytearray(data)
            struct.pack_into("<H" if name == "bits" else "<I", broken, at, value)
            yield Animal("BMP, damaged", f"{name} {value}", bytes(broken), RightOrRefused(samples), ".bmp")


def small_formats() -> Iterator[Animal]:
    for interlace in (0, 1):
        data = as_bytes(image().quantize(60), "GIF", interlace=interlace)
        shown = np.array(image().quantize(60).convert("RGB"))
        yield Animal("GIF", f"interlace {interlace}", data, right(shown), ".gif")
    data = as_bytes(image().quantize(60), "GIF", transparency=3)
    yield Animal("GIF", "a transparent colour", data, seen(data), ".gif")
    others = [image(3).rotate(90 * turn).quantize(60) for turn in (1, 2)]
    moving = as_bytes(image().quantize(60), "GIF", save_all=True, append_images=others)
    yield Animal("GIF", "three frames", moving, seen(moving, "holds 3 frames"), ".gif")
    for at in (3, 6, 10, 100, len(data) // 2):
        refused = Refused("truncated|cannot be|not an image")
        yield Animal("GIF", f"cut at byte {at}", data[:at], refused, ".gif")
    for channels in (1, 3, 4):
        for options in ({}, {"compression": "tga_rle"}, {"orientation": 1}):
            data = as_bytes(image(channels), "TGA", **options)
            name = f"{channels} channels, {options or 'plain'}"
            yield Animal("TGA", name, data, right(picture(channels)), ".tga")
    for at in (10, 18, 500):
        refused = Refused("truncated|cannot be|not an image")
        yield Animal("TGA", f"cut at byte {at}", as_bytes(image(), "TGA")[:at], refused, ".tga")
    if features.check("jpg_2000"):
        for channels in (1, 3, 4):
            data = as_bytes(image(channels), "JPEG2000", irreversible=False)
            yield Animal("JPEG 2000", f"{channels} channels", data, right(picture(channels)), ".jp2")
        data = as_bytes(image(), "JPEG2000", irreversible=True, quality_layers=[20])
        yield Animal("JPEG 2000", "lossy", data, seen(data), ".jp2")
        deep = as_bytes(Pillow.fromarray(picture(1, "uint16")[..., 0]), "JPEG2000")
        yield Animal("JPEG 2000", "16 bits", deep, Refused("16 bits; JPEG 2000 is read with up to 8"), ".jp2")
        for at in (5, 40, 100, len(data) // 2):
            refused = Refused("truncated|cannot be|not an image")
            yield Animal("JPEG 2000", f"cut at byte {at}", data[:at], refused, ".jp2")
    if features.check("avif"):
        for channels in (3, 4):
            for quality in (40, 100):
                data = as_bytes(image(channels), "AVIF", quality=quality)
                name = f"{channels} channels, quality {quality}"
                yield Animal("AVIF", name, data, seen(data), ".avif")
        for at in (5, 40, 200, len(data) // 2):
            refused = Refused("truncated|cannot be|not an image")
            yield Animal("AVIF", f"cut at byte {at}", data[:at], refused, ".avif")


def no_pictures() -> Iterator[Animal]:
    unknown = Refused("not an image in a known format")
    yield Animal("no pictures", "empty", b"", Refused("the file is empty"))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    for name, data in (
        ("text", b"not a picture\n"),
        ("a web page", b"<!doctype html><title>404</title>"),
        ("an LFS pointer", pointer),
        ("zeros", bytes(5000)),
        ("one byte", b"\x89"),
        ("SVG", b"<svg xmlns=''/>"),
        ("a tar file", b"a.png" + bytes(252) + b"ustar\0" + bytes(2000)),
        ("random bytes", bytes(picture(3, seed=9))),
    ):
        yield Animal("no pictures", name, data, unknown)
    for kind, suffix in (
        ("PNG", ".jpg"),
        ("JPEG", ".png"),
        ("WEBP", ".tif"),
        ("TIFF", ".png"),
        ("BMP", ".webp"),
    ):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        data = as_bytes(image(), kind, **options)
        yield Animal("wrong suffixes", f"{kind} named {suffix}", data, seen(data), suffix)


def others() -> list[Animal]:
    makers = (jpegs, damaged_jpegs, webps, bmps, small_formats, no_pictures)
    return [animal for make in makers for animal in make()]
