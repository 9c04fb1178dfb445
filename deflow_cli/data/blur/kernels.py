"""Blur kernels: read from a folder, moved to where sampling wants them, applied in float."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from deflow_cli.arrays import Array
from deflow_cli.data.images.resize import Rule, downsample
from deflow_cli.errors import ConfigError, DataError

KernelSampling = Literal["bicubic", "direct"]
SAMPLINGS: tuple[KernelSampling, ...] = ("bicubic", "direct")
_SUFFIXES = (".mat", ".npy")
_STILL = 0.01  # px; a kernel this close to its place is left as it is
_LARGEST = 257


@dataclass(frozen=True)
class BlurKernel:
    """A blur kernel of sum 1, applied by correlation. file: relative to its folder. sha256: of the file."""

    file: str
    sha256: str
    weights: Array

    @property
    def displacement(self) -> tuple[float, float]:
        """Where its centre of mass lies from the element over the output pixel (size // 2): y, x in px."""
        places = [np.arange(size) - size // 2 for size in self.weights.shape]
        return float(places[0] @ self.weights.sum(1)), float(places[1] @ self.weights.sum(0))


def load_kernels(folder: Path) -> list[BlurKernel]:
    """Kernels of a folder, sorted by relative path: .mat files (key ``Kernel``) and .npy files, any depth.

    Raises DataError naming the file for one that cannot be read, is not a matrix, or has no positive sum.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", next_step="pass a folder of blur kernels as --kernels")
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not files:
        raise DataError(
            f"{folder}: holds no blur kernels",
            next_step="put .npy files there, or .mat files with the key Kernel",
        )
    return [_load(path, path.relative_to(folder).as_posix()) for path in files]


def _load(path: Path, name: str) -> BlurKernel:
    try:
        content = path.read_bytes()
        stored: Any
        if path.suffix.lower() == ".mat":
            from scipy.io import loadmat

            stored = loadmat(path).get("Kernel")
            if stored is None:
                raise ValueError("it has no key Kernel")
        else:
            stored = np.load(path, allow_pickle=False)
        weights = np.asarray(stored, dtype=np.float64)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path}: not a readable kernel: {error}", next_step="remove it") from error
    if weights.ndim != 2 or 0 in weights.shape or max(weights.shape) > _LARGEST:
        raise DataError(
            f"{path}: a kernel of shape {weights.shape}; expected a matrix of at most {_LARGEST}x{_LARGEST}",
            next_step="remove it",
        )
    total = float(weights.sum())
    if not (math.isfinite(total) and total > 1e-6):
        raise DataError(f"{path}: the kernel's sum is {total:g}; expected about 1", next_step="remove it")
    return BlurKernel(name, hashlib.sha256(content).hexdigest(), weights / total)


def place_kernel(kernel: BlurKernel, displacement: float) -> BlurKernel:
    """The kernel with its centre of mass ``displacement`` px below and right of size // 2.

    It is moved by a cubic spline on a wider support, as KernelGAN does, unless it is within 0.01 px already.
    """
    shift = [displacement - present for present in kernel.displacement]
    if max(abs(move) for move in shift) <= _STILL:
        return kernel
    from scipy import ndimage

    margin = math.ceil(max(abs(move) for move in shift)) + 1
    moved = ndimage.shift(np.pad(kernel.weights, margin), shift, order=3)
    return BlurKernel(kernel.file, kernel.sha256, moved / moved.sum())


def blur(pixels_hwc: NDArray[np.uint8], kernel: BlurKernel) -> Array:
    """Correlate each channel with the kernel, mirroring edges (... b a a b ...): float64, 0 to 255."""
    return np.asarray(
        cv2.filter2D(pixels_hwc.astype(np.float64), -1, kernel.weights, borderType=cv2.BORDER_REFLECT)
    )


def blur_and_downsample(
    pixels_hwc: NDArray[np.uint8],
    kernel: BlurKernel,
    factor: int,
    rule: Rule = "matlab",
    sampling: KernelSampling = "bicubic",
) -> NDArray[Any]:
    """Blur in float, then downsample by ``factor``, aligned with plain bicubic downsampling.

    ``bicubic``: the kernel, centred, blurs before bicubic downsampling by the rule. ``direct``: the kernel is
    the whole downsampling, as KernelGAN estimates it: every factor-th pixel from (0, 0) is taken, and the
    kernel's centre of mass lies (factor - 1) / 2 px off, in the middle of the pixels that become one. Rules
    of whole numbers round the blurred pixels once (halves up, or to even for ``deflow``). Returns what
    ``downsample`` does.

    Raises ConfigError for an unknown sampling.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(
            f"kernel sampling {sampling!r} is unknown", next_step=f"use one of {', '.join(SAMPLINGS)}"
        )
    placed = place_kernel(kernel, 0.0 if sampling == "bicubic" else (factor - 1) / 2)
    blurred = blur(pixels_hwc, placed)
    if sampling == "direct":
        blurred = blurred[::factor, ::factor]
    if rule == "matlab-double":
        floating = blurred / 255.0
        return floating if sampling == "direct" else downsample(floating, factor, rule)
    rounded = np.rint(blurred) if rule == "deflow" else np.floor(blurred + 0.5)
    whole = np.clip(rounded, 0, 255).astype(np.uint8)
    return whole if sampling == "direct" else downsample(whole, factor, rule)
