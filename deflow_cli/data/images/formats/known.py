"""Known formats: which image files are read and written, and what to do with those that are not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image as Pillow
from PIL import features

WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
IMAGE_SUFFIXES = frozenset(WRITTEN)
_READ_BY_PILLOW = frozenset(
    {".apng", ".dib", ".gif", ".jfif", ".jpe", ".mpo", ".icb", ".tga", ".vda", ".vst"}
)
_JPEG_2000 = frozenset({".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"})
_CONVERT = "convert them to PNG or TIFF"


@dataclass(frozen=True)
class _Optional:
    """A format that needs a plug-in of Pillow. start: the function of its module that registers it."""

    name: str
    suffixes: frozenset[str]
    package: str
    module: str
    start: str = ""


_PLUGINS = (
    _Optional(
        "HEIF", frozenset({".heic", ".heif", ".hif"}), "pillow-heif", "pillow_heif", "register_heif_opener"
    ),
    _Optional("AVIF", frozenset({".avif", ".avifs"}), "pillow-avif-plugin", "pillow_avif"),
    _Optional("JPEG XL", frozenset({".jxl"}), "pillow-jxl-plugin", "pillow_jxl"),
)
_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw"
    " .rw2 .rwl .sr2 .srf .srw .x3f"
)
_RARE = ".dds .ico .jls .jxr .pcx .qoi .sgi .wdp .xcf"
# Pictures that are not read, by suffix: the format's name, and what to do with them.
_OTHERS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(_RAW.split(), ("RAW", "develop them to TIFF or PNG")),
    **dict.fromkeys((".psd", ".psb"), ("PSD", "export them as PNG or TIFF")),
    **dict.fromkeys((".pbm", ".pgm", ".pnm", ".ppm", ".pam", ".pfm"), ("Netpbm", _CONVERT)),
    **dict.fromkeys((".exr", ".hdr"), ("HDR", _CONVERT)),
    **dict.fromkeys(_RARE.split(), ("other", _CONVERT)),
}


@functools.cache
def read_suffixes() -> frozenset[str]:
    """Suffixes of the image files that can be read here; makes the installed plug-ins of Pillow ready."""
    found = IMAGE_SUFFIXES | _READ_BY_PILLOW
    if features.check("jpg_2000"):
        found |= _JPEG_2000
    for plugin in _PLUGINS:
        if _is_ready(plugin):
            found |= plugin.suffixes
    return found


def _is_ready(plugin: _Optional) -> bool:
    Pillow.init()
    if any(Pillow.registered_extensions().get(suffix) in Pillow.OPEN for suffix in plugin.suffixes):
        return True
    if importlib.util.find_spec(plugin.module) is None:
        return False
    try:
        module = importlib.import_module(plugin.module)
        if plugin.start:
            getattr(module, plugin.start)()
    except (ImportError, OSError, AttributeError):  # a plug-in built for another Pillow is as good as none
        return False
    return True


def format_of(suffix: str) -> tuple[str, str] | None:
    """Name of a picture format that is not read here, and how to read it; None for other files."""
    suffix = suffix.lower()
    if suffix in read_suffixes():
        return None
    for plugin in _PLUGINS:
        if suffix in plugin.suffixes:
            return plugin.name, f"to read them: pip install {plugin.package}, or convert them to PNG"
    if suffix in _JPEG_2000:
        return "JPEG 2000", _CONVERT
    return _OTHERS.get(suffix)


def name_unread(suffixes: Iterable[str]) -> str:
    """Count pictures of formats that are not read, by format, with what to do; empty without any.

    >>> name_unread([".cr2", ".nef", ".txt"])
    '2 RAW (develop them to TIFF or PNG)'
    """
    counts = Counter(found for suffix in suffixes if (found := format_of(suffix)) is not None)
    return ", ".join(f"{count} {name} ({what})" for (name, what), count in sorted(counts.items()))
