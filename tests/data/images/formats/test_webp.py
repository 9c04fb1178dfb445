"""WebP files that were cut: metadata cost no pixels, and the header agrees with the pixels."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from deflow_cli.data.images.files import read_header, read_image
from deflow_cli.data.images.formats.webp import CUT_METADATA, without_cut_metadata
from deflow_cli.data.images.remarks import remarks_to
from deflow_cli.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # turned by a quarter


def webp(**metadata: bytes) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(PIXELS).save(file, "WEBP", lossless=True, exact=True, **metadata)
    return file.getvalue()


def test_whole_files_and_others_are_as_they_are() -> None:
    for data in (webp(), webp(exif=EXIF, xmp=b"<x/>"), b"", b"RIFF", b"\x89PNG"):
        assert without_cut_metadata(data) == (data, "")


def test_every_cut_behind_the_picture_is_read_and_every_other_refused(tmp_path: Path) -> None:
    data, path = webp(exif=EXIF, xmp=b"<x>yyy</x>"), tmp_path / "a.webp"
    start, xmp = data.index(b"VP8L"), data.index(b"XMP ", 40)
    picture_end = start + 8 + struct.unpack_from("<I", data, start + 4)[0]
    for end in range(len(data) - 1, picture_end - 3, -1):
        path.write_bytes(data[:end])
        told: list[str] = []
        if end < picture_end:
            with pytest.raises(DataError, match=r"a\.webp"):
                read_image(path)
            continue
        with remarks_to(told.append):
            image, header = read_image(path), read_header(path)
        turned = end >= xmp  # the EXIF data are whole
        assert np.array_equal(image.pixels, np.rot90(PIXELS, -1) if turned else PIXELS)
        assert (header.height, header.width) == image.pixels.shape[:2]
        assert told == [f"{path}: {CUT_METADATA}"]


def test_frames_that_are_cut_off_are_no_metadata(tmp_path: Path) -> None:
    file = io.BytesIO()
    others = [Pillow.fromarray(255 - PIXELS)]
    Pillow.fromarray(PIXELS).save(file, "WEBP", save_all=True, append_images=others, lossless=True)
    data = file.getvalue()[:-40]
    assert without_cut_metadata(data) == (data, "")
