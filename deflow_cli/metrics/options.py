"""Options of the quality metrics: what a user may choose about them, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SsimWindow = Literal["uniform", "gaussian"]


@dataclass(frozen=True)
class FidelityProtocol:
    """The variant of PSNR and SSIM that a field prints. window: of the SSIM. crop_border: pixels left out on
    each side."""

    name: str
    window: SsimWindow
    crop_border: int
    text: str


PROTOCOLS = {
    "rwsr": FidelityProtocol(
        "rwsr", "uniform", 0, "as the real-world super-resolution challenges: SSIM 7x7 uniform"
    ),
    "sr": FidelityProtocol("sr", "gaussian", 4, "as papers on x4 super-resolution: SSIM 11x11 Gaussian"),
}
LPIPS_NETS = {"alex": "alexnet", "vgg": "vgg16"}  # net: name of its backbone among the weights


@dataclass(frozen=True)
class ScorerOptions:
    """How metrics are measured. crop_border: None for the protocol's. luma: PSNR and SSIM on Y of YCbCr.

    The files stand for those that would be shipped or downloaded; lpips_weights is the backbone of
    lpips_net.
    """

    protocol: str = "rwsr"
    crop_border: int | None = None
    luma: bool = False
    brisque_model: Path | None = None
    niqe_model: Path | None = None
    lpips_net: str = "alex"
    lpips_weights: Path | None = None

    @property
    def border(self) -> int:
        """Pixels left out on each side."""
        return PROTOCOLS[self.protocol].crop_border if self.crop_border is None else self.crop_border

    def given(self) -> dict[str, bool]:
        """Whether each option was given that only some metrics use, by its name on the command line."""
        return {
            "--crop-border": self.crop_border is not None,
            "--y": self.luma,
            "--brisque-model": self.brisque_model is not None,
            "--niqe-model": self.niqe_model is not None,
            "--lpips-weights": self.lpips_weights is not None,
        }
