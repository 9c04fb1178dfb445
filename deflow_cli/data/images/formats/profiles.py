"""Profiles: what colours an ICC profile describes, and whether it fits an output."""

from __future__ import annotations

_HEADER = 128  # bytes of an ICC profile's header
_GRAY_SPACE, _RGB_SPACE = "GRAY", "RGB"


def colour_space(icc: bytes) -> str | None:
    """``RGB``, ``GRAY``, ``CMYK`` ... as the profile's header says; None where the header is damaged.

    ICC.1:2022, 7.2: the signature ``acsp`` stands at byte 36, the colour space at byte 16.
    """
    if len(icc) < _HEADER or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("ascii", "replace").strip()


def fits(icc: bytes, channels: int) -> bool:
    """Whether a profile describes an output of 1 or 2 (gray) or of 3 or 4 channels (RGB), alpha included."""
    return colour_space(icc) == (_GRAY_SPACE if channels < 3 else _RGB_SPACE)
