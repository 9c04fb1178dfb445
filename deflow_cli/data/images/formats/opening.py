"""Opening with Pillow: without its limit on size, and with what may be raised for a broken file."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as Pillow
from PIL import _imaging

from deflow_cli.data.images.formats.known import read_suffixes

MAX_PIXELS = 1 << 30
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    RuntimeError,
    AttributeError,
    struct.error,
    zlib.error,
    Pillow.DecompressionBombError,
)
# What Pillow warns of is noticed here, or costs nothing; printed as it is, it would puzzle users.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")
_pillow_limit = threading.Lock()
# Likewise what it logs, unless the program that uses us listens.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def _silence_libtiff() -> None:
    """Keep Pillow's libtiff from printing lines on the standard error, which name no file.

    What costs pixels is an error all the same, and told with the file's name.
    """
    with contextlib.suppress(OSError, AttributeError):  # a Pillow built otherwise goes on printing
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


_silence_libtiff()


@contextmanager
def open_header(source: Path | io.BytesIO) -> Iterator[Pillow.Image]:
    """Open an image lazily with Pillow, without its limit on the size of photographs.

    Pillow's limit is a global; it is lifted under a lock and only while the header is read.
    """
    read_suffixes()  # makes the plug-ins of Pillow ready
    with _pillow_limit:
        limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            opened = Pillow.open(source)
        finally:
            Pillow.MAX_IMAGE_PIXELS = limit
    with opened as image:
        check_size(*image.size)
        yield image


def check_size(width: int, height: int) -> None:
    """Raise ValueError above 2^30 pixels: a header that says so is more likely broken than true."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} is more than {MAX_PIXELS} pixels")
