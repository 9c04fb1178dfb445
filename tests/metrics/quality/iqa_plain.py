"""The no-reference metrics once more, slowly: NumPy and loops, straight from the definitions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate
from scipy.special import gamma

from deflow_cli.arrays import Array

GRID = np.array([k / 1000 for k in range(200, 10001)])
RHO = gamma(2 / GRID) ** 2 / (gamma(1 / GRID) * gamma(3 / GRID))


def gray(pixels: NDArray[np.uint8]) -> Array:
    mixed = pixels.astype(np.float64) @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
    return np.floor(mixed + 0.5)


def mscn(image: Array, mode: str) -> tuple[Array, Array]:
    """One 2-D pass with the whole 7 x 7 window."""
    y, x = np.mgrid[-3:4, -3:4]
    window = np.exp(-(x**2 + y**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    mean = correlate(image, window, mode=mode)
    sigma = np.sqrt(np.abs(correlate(image * image, window, mode=mode) - mean * mean))
    values = (image - mean) / (sigma + 1)
    values[np.abs(values) < 1e-9] = 0
    return values, sigma


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def half_matrix(size: int) -> Array:
    """imresize's general weights for scale 0.5 as a matrix ceil(size / 2) x size, edges mirrored."""
    matrix = np.zeros((math.ceil(size / 2), size))
    mirrored = [*range(size), *reversed(range(size))]
    for out in range(len(matrix)):
        centre = (out + 1) / 0.5 + 0.5 * (1 - 1 / 0.5)
        left = math.floor(centre - 4)
        weights = {i: 0.5 * cubic(0.5 * (centre - i)) for i in range(left, left + 10)}
        for i, weight in weights.items():
            matrix[out, mirrored[(i - 1) % (2 * size)]] += weight / sum(weights.values())
    return matrix


def half(image: Array) -> Array:
    return half_matrix(image.shape[0]) @ image @ half_matrix(image.shape[1]).T


def side_spread(side: Array) -> float:
    """RMS; undefined for no values."""
    return math.sqrt((side**2).mean()) if side.size else math.nan


def aggd(values: Array) -> tuple[float, float, float]:
    """Shape by a search of the whole grid, and the RMS of either side."""
    left, right = side_spread(values[values < 0]), side_spread(values[values > 0])
    if math.isnan(left) or math.isnan(right):
        return 0.2, left, right
    skew = left / right
    moment = np.abs(values).mean() ** 2 / (values**2).mean()
    wanted = moment * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    return float(GRID[np.argmin((RHO - wanted) ** 2)]), left, right


def ggd(values: Array) -> tuple[float, float]:
    variance = (values**2).mean()
    return float(GRID[np.argmin(np.abs(variance / np.abs(values).mean() ** 2 - 1 / RHO))]), float(variance)


def scale_of(alpha: float) -> float:
    return math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))


def mean_ratio(alpha: float) -> float:
    return math.gamma(2 / alpha) / math.gamma(1 / alpha)


def brisque_features(pixels: NDArray[np.uint8]) -> Array:
    features: list[float] = []
    image = gray(pixels)
    for level in (image, half(image)):
        values, _ = mscn(level, "constant")
        features += ggd(values)
        for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            alpha, left, right = aggd(values * np.roll(values, shift, (0, 1)))
            features += [alpha, (right - left) * mean_ratio(alpha) * scale_of(alpha), left**2, right**2]
    return np.array(features)


def niqe_features(pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Blocks x 36, and each block's mean local sigma."""
    image = gray(pixels)
    rows, columns = image.shape[0] // 96, image.shape[1] // 96
    image = image[: rows * 96, : columns * 96]
    parts, sharpness = [], []
    for side, level in ((96, image), (48, half(image))):
        values, sigma = mscn(level, "nearest")
        features = []
        for row in range(rows):
            for column in range(columns):
                here = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
                features.append(block_features(values[here]))
                sharpness.append(sigma[here].mean())
        parts.append(np.array(features))
    return np.concatenate(parts, axis=1), np.array(sharpness[: rows * columns])


def block_features(block: Array) -> list[float]:
    alpha, left, right = aggd(block)
    features = [alpha, (left + right) * scale_of(alpha) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = aggd(block * np.roll(block, shift, (0, 1)))
        left, right = left * scale_of(alpha), right * scale_of(alpha)
        features += [alpha, (right - left) * mean_ratio(alpha), left, right]
    return features


def niqe(pixels: NDArray[np.uint8], mean: Array, covariance: Array) -> float:
    features, _ = niqe_features(pixels)
    whole = features[~np.isnan(features).any(axis=1)]
    difference = mean - np.nanmean(features, axis=0)
    return float(
        np.sqrt(difference @ np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2) @ difference)
    )


def piqe(pixels: NDArray[np.uint8], mode: str = "edge") -> float:
    height, width, _ = pixels.shape
    padding = ((0, -height % 16), (0, -width % 16), (0, 0))
    values, _ = mscn(gray(np.pad(pixels, padding, mode=mode)), "nearest")
    total, active = 0.0, 0
    for row in range(0, values.shape[0], 16):
        for column in range(0, values.shape[1], 16):
            block = values[row : row + 16, column : column + 16]
            variance = block.var(ddof=1)
            if variance > 0.1:
                active += 1
                total += block_impaired(block) * (1 - variance) + block_noisy(block) * variance
    return 100 * (total + 1) / (active + 1)


def block_impaired(block: Array) -> bool:
    lines = (block[0], block[-1], block[:, 0], block[:, -1])
    return any(line[i : i + 6].std(ddof=1) < 0.1 for line in lines for i in range(11))


def block_noisy(block: Array) -> bool:
    surround = np.delete(np.delete(block, 7, axis=1), 8, axis=1)
    spread = block.std(ddof=1)
    ratio = block[:, 7:9].std(ddof=1) / surround.std(ddof=1)
    return bool(spread > 2 * abs(spread - ratio) / max(spread, ratio))
