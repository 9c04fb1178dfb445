"""The domain `isp`: pictures as a camera would have taken them, with known noise.

    python tests/bench/isp_recipe.py --data DIR --out DIR

writes train/clean, train/noisy, test/clean and test/noisy as PNG: ``DIR/bsd``, split as ``DIR/synthetic``
lists.

A clean 8-bit sRGB picture is unprocessed to linear raw after Brooks et al., "Unprocessing images for learned
raw denoising", CVPR 2019 (below: UPI). Poisson-Gaussian noise of a random ISO is added on an RGGB mosaic,
which is rendered as in a camera: demosaicing, white balance, colour matrix, gamma, tone curve, a mild
edge-preserving denoiser, mild sharpening, JPEG. So the noise depends on brightness, on texture and on the 8x8
grid, and its grain spans several pixels.

What else than noise changes the picture:

- Rendering inverts unprocessing exactly, highlights included: without noise, denoiser, sharpening and JPEG
  the clean picture comes back.
- Mosaicking a picture that is sharp to the pixel would lose detail with a standard deviation of 11 grey
  levels (20 in busy pictures), which is more than the noise. That loss is excluded: the rendered raw is raw
  + demosaic(noisy mosaic) - demosaic(clean mosaic), with the grain of bilinear demosaicing. The same holds of
  real pairs, whose clean picture is the mean of many shots that were all demosaiced. (Edge-aware demosaicing
  decides otherwise about sharp edges where there is noise: such outliers gave a kurtosis of 8 per picture,
  where pictures of real cameras have 4.)
- The denoiser smooths the faintest texture (up to 0.7 grey levels) and colour detail (0.8 to 2.8), sharpening
  steepens edges (0.5 to 4), JPEG rounds (0.8 to 6.4); those changes stay in the noisy picture.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

# UPI: colour matrices (XYZ to camera) of the Darmstadt Noise Dataset's four cameras, and sRGB to XYZ (D65).
XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
GAMMA = 2.2  # UPI
INFLECTION = 0.9  # UPI: above this grey level the inverse white balance fades out
RED_GAIN, BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)  # UPI: uniform
INVERSE_EXPOSURE = (0.8, 0.1)  # UPI: normal; its inverse multiplies all gains
READ_SLOPE, READ_OFFSET, READ_SPREAD = 2.18, 1.20, 0.26  # UPI: log read = 2.18 log shot + 1.2 + N(0, .26^2)
# Ours: log shot is normal, clipped at two standard deviations, which gives residuals of 2.4 to 12.5 grey
# levels. UPI draws it evenly between log .0001 and log .012, whose upper end is far stronger than usual
# photographs.
SHOT_MEDIAN, SHOT_SPREAD = 6.5e-4, 0.75
BLACK, WHITE = 4096, 65535  # of the 16-bit mosaic; a black level above 0 keeps negative noise, as sensors do
MARGIN = 4  # mirrored pixels around the picture, since demosaicing errs at borders; even: RGGB's phase stays
RGB_TO_YCC = np.array(  # BT.601
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


@dataclass(frozen=True)
class Shot:
    """One picture's draw: a camera, its exposure and its ISO.

    ``shot``, ``read``: variance of raw noise per unit of signal, and without light; raw white is 1.
    ``gains``: of red, green and blue, white balance times exposure. ``to_camera``: linear sRGB to camera
    RGB, 3 x 3, rows of sum 1. ``denoise``: for luma and chroma, the guided filter's threshold relative to
    the noise at mid grey. ``sharpen``: share of the detail finer than a Gaussian of sigma 1 that is added
    once more. ``quality``: of JPEG, None: no JPEG. ``subsampling``: of JPEG's chroma, 0: 4:4:4, 2: 4:2:0.
    """

    shot: float
    read: float
    gains: tuple[float, float, float]
    to_camera: Array
    denoise: tuple[float, float]
    sharpen: float
    quality: int | None
    subsampling: Literal[0, 2]


def draw_shot(generator: np.random.Generator) -> Shot:
    weights = generator.uniform(0.0, 1.0, len(XYZ_TO_CAMERA))
    to_camera = np.tensordot(weights / weights.sum(), XYZ_TO_CAMERA, axes=1) @ RGB_TO_XYZ
    exposure = 1.0 / generator.normal(*INVERSE_EXPOSURE)
    red, blue = generator.uniform(*RED_GAIN), generator.uniform(*BLUE_GAIN)
    deviation = np.clip(generator.standard_normal(), -2.0, 2.0)
    log_shot = np.log(SHOT_MEDIAN) + SHOT_SPREAD * deviation
    log_read = READ_OFFSET + READ_SLOPE * log_shot + READ_SPREAD * generator.standard_normal()
    return Shot(
        shot=float(np.exp(log_shot)),
        read=float(np.exp(log_read)),
        gains=(red * exposure, exposure, blue * exposure),
        to_camera=to_camera / to_camera.sum(axis=1, keepdims=True),
        denoise=(generator.uniform(0.3, 0.6), generator.uniform(0.6, 1.2)),
        sharpen=generator.uniform(0.05, 0.2),
        quality=int(generator.integers(85, 96)),
        subsampling=2 if generator.random() < 0.5 else 0,
    )


# ------------------------------------------------------------------ raw and back


def linearise(rendered: Array) -> Array:
    """Inverse tone curve, the smoothstep 3 x^2 - 2 x^3 inverted, then inverse gamma (UPI)."""
    encoded = 0.5 - np.sin(np.arcsin(1.0 - 2.0 * rendered) / 3.0)
    return np.maximum(encoded, 1e-8) ** GAMMA


def tone(linear: Array) -> Array:
    """Gamma, then the smoothstep; light is clipped to [0, 1] (UPI)."""
    encoded = np.clip(linear, 0.0, 1.0) ** (1.0 / GAMMA)
    return encoded**2 * (3.0 - 2.0 * encoded)


def safe_gains(grey: Array, gains: tuple[float, float, float]) -> Array:
    """UPI's inverse white balance per pixel: 1 / gain, fading to 1 above the inflection to keep white white.

    grey: any shape ...; returns ... x 3, growing with grey.
    """
    inverse = 1.0 / np.asarray(gains)
    mask = (np.clip(grey - INFLECTION, 0.0, 1.0 - INFLECTION) / (1.0 - INFLECTION))[..., None] ** 2
    return np.maximum(mask + (1.0 - mask) * inverse, inverse)


def balance(raw_hwc: Array, gains: tuple[float, float, float]) -> Array:
    """White balance, the exact inverse of x -> x safe_gains(mean x).

    The grey level g solves g = mean(raw / safe_gains(g)). The right side falls with g, so bisection finds g.
    It runs in highlights alone, since the gains are constant elsewhere.
    """
    balanced = raw_hwc * np.asarray(gains)
    bright = balanced.mean(axis=-1) > INFLECTION
    raw = raw_hwc[bright]
    low, high = np.full(len(raw), INFLECTION), balanced[bright].mean(axis=-1)
    for _ in range(40):
        middle = (low + high) / 2.0
        above = (raw / safe_gains(middle, gains)).mean(axis=-1) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    balanced[bright] = raw / safe_gains(low, gains)
    return balanced


def unprocess(pixels_hwc: Pixels, shot: Shot) -> Array:
    """Linear camera RGB of every pixel before the mosaic, H x W x 3, sensor white 1.

    Colours that the camera's primaries cannot hold come out slightly negative, and are kept.
    """
    camera = linearise(pixels_hwc / 255.0) @ shot.to_camera.T
    return camera * safe_gains(camera.mean(axis=-1), shot.gains)


def render(raw_hwc: Array, shot: Shot) -> Array:
    """Inverse of `unprocess`, in [0, 1]: white balance, colour matrix, gamma, tone curve."""
    return tone(balance(raw_hwc, shot.gains) @ np.linalg.inv(shot.to_camera).T)


# ------------------------------------------------------------------ sensor


def mosaic(raw_hwc: Array) -> Array:
    """RGGB mosaic of H x W x 3: H x W."""
    plane = raw_hwc[..., 1].copy()
    plane[0::2, 0::2] = raw_hwc[0::2, 0::2, 0]
    plane[1::2, 1::2] = raw_hwc[1::2, 1::2, 2]
    return plane


def add_noise(plane: Array, shot: Shot, generator: np.random.Generator) -> Array:
    """Poisson-Gaussian: variance shot * signal + read."""
    light = np.maximum(plane, 0.0)
    photons = shot.shot * generator.poisson(light / shot.shot) - light if shot.shot else 0.0
    return plane + photons + np.sqrt(shot.read) * generator.standard_normal(plane.shape)


def demosaic(plane: Array) -> Array:
    """OpenCV's bilinear demosaicing of the 16-bit mosaic; full scale is 1 in and out."""
    counts = np.clip(np.rint(plane * (WHITE - BLACK) + BLACK), 0, WHITE).astype(np.uint16)
    return (cv2.cvtColor(counts, cv2.COLOR_BayerRGGB2RGB).astype(np.float64) - BLACK) / (WHITE - BLACK)


