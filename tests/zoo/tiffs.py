"""TIFF: depths, modes, layouts and compressions, kinds of samples that are refused, pages, and damage."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tests.zoo.animals import Animal, Refused, Right, RightOrRefused, by_pillow, picture, right, tifffile
from tests.zoo.pngs import as_bytes, turned

LAYOUTS: dict[str, dict[str, Any]] = {
    "little-endian": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "tiles": {"tile": (16, 16)},
    "strips of 5 rows": {"rowsperstrip": 5},
    "deflated with prediction": {"compression": "zlib", "predictor": True},
}
MODES = {"gray": 1, "gray and alpha": 2, "RGB": 3, "RGBA": 4}


def tiff(samples: NDArray[Any], **options: object) -> bytes:
    """H x W x C, by tifffile."""
    buffer = io.BytesIO()
    channels = samples.shape[2]
    choices: dict[str, object] = {
        "photometric": "minisblack" if channels < 3 else "rgb",
        "planarconfig": "contig",
        "metadata": None,
    }
    if channels in (2, 4):
        choices["extrasamples"] = [2]
    if channels == 1:
        samples = samples[..., 0]
        choices.pop("planarconfig")
    tifffile.imwrite(buffer, samples, **choices | options)
    return buffer.getvalue()


def layouts() -> Iterator[Animal]:
    for kind in ("uint8", "uint16"):
        for mode, channels in MODES.items():
            samples = picture(channels, kind)
            for layout, options in LAYOUTS.items():
                name = f"{mode} of {8 * samples.itemsize} bits, {layout}"
                yield Animal("TIFF layouts", name, tiff(samples, **options), right(samples), ".tif")
        samples = picture(1, kind)
        name = f"white is zero, {8 * samples.itemsize} bits"
        inverted = tiff(samples, photometric="miniswhite")
        expected = right(np.iinfo(kind).max - samples)
        yield Animal("TIFF layouts", name, inverted, expected, ".tif")
        for orientation in range(1, 9):
            samples = picture(3, kind)
            data = tiff(samples, extratags=[(274, 3, 1, orientation, True)])
            name = f"TIFF of {8 * samples.itemsize} bits, {orientation}"
            upright = right(np.ascontiguousarray(turned(samples, orientation)))
            yield Animal("orientation", name, data, upright, ".tif")


def compressions() -> Iterator[Animal]:
    pictures = {
        "1": Pillow.fromarray(picture(1)[..., 0]).convert("1"),
        "L": Pillow.fromarray(picture(1)[..., 0]),
        "P": Pillow.fromarray(picture(3)).quantize(40),
        "RGB": Pillow.fromarray(picture(3)),
        "RGBA": Pillow.fromarray(picture(4)),
    }
    for mode, image in pictures.items():
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
            if (name == "jpeg" and mode not in ("L", "RGB")) or (name == "group4") != (mode == "1"):
                continue
            data = as_bytes(image, "TIFF", compression=name)
            array = np.array(image.convert("RGBA" if mode == "RGBA" else "RGB"))
            expected = Right(*by_pillow(data)) if name == "jpeg" else right(array)
            yield Animal("TIFF compressions", f"{mode}, {name}", data, expected, ".tif")


def kinds() -> Iterator[Animal]:
    """Samples and colours that are none of ours are refused by name; pages and channels are chosen."""
    for kind in ("float32", "float64", "float16", "int8", "int16", "int32", "uint32", "complex64"):
        samples = (picture(1).astype(np.float64) / 4).astype(kind)
        data = tiff(samples)
        yield Animal("TIFF kinds", kind, data, Refused("only unsigned 8 and 16 bit are read"), ".tif")
    for kind in ("uint8", "uint16"):
        bits = 8 * np.dtype(kind).itemsize
        samples, small = picture(3, kind), picture(3, kind, 9, 8)
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, samples.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", metadata=None
        )
        expected = right(samples) if bits == 8 else Refused("separate planes")
        yield Animal("TIFF kinds", f"separate planes of {bits} bits", buffer.getvalue(), expected, ".tif")
        for order in ((small, samples), (samples, small), (small, samples, small)):
            buffer = io.BytesIO()
            with tifffile.TiffWriter(buffer) as writer:
                for page in order:
                    writer.write(page, photometric="rgb", metadata=None)
            name = f"pages of {bits} bits, {[page.shape[0] for page in order]} high"
            chosen = right(samples, f"holds {len(order)} pages")
            yield Animal("TIFF kinds", name, buffer.getvalue(), chosen, ".tif")
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as writer:
            writer.write(picture(3, kind, 80, 90), photometric="rgb", subfiletype=1, metadata=None)
            writer.write(samples, photometric="rgb", metadata=None)
        thumbnail = f"a larger thumbnail of {bits} bits first"
        yield Animal("TIFF kinds", thumbnail, buffer.getvalue(), right(samples), ".tif")
        five = picture(5, kind)
        data = tiff(five, photometric="rgb", extrasamples=[2, 0])
        said = right(five[..., :4], "channels that are not transparency are not used")
        yield Animal("TIFF kinds", f"five channels of {bits} bits", data, said, ".tif")
        data = tiff(picture(4, kind), extrasamples=[0])
        said = right(picture(4, kind)[..., :3], "channels that are not transparency are not used")
        yield Animal("TIFF kinds", f"a fourth channel of {bits} bits that is no alpha", data, said, ".tif")
    cmyk = as_bytes(Pillow.fromarray(picture(4), "CMYK"), "TIFF")
    yield Animal("TIFF kinds", "CMYK", cmyk, Right(*by_pillow(cmyk)), ".tif")


# -- damage -----------------------------------------------------------------------------------------------


def entries_of(data: bytes) -> tuple[int, dict[int, int]]:
    """Where the first directory starts in a little-endian file, and the place of each tag's entry."""
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    places = range(start + 2, start + 2 + 12 * count, 12)
    return start, {struct.unpack_from("<H", data, at)[0]: at for at in places}


