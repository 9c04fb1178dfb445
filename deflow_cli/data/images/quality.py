"""Quality: a cheap look at a picture that is meant to be clean, for compression, blur and enlargement."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deflow_cli.arrays import Array, Pixels
from deflow_cli.data.images.formats.opening import DECODE_ERRORS, open_header

# Measured on 25 photographs of BSDS500 (JPEG quality about 95): as they are, at least -15 dB of fine detail
# and at most 1.18 of blocks; blurred by 1 px at most -27 dB, enlarged twice -26.6; of JPEG 60 mostly 1.3.
LEAST_DETAIL_DB = -25.0
MOST_BLOCKS = 1.25
LEAST_JPEG_QUALITY = 80
_TILE = 64
_LARGEST = 1024  # a centred window of larger pictures is looked at
_LEAST_CONTENT = 30.0  # grey levels^2; below, a tile is too flat to say anything
_LUMINANCE_SUM = 3688  # of the JPEG standard's luminance table, which is quality 50


def doubts_about(path: Path, pixels: Pixels) -> list[str]:
    """What speaks against a picture H x W x 3 as a clean one, in words; empty for a good one.

    A JPEG's quality comes from its tables; blocks are looked for in other files; detail in all of them.
    """
    luma = _centre(pixels) @ np.array([0.299, 0.587, 0.114])
    doubts = []
    quality = jpeg_quality(path)
    if quality is not None:
        if quality < LEAST_JPEG_QUALITY:
            doubts.append(f"a JPEG of quality {quality}")
    elif min(luma.shape) >= 2 * _TILE and (blocks := blockiness(luma)) > MOST_BLOCKS:
        doubts.append(f"shows JPEG blocks ({blocks:.2f} times the differences across their borders)")
    detail = fine_detail_db(luma)
    if detail < LEAST_DETAIL_DB:
        finding = (
            f"{detail:.0f} dB of fine detail where it has most" if np.isfinite(detail) else "flat everywhere"
        )
        doubts.append(f"blurred or enlarged ({finding})")
    return doubts


def jpeg_quality(path: Path) -> int | None:
    """Quality 1..100 on the scale of the common encoder, by the file's luminance table; None for no JPEG."""
    try:
        with open_header(path) as opened:
            tables = getattr(opened, "quantization", None)
            if opened.format not in ("JPEG", "MPO") or not tables:
                return None
            total = sum(next(iter(tables.values())))
    except DECODE_ERRORS:
        return None
    percent = 100.0 * total / _LUMINANCE_SUM
    return max(1, round(5000.0 / percent if percent > 100 else (200.0 - percent) / 2))


def blockiness(luma: Array) -> float:
    """Mean difference of neighbours across borders of 8 x 8 blocks over that within; 1 without blocks."""
    ratios = []
    for plane in (luma, luma.T):
        difference = np.abs(np.diff(plane, axis=1))
        profile = np.array([difference[:, place::8].mean() for place in range(8)])
        ratios.append(profile[7] / max(float(profile[:7].mean()), 1e-6))
    return float(np.mean(ratios))


def fine_detail_db(luma: Array) -> float:
    """Power above 0.35 cycles/px relative to that of 0.08 to 0.2, in dB: upper decile over 64 x 64 tiles.

    Tiles without content do not count; -inf where none has any but there are tiles, 0 for smaller pictures.
    """
    window = np.outer(np.hanning(_TILE + 1)[:-1], np.hanning(_TILE + 1)[:-1])
    frequency = np.abs(np.fft.fftfreq(_TILE))
    along, radius = (
        np.maximum(frequency[:, None], frequency[None]),
        np.hypot(frequency[:, None], frequency[None]),
    )
    fine, middle = along >= 0.35, (radius >= 0.08) & (radius < 0.2)
    levels, tiles = [], 0
    for y in range(0, luma.shape[0] - _TILE + 1, _TILE):
        for x in range(0, luma.shape[1] - _TILE + 1, _TILE):
            tile = luma[y : y + _TILE, x : x + _TILE]
            power = np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2 / np.sum(window**2)
            content = float(power[middle].mean())
            tiles += 1
            if content > _LEAST_CONTENT:
                levels.append(10 * np.log10(max(float(power[fine].mean()), 1e-12) / content))
    if levels:
        return float(np.quantile(levels, 0.9))
    return -np.inf if tiles else 0.0


def _centre(pixels: Pixels) -> Pixels:
    """The centred window of at most 1024 px, on the grid of JPEG blocks."""
    top, left = (max(0, side - _LARGEST) // 16 * 8 for side in pixels.shape[:2])
    return pixels[top : top + _LARGEST, left : left + _LARGEST]