def expose(raw_hwc: Array, shot: Shot, generator: np.random.Generator) -> Array:
    """Raw with the noise of a mosaicked and demosaiced sensor, without the loss of detail (see above)."""
    frame = np.pad(raw_hwc, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect")
    plane = mosaic(frame)
    noise = demosaic(add_noise(plane, shot, generator)) - demosaic(plane)
    return raw_hwc + noise[MARGIN:-MARGIN, MARGIN:-MARGIN]


# ------------------------------------------------------------------ finishing


def mid_grey_noise(shot: Shot) -> float:
    """Standard deviation of green at rendered mid grey, of 1, before the demosaicing smooths it."""
    middle = linearise(np.array([0.5]))
    light, step = middle / shot.gains[1], 1e-4
    slope = (tone(middle + step) - tone(middle - step)) / (2.0 * step)
    return float((np.sqrt(shot.shot * light + shot.read) * shot.gains[1] * slope).item())


def guided_filter(plane: Array, radius: int, threshold: float) -> Array:
    """Guided image filter, He et al., TPAMI 2013, with the plane as its own guide.

    y = m + v / (v + threshold^2) (x - m), with local mean m and variance v, both terms averaged over the
    windows that cover a pixel. Textured areas keep texture and noise, flat areas lose noise.
    """

    def box(values: Array) -> Array:
        side = 2 * radius + 1
        return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT_101), np.float64)

    mean = box(plane)
    variance = np.maximum(box(plane * plane) - mean * mean, 0.0)
    gain = variance / (variance + threshold * threshold + 1e-12)
    return box(gain) * plane + box((1.0 - gain) * mean)


