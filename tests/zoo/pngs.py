"""PNG: every depth and colour type, interlaced or not, filters, metadata, sizes, and every chunk damaged."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms

from deflow_cli.data.images.formats.png import SIGNATURE
from tests.data.images.formats.chunks import chunk, png
from tests.zoo.animals import Animal, Refused, Right, RightOrRefused, picture, right

# Colour type: its name, channels, and depths (PNG specification, table 11.1).
COLOURS = {
    0: ("gray", 1, (1, 2, 4, 8, 16)),
    2: ("RGB", 3, (8, 16)),
    3: ("palette", 1, (1, 2, 4, 8)),
    4: ("gray and alpha", 2, (8, 16)),
    6: ("RGBA", 4, (8, 16)),
}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def samples_of(colour: int, depth: int, height: int = 33, width: int = 41) -> NDArray[np.uint16]:
    """Samples as stored: H x W x C in ``depth`` bits."""
    deep = picture(COLOURS[colour][1], "uint16", height, width, seed=depth)
    return deep >> (16 - depth)


def packed(samples: NDArray[np.uint16], depth: int) -> list[bytes]:
    """The bytes of each row, without filters."""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def plain(samples: NDArray[np.uint16], depth: int) -> bytes:
    return b"".join(b"\0" + row for row in packed(samples, depth))


def interlaced(samples: NDArray[np.uint16], depth: int) -> bytes:
    """Adam7: seven reduced pictures, one after the other; those without pixels are left out."""
    parts = [samples[top::down, left::across] for top, left, down, across in ADAM7]
    return b"".join(plain(part, depth) for part in parts if part.size)


def palette(depth: int) -> NDArray[np.uint8]:
    return picture(3, height=1, width=2**depth)[0]


def spread(samples: NDArray[np.uint16], depth: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Samples of fewer than 8 bits spread over 0 to 255."""
    if depth == 16:
        return samples
    return (samples * (255 // (2**depth - 1))).astype(np.uint8)


def truth(samples: NDArray[np.uint16], colour: int, depth: int) -> Right:
    if colour == 3:
        return Right(palette(depth)[samples[..., 0]])
    return right(spread(samples, depth))


def depths() -> Iterator[Animal]:
    for colour, (title, _, allowed) in COLOURS.items():
        for depth in allowed:
            samples = samples_of(colour, depth)
            before = (chunk(b"PLTE", palette(depth).tobytes()),) if colour == 3 else ()
            height, width = samples.shape[:2]
            expected = truth(samples, colour, depth)
            data = png(width, height, depth, colour, plain(samples, depth), *before)
            yield Animal("PNG depths", f"{title} of {depth} bits", data, expected)
            woven = png(width, height, depth, colour, interlaced(samples, depth), *before)
            head = bytearray(woven[12:29])
            head[-1] = 1
            woven = woven[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + woven[33:]
            yield Animal("PNG depths", f"{title} of {depth} bits, interlaced", woven, expected)


def transparency() -> Iterator[Animal]:
    for colour in (0, 2):
        for depth in COLOURS[colour][2]:
            samples = samples_of(colour, depth)
            key = samples[5, 7]
            body = struct.pack(f">{len(key)}H", *key)
            hit = (samples == key).all(-1)
            full = truth(samples, colour, depth).pixels
            top = np.iinfo(full.dtype).max
            alpha = np.where(hit, 0, top).astype(full.dtype)
            height, width = hit.shape
            for title, more in (("", b""), (" and bytes behind it", b"xy")):
                data = png(width, height, depth, colour, plain(samples, depth), chunk(b"tRNS", body + more))
                name = f"transparent {COLOURS[colour][0]} of {depth} bits{title}"
                yield Animal("PNG transparency", name, data, Right(full, alpha))
    for depth in COLOURS[3][2]:
        for count in (1, 2**depth):
            samples = samples_of(3, depth)
            shares = np.full(2**depth, 255, np.uint8)
            shares[:count] = np.linspace(0, 200, count).astype(np.uint8)
            index = samples[..., 0]
            before = chunk(b"PLTE", palette(depth).tobytes()), chunk(b"tRNS", shares[:count].tobytes())
            data = png(index.shape[1], index.shape[0], depth, 3, plain(samples, depth), *before)
            name = f"palette of {depth} bits, {count} of its colours transparent"
            yield Animal("PNG transparency", name, data, Right(palette(depth)[index], shares[index]))


def filtered(samples: NDArray[np.uint16], depth: int, kind: int) -> bytes:
    """Rows under one filter of the specification, section 9, written from its formulas."""
    step = samples.shape[2] * depth // 8
    lines = [np.frombuffer(row, np.uint8).astype(np.int64) for row in packed(samples, depth)]
    out, above = b"", np.zeros_like(lines[0])
    for line in lines:
        left, corner = np.zeros_like(line), np.zeros_like(line)
        left[step:], corner[step:] = line[:-step], above[:-step]
        estimate = left + above - corner
        distances = np.stack([abs(estimate - each) for each in (left, above, corner)])
        paeth = np.choose(distances.argmin(0), [left, above, corner])  # the first of equals
        guess = (np.zeros_like(line), left, above, (left + above) // 2, paeth)[kind]
        out += bytes([kind]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        above = line
    return out


def filters() -> Iterator[Animal]:
    for depth in (8, 16):
        samples = samples_of(2, depth)
        for kind, title in enumerate(("none", "sub", "up", "average", "Paeth")):
            data = png(samples.shape[1], samples.shape[0], depth, 2, filtered(samples, depth, kind))
            yield Animal("PNG filters", f"{title}, {depth} bits", data, truth(samples, 2, depth))


def sizes() -> Iterator[Animal]:
    for height, width in ((1, 1), (1, 60), (60, 1), (2, 3), (7, 250), (129, 65), (64, 64)):
        for depth in (8, 16):
            samples = samples_of(2, depth, height, width)
            data = png(width, height, depth, 2, plain(samples, depth))
            yield Animal("sizes", f"{width}x{height}, {depth} bits", data, truth(samples, 2, depth))
    most = "more than 1073741824 pixels"
    rows = plain(samples_of(2, 8), 8)
    for width, height in ((2**31 - 1, 2**31 - 1), (100_000, 100_000), (2**31 - 1, 1)):
        data = png(width, height, 8, 2, rows)
        yield Animal("sizes", f"{width}x{height} by its header", data, Refused(most))
    for width, height in ((20_000, 20_000), (41, 34), (42, 33)):
        data = png(width, height, 8, 2, rows)
        reason = "truncated|broken|cannot be decoded|not enough"
        yield Animal("sizes", f"{width}x{height} by its header, 41x33 by its pixels", data, Refused(reason))
    for width, height in ((0, 33), (41, 0)):
        data = png(width, height, 8, 2, rows)
        yield Animal("sizes", f"{width}x{height} by its header", data, Refused("its header says"))


# -- metadata ---------------------------------------------------------------------------------------------

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> bytes:
    block = Pillow.Exif()
    block[274] = orientation
    return block.tobytes().removeprefix(b"Exif\0\0")


def turned(array: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Upright, by the words of the EXIF standard on where row 0 and column 0 are seen."""
    flips = {1: "", 2: "lr", 3: "r180", 4: "ud", 5: "t", 6: "r-90", 7: "at", 8: "r90"}[orientation]
    return {
        "": lambda a: a,
        "lr": np.fliplr,
        "ud": np.flipud,
        "r180": lambda a: np.rot90(a, 2),
        "t": lambda a: a.swapaxes(0, 1),
        "at": lambda a: np.rot90(a, 2).swapaxes(0, 1),
        "r-90": lambda a: np.rot90(a, -1),
        "r90": lambda a: np.rot90(a),
    }[flips](array)


def metadata() -> Iterator[Animal]:
    samples = samples_of(2, 8)
    height, width = samples.shape[:2]
    pixels = truth(samples, 2, 8).pixels
    rows = plain(samples, 8)

    def one(name: str, *before: bytes, said: str = "", after: bytes = b"") -> Animal:
        data = png(width, height, 8, 2, rows, *before, after=after)
        return Animal("PNG metadata", name, data, Right(pixels, None, said))

    def profile(body: bytes) -> bytes:
        return chunk(b"iCCP", b"name\0\0" + zlib.compress(body))

    yield one("sRGB profile", profile(SRGB))
    yield one("profile of 2 MB", profile(SRGB + bytes(2 << 20)))
    yield one("profile of 30 bytes", profile(bytes(30)), said="colour profile is damaged")
    yield one(
        "profile that does not unpack", chunk(b"iCCP", b"n\0\0nonsense"), said="colour profile is damaged"
    )
    yield one("profile without a name's end", chunk(b"iCCP", b"nonsense"), said="colour profile is damaged")
    yield one("XMP of 3 MB", chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * (3 << 20)))
    yield one("packed text of 40 MB", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(40 << 20))))
    yield one(
        "text with a wrong checksum", chunk(b"tEXt", b"k\0v", damage=1), said="checksum of a tEXt chunk"
    )
    yield one("text that is none", chunk(b"iTXt", b"\0"))
    yield one("EXIF that is none", chunk(b"eXIf", b"nonsense"), said="EXIF")
    yield one("EXIF that ends early", chunk(b"eXIf", exif(6)[:11]), said="EXIF")
    yield one(
        "gamma, primaries, background",
        *(
            chunk(kind, bytes(size))
            for kind, size in ((b"gAMA", 4), (b"cHRM", 32), (b"bKGD", 6), (b"tIME", 7))
        ),
    )
    yield one("an unknown chunk", chunk(b"prVt", b"anything"))
    yield one("two hundred unknown chunks", *(chunk(b"prVt", bytes([i])) for i in range(200)))
    yield one("text behind the pixels", after=chunk(b"tEXt", b"k\0v"))
    frames = chunk(b"acTL", struct.pack(">II", 3, 0))
    yield one("three frames", frames, said="3 frames; only the first is used")
    data = png(width, height, 8, 2, rows)
    yield Animal("PNG metadata", "bytes behind the end", data + b"more" * 50, Right(pixels))
    yield Animal("PNG metadata", "a second PNG behind the end", data + data, Right(pixels))
    for depth in (8, 16):
        for orientation in range(1, 9):
            samples = samples_of(2, depth)
            data = png(width, height, depth, 2, plain(samples, depth), chunk(b"eXIf", exif(orientation)))
            expected = Right(np.ascontiguousarray(turned(spread(samples, depth), orientation)))
            yield Animal("orientation", f"PNG of {depth} bits, {orientation}", data, expected)


# -- damage -----------------------------------------------------------------------------------------------


def chunks_of(data: bytes) -> list[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk."""
    found, position = [], len(SIGNATURE)
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, position, position + 12 + length))
        position += 12 + length
    return found


def specimen(depth: int) -> tuple[bytes, Right]:
    """A file with chunks of all sorts, its pixels in three."""
    samples = samples_of(3, depth) if depth == 8 else samples_of(2, depth)
    colour = 3 if depth == 8 else 2
    body = zlib.compress(plain(samples, depth))
    third = len(body) // 3
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, 0)
    parts = [SIGNATURE, chunk(b"IHDR", head), chunk(b"gAMA", struct.pack(">I", 45455))]
    parts += [chunk(b"PLTE", palette(8).tobytes())] if colour == 3 else []
    parts += [chunk(b"tEXt", b"k\0value")]
    parts += [chunk(b"IDAT", piece) for piece in (body[:third], body[third : 2 * third], body[2 * third :])]
    parts += [chunk(b"tEXt", b"k\0value"), chunk(b"IEND", b"")]
    return b"".join(parts), truth(samples, colour, depth)


def damage() -> Iterator[Animal]:
    for depth in (8, 16):
        data, expected = specimen(depth)
        pixels = expected.pixels
        group = f"PNG of {depth} bits, damaged"
        places = chunks_of(data)
        last = max(end for kind, _, end in places if kind == b"IDAT")
        for number, (kind, start, end) in enumerate(places):
            title = f"chunk {number} ({kind.decode()})"
            for where, at in (
                ("before", start),
                ("in the length of", start + 2),
                ("in", (start + end) // 2),
                ("before the checksum of", end - 4),
                ("in the checksum of", end - 2),
            ):
                whole = at >= last - 4
                cut = Right(pixels, None, "whole") if whole else Refused("truncated|ends|not an image")
                yield Animal(group, f"cut {where} {title}", data[:at], cut)
            broken = bytearray(data)
            broken[end - 1] ^= 1
            flipped: Right | Refused = (
                Refused("checksum") if kind in (b"IHDR", b"PLTE") else Right(pixels, None, "checksum")
            )
            yield Animal(group, f"checksum of {title}", bytes(broken), flipped)
            for change in (1, -1, 1000, 2**31):
                broken = bytearray(data)
                length = struct.unpack_from(">I", data, start)[0]
                struct.pack_into(">I", broken, start, (length + change) % 2**32)
                unsure = RightOrRefused(pixels)
                yield Animal(group, f"length of {title} {change:+}", bytes(broken), unsure)
            without = data[:start] + data[end:]
            needed = kind in (b"IHDR", b"IDAT", b"PLTE")
            gone = (
                RightOrRefused(pixels) if needed else Right(pixels, None, "whole" if kind == b"IEND" else "")
            )
            yield Animal(group, f"without {title}", without, gone)
        for name, at, value, reason in (
            ("depth 3", 24, 3, "its header says"),
            ("colour type 5", 25, 5, "colour type 5"),
            ("compression 1", 26, 1, "names compression 1"),
            ("filter method 1", 27, 1, "filter 1"),
            ("interlace 2", 28, 2, "interlace 2"),
        ):
            broken = bytearray(data)
            broken[at] = value
            struct.pack_into(">I", broken, 29, zlib.crc32(broken[12:29]))
            yield Animal(group, f"header says {name}", bytes(broken), Refused(reason))
        yield Animal(group, "the signature alone", data[:8], Refused("ends after 8|no header"))
        yield Animal(group, "half the signature", data[:5], Refused("not an image"))
        text = data.replace(b"\r\n", b"\n")
        yield Animal(group, "copied as text, line ends changed", text, Refused("not an image|broken|cannot"))


def pngs() -> list[Animal]:
    makers = (depths, transparency, filters, sizes, metadata, damage)
    return [animal for make in makers for animal in make()]


def png_of(samples: NDArray[np.generic]) -> bytes:
    """The simplest PNG of H x W x C samples, which the tests of depths compare with other decoders."""
    height, width, channels = samples.shape
    depth, colour = 8 * samples.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(width, height, depth, colour, plain(samples.astype(np.uint16), depth))


def plain_file(expected: Right) -> bytes:
    """The simplest PNG of these pixels, gray where they are."""
    colours, alpha = expected.pixels, expected.alpha
    if (colours == colours[..., :1]).all():
        colours = colours[..., :1]
    return png_of(colours if alpha is None else np.concatenate([colours, alpha[..., None]], -1))


def as_bytes(image: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
