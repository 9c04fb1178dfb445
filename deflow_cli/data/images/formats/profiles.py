"""Profiles: what colours an ICC profile describes, and whether it fits an output."""

from __future__ import annotations

LEAST_PROFILE = 128  # bytes, of a profile's header


def colour_space(icc: bytes) -> str | None:
    """``RGB``, ``GRAY``, ``CMYK`` ... as the profile's header says; None where it has no such header.

    ICC.1:2022, 7.2: the signature ``acsp`` stands at byte 36, the colour space at byte 16.
    """
    return icc[16:20].decode("ascii", "replace").strip() if icc[36:40] == b"acsp" else None


def fits(icc: bytes, channels: int) -> bool:
    """Whether a profile can describe an output of 1 or 2 channels (gray) or of 3 or 4 (RGB), with alpha."""
    return colour_space(icc) in (None, "GRAY" if channels < 3 else "RGB")
