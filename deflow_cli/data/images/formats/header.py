"""Headers: size, orientation and transparency of an image, the same whether its pixels are decoded or not."""

from __future__ import annotations

import contextlib
import io
import mmap
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image as Pillow

from deflow_cli.data.images.formats.exif import Exif, exif_of_block, exif_of_opened
from deflow_cli.data.images.formats.opening import DECODE_ERRORS, check_size, open_header
from deflow_cli.data.images.formats.png import PngContent, is_png, read_png_header
from deflow_cli.data.images.formats.tiff import TiffFile, is_tiff
from deflow_cli.data.images.formats.webp import is_webp, without_cut_metadata

_SEVERAL = "hold several frames or pages, of which one is used"
_HEAD = 1 << 16
_TURNED_BY_DECODER = ("HEIF", "JXL")  # their EXIF orientation repeats what the decoder has done already


@dataclass(frozen=True)
class Note:
    """Something worth saying of a file. kind: the text without what differs between files."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image. width, height: upright. orientation: 1 to 8, how it is stored.

    format: by Pillow's name. exif: the block to carry on, None without one.
    """

    width: int
    height: int
    orientation: int
    has_alpha: bool
    format: str
    exif: bytes | None = None
    notes: tuple[Note, ...] = ()

    @classmethod
    def of_stored(
        cls, size: tuple[int, int], exif: Exif, has_alpha: bool, name: str, notes: tuple[str, ...] = ()
    ) -> ImageHeader:
        """size: as stored, which the orientation may turn. notes: with empty ones."""
        check_size(*size)
        width, height = size[::-1] if exif.orientation >= 5 else size
        several = tuple(Note(text, _SEVERAL) for text in notes if text)
        damaged = (Note(exif.note),) if exif.note else ()
        return cls(width, height, exif.orientation, has_alpha, name, exif.block, several + damaged)


def header_of(path: Path) -> ImageHeader:
    """The header of a file. Raises one of DECODE_ERRORS where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(12)
        if is_png(head) or is_tiff(head):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if is_png(head):
                    return header_of_png(read_png_header(data))
                tiff = TiffFile(data)
                tiff.check()
            return _header_of_tiff_at(path, tiff)
    if is_webp(head):  # which Pillow reads as a whole too
        data_of_webp, cut = without_cut_metadata(path.read_bytes())
        with open_header(io.BytesIO(data_of_webp)) as opened:
            return header_of_opened(opened, cut)
    with open_header(path) as opened:
        if opened.format != "MPO":
            return header_of_opened(opened)
    return header_of_pictures(path.read_bytes())


def _header_of_tiff_at(path: Path, tiff: TiffFile) -> ImageHeader:
    if tiff.main is not tiff.pages[0]:  # Pillow would open the first
        return header_of_tiff(tiff, None)
    try:
        with open_header(path) as opened:
            return header_of_tiff(tiff, opened)
    except Pillow.UnidentifiedImageError:
        if tiff.main.bits != 16:
            raise
        return header_of_tiff(tiff, None)  # 16 bits are decoded without Pillow


def header_of_png(content: PngContent) -> ImageHeader:
    frames = f"holds {content.frames} frames; only the first is used" if content.frames > 1 else ""
    size = content.width, content.height
    return ImageHeader.of_stored(size, exif_of_block(content.exif), content.has_alpha, "PNG", (frames,))


def header_of_tiff(tiff: TiffFile, opened: Pillow.Image | None) -> ImageHeader:
    """opened: by Pillow, for the EXIF data; None where Pillow cannot open it, which loses them only."""
    page = tiff.main
    exif = (exif_of_opened(opened) if opened is not None else Exif())._replace(orientation=page.orientation)
    ignored = page.extra_channels - page.has_alpha
    dropped = f"channels that are not transparency are not used ({ignored})" if ignored else ""
    size = page.width, page.height
    return ImageHeader.of_stored(size, exif, page.has_alpha, "TIFF", (tiff.note, dropped))


def header_of_opened(opened: Pillow.Image, cut: str = "") -> ImageHeader:
    """The header of an image of another format, opened by Pillow; of several frames that of the first.

    cut: a note on metadata that are cut off; empty where they are whole. Raises ValueError where the samples
    are of a kind that is not read.
    """
    name, frames, notes = opened.format or "", 1, [cut]
    with contextlib.suppress(*DECODE_ERRORS):  # damage behind the first frame does not harm it
        frames = int(getattr(opened, "n_frames", 1))
    if frames > 1 and name != "MPO":
        notes.append(f"holds {frames} frames; only the first is used")
    exif = exif_of_opened(opened)
    if name in _TURNED_BY_DECODER:
        exif = exif._replace(orientation=1)
    bits = _bits(opened)
    if bits > 8 and name == "JPEG2000":
        raise ValueError(f"it holds samples of {bits} bits; JPEG 2000 is read with up to 8")
    if bits > 8:
        notes.append(f"its {bits} bits are read as 8")
    has_alpha = opened.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in opened.info
    return ImageHeader.of_stored(opened.size, exif, has_alpha, name, tuple(notes))


def header_of_pictures(data: bytes) -> ImageHeader:
    """The header of the largest picture of an MPO file."""
    part, note = main_picture(data)
    with open_header(io.BytesIO(part)) as opened:
        header = header_of_opened(opened)
    return replace(header, notes=(*((Note(note, _SEVERAL),) if note else ()), *header.notes))


def main_picture(data: bytes) -> tuple[bytes, str]:
    """Of a file with several JPEG pictures (MPO) the largest, the first of equals, and what is left out.

    Other files are returned as they are.
    """
    if data[:3] != b"\xff\xd8\xff":
        return data, ""
    pictures: list[tuple[int, int, bytes]] = []
    with open_header(io.BytesIO(data)) as opened:
        if opened.format != "MPO":
            return data, ""
        entries = getattr(opened, "mpinfo", {}).get(0xB002, [])
    base = data.find(b"MPF\0") + 4  # CIPA DC-007, 5.2.2: offsets count from behind the segment's name
    for entry in entries:
        part = data[entry["DataOffset"] + base :] if pictures else data
        try:
            with open_header(io.BytesIO(part)) as picture:
                pictures.append((*picture.size, part))
        except DECODE_ERRORS:  # the list of pictures is damaged behind this one
            break
    if not pictures:
        return data, ""
    width, height, part = max(pictures, key=lambda picture: picture[0] * picture[1])
    number = 1 + next(index for index, picture in enumerate(pictures) if picture[2] is part)
    left = f"holds {len(entries)} pictures; only picture {number} ({width}x{height}) is used"
    return part, left if len(entries) > 1 else ""


def _bits(opened: Pillow.Image) -> int:
    """Bits of a sample in the file, which can be more than Pillow gives."""
    known = opened.info.get("bit_depth")
    if isinstance(known, int):
        return known
    file = getattr(opened, "fp", None)
    if file is None or opened.format not in ("JPEG2000", "AVIF"):
        return 8
    place = file.tell()
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(place)
    if opened.format == "JPEG2000":
        at = head.find(b"\xff\x4f\xff\x51") + 42  # of the first component, in the codestream's second marker
        return (head[at] & 127) + 1 if 42 <= at < len(head) else 8
    at = head.find(b"av1C") + 6  # bits 6 and 5 of that byte: more than 8, and 12
    flags = head[at] if 6 <= at < len(head) else 0
    return 12 if flags & 0x20 else 10 if flags & 0x40 else 8