# Tag: its name, and values that cannot be. Those of a smaller picture could: nobody can tell.
WRONG = {
    256: ("width", (0, 42, 50_000, 2**31)),
    257: ("height", (0, 34, 50_000, 2**31)),
    258: ("bits", (0, 7, 32, 65535)),
    259: ("compression", (0, 7, 8, 60_000)),
    262: ("photometric", (5, 40_000)),
    273: ("place of a strip", (0, 4, 2**31)),
    277: ("channels", (0, 2, 200)),
    278: ("rows of a strip", (0, 5)),
    279: ("bytes of a strip", (0, 10)),
}


def damage() -> Iterator[Animal]:
    for kind in ("uint8", "uint16"):
        bits = 8 * np.dtype(kind).itemsize
        group = f"TIFF of {bits} bits, damaged"
        samples = picture(3, kind)
        for title, options in (("", {}), ("deflated, ", LAYOUTS["deflated with prediction"])):
            data = tiff(samples, **options)
            start, entries = entries_of(data)
            strip = struct.unpack_from("<I", data, entries[273] + 8)[0]
            behind = [at + 6 for at in entries.values()]
            cuts = [
                2,
                4,
                6,
                8,
                start,
                start + 1,
                *behind,
                strip,
                strip + 1,
                (strip + len(data)) // 2,
                len(data) - 1,
            ]
            for at in sorted({at for at in cuts if at < len(data)}):
                reason = "truncated|cannot be|not an image|directory"
                yield Animal(group, f"{title}cut at byte {at}", data[:at], Refused(reason), ".tif")
            for tag, (name, values) in WRONG.items():
                at = entries[tag]
                for value in values:
                    broken = bytearray(data)
                    kind_of_number = struct.unpack_from("<H", data, at + 2)[0]
                    count = struct.unpack_from("<I", data, at + 4)[0]
                    if kind_of_number == 3 and value > 65535:
                        continue
                    letter = "H" if kind_of_number == 3 else "I"
                    where = (
                        at + 8
                        if count * struct.calcsize(letter) <= 4
                        else struct.unpack_from("<I", data, at + 8)[0]
                    )
                    struct.pack_into(f"<{letter}", broken, where, value)
                    expected: Refused | RightOrRefused = RightOrRefused(samples)
                    yield Animal(group, f"{title}{name} {value}", bytes(broken), expected, ".tif")
                without = bytearray(data)
                struct.pack_into("<H", without, at, 65_000)
                yield Animal(group, f"{title}without {name}", bytes(without), RightOrRefused(samples), ".tif")
        data = tiff(samples)
        start, entries = entries_of(data)
        end = start + 2 + 12 * len(entries)
        for name, following in (("a circle of directories", start), ("a directory beyond the end", 2**31)):
            broken = bytearray(data)
            struct.pack_into("<I", broken, end, following)
            yield Animal(group, name, bytes(broken), right(samples), ".tif")


def tiffs() -> list[Animal]:
    if tifffile is None:
        return list(compressions())
    return [animal for make in (layouts, compressions, kinds, damage) for animal in make()]
