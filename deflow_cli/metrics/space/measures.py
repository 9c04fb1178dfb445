"""Measures of a space of super-resolutions: their names, units and variants, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class SpaceMeasure:
    """What a figure about the samples of an image is.

    short: a heading for narrow columns. better: which direction is good; empty where neither is. digits:
    decimals that are shown. variant: how it was measured, enough to tell it from others of the same name.
    """

    name: str
    title: str
    short: str
    better: Better
    digits: int
    variant: str
    unit: str = ""

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is, nothing where neither is."""
        return {"higher": "↑", "lower": "↓", "": ""}[self.better]


_CROP = "uint8 RGB, truth and samples cropped at the right and bottom to multiples of 8"
_SPATIAL = "spatial LPIPS (AlexNet, lin v0.1; layers upsampled bilinearly and summed)"
_DOWN = "after MATLAB's bicubic downsampling of uint8, halves rounded to even"

# In the order in which users see them.
SPACE_MEASURES = (
    SpaceMeasure(
        "diversity",
        "Diversity score",
        "diversity",
        "higher",
        2,
        f"100 (G - B) / G by {_SPATIAL}: G of the best sample, B of the best sample of every pixel",
    ),
    SpaceMeasure(
        "diversity-error",
        "Diversity score (squared error)",
        "div. (SE)",
        "higher",
        2,
        "100 (G - B) / G by the squared error, averaged over RGB and over 16x16 windows (full convolution)",
    ),
    SpaceMeasure(
        "lpips-mean",
        "LPIPS, mean of samples",
        "LPIPS",
        "lower",
        4,
        f"mean over samples and pixels of {_SPATIAL}",
    ),
    SpaceMeasure(
        "lpips-best", "LPIPS, best sample", "best", "lower", 4, f"least mean over pixels of {_SPATIAL}"
    ),
    SpaceMeasure(
        "lr-psnr-mean",
        "LR-PSNR, mean of samples",
        "LR-PSNR",
        "higher",
        2,
        f"sample against truth {_DOWN}",
        "dB",
    ),
    SpaceMeasure(
        "lr-psnr-worst",
        "LR-PSNR, worst sample",
        "worst",
        "higher",
        2,
        f"least over samples; sample against truth {_DOWN}",
        "dB",
    ),
    SpaceMeasure(
        "input-psnr",
        "LR-PSNR to the input, mean",
        "to input",
        "higher",
        2,
        f"the input as given against the whole sample {_DOWN}",
        "dB",
    ),
    SpaceMeasure(
        "psnr-mean",
        "PSNR, mean of samples",
        "PSNR",
        "higher",
        2,
        f"each sample against the truth, {_CROP}",
        "dB",
    ),
    SpaceMeasure(
        "psnr-of-mean",
        "PSNR of the samples' mean",
        "of mean",
        "higher",
        2,
        "the mean image, not rounded, against the truth",
        "dB",
    ),
    SpaceMeasure(
        "pixel-std",
        "Pixel std over samples",
        "std",
        "",
        2,
        "on the 0..255 scale, divisor n - 1, mean over pixels and channels",
    ),
    SpaceMeasure(
        "calibration",
        "Coverage of the central interval",
        "coverage",
        "",
        1,
        "share of true values whose rank among the samples lies in the central 80 %, ties shared evenly: 80 %"
        " where the samples vary as much as the truth is uncertain",
        "%",
    ),
)


def space_measures() -> dict[str, SpaceMeasure]:
    """The measures by name."""
    return {measure.name: measure for measure in SPACE_MEASURES}