def finish(rendered_hwc: Array, shot: Shot) -> Array:
    """Denoise luma mildly and chroma more, then sharpen luma."""
    level = mid_grey_noise(shot)
    luma, *chroma = np.moveaxis(rendered_hwc @ RGB_TO_YCC.T, -1, 0)
    luma = guided_filter(np.ascontiguousarray(luma), 2, shot.denoise[0] * level)
    chroma = [guided_filter(np.ascontiguousarray(c), 3, shot.denoise[1] * level) for c in chroma]
    blurred = cv2.GaussianBlur(luma, (7, 7), 1.0, borderType=cv2.BORDER_REFLECT_101)
    luma = luma + shot.sharpen * (luma - blurred)
    return np.stack([luma, *chroma], axis=-1) @ np.linalg.inv(RGB_TO_YCC).T


def compress(pixels_hwc: Pixels, shot: Shot) -> Pixels:
    if shot.quality is None:
        return pixels_hwc
    buffer = io.BytesIO()
    Image.fromarray(pixels_hwc).save(buffer, "JPEG", quality=shot.quality, subsampling=shot.subsampling)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def isp_degrade(pixels: Pixels, generator: np.random.Generator, shot: Shot | None = None) -> Pixels:
    """The picture as a camera would have taken it; the same generator state gives the same bytes.

    pixels: uint8, H x W x 3; returns the same. ``shot`` comes from `draw_shot` unless it is given.
    """
    shot = draw_shot(generator) if shot is None else shot
    rendered = render(expose(unprocess(pixels, shot), shot, generator), shot)
    finished = np.clip(np.rint(finish(rendered, shot) * 255.0), 0, 255).astype(np.uint8)
    return compress(finished, shot)


def noise_alone(pixels: Pixels, generator: np.random.Generator, draws: int = 10) -> Pixels:
    """The picture under the noise of `isp_degrade` without what that camera does to scenes.

    To the picture is added by how much it differs, degraded, from the mean of other draws of the same shot.
    """
    shot = draw_shot(generator)
    degraded_once = isp_degrade(pixels, generator, shot).astype(np.float64)
    others = [isp_degrade(pixels, other, shot) for other in generator.spawn(draws)]
    return np.clip(np.rint(pixels + degraded_once - np.mean(others, axis=0)), 0, 255).astype(np.uint8)


def generator_for(seed: int, stem: str) -> np.random.Generator:
    """The generator of one picture, independent of the other pictures."""
    return np.random.default_rng([seed, *stem.encode()])


# ------------------------------------------------------------------ folders

SEEDS = {"train": 0, "test": 1000}


@dataclass(frozen=True)
class Split:
    """Pictures of ``bsd``, divided by the lists in ``synthetic`` into three disjoint sets."""

    train_clean: list[Path]
    train_noisy: list[Path]
    test: list[Path]

    @classmethod
    def of(cls, data: Path) -> Split:
        def listed(name: str, folder: str) -> list[Path]:
            lines = (data / "synthetic" / name).read_text(encoding="utf-8").split()
            return [data / "bsd" / folder / line for line in lines]

        return cls(
            listed("train_clean.txt", "train"),
            listed("train_noisy_sources.txt", "train"),
            listed("test_clean.txt", "test"),
        )


def read_pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def degraded(path: Path, seed: int) -> Pixels:
    return isp_degrade(read_pixels(path), generator_for(seed, path.stem))


def write_folders(data: Path, out: Path) -> None:
    split = Split.of(data)
    groups: list[tuple[str, list[Path], Callable[[Path], Pixels]]] = [
        ("train/clean", split.train_clean, read_pixels),
        ("train/noisy", split.train_noisy, lambda path: degraded(path, SEEDS["train"])),
        ("test/clean", split.test, read_pixels),
        ("test/noisy", split.test, lambda path: degraded(path, SEEDS["test"])),
    ]
    for name, paths, picture in groups:
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in paths:
            Image.fromarray(picture(path)).save(out / name / f"{path.stem}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with bsd and synthetic")
    parser.add_argument("--out", type=Path, required=True, help="folder for train and test")
    options = parser.parse_args()
    write_folders(options.data, options.out)


if __name__ == "__main__":
    main()
