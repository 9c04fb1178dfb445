"""Published figures of the paper's tables, and of later runs of the same methods by others.

DeFlow (Wolf et al., CVPR 2021), tables 1 to 4. Rivals come twice there: their *degradations* with the paper's
super-resolution stage, and their official models. Realism and the later runs: LUD-DIF (2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIDELITY = ("psnr", "ssim", "lpips")  # of tables 1, 2 and 4, in their order
NO_REFERENCE = ("niqe", "brisque", "piqe")  # of table 3


@dataclass(frozen=True)
class PublishedRow:
    """What the paper prints of a method.

    same: with the paper's super-resolution stage; official: of the method's own model; each in the order of
    the table's measures, None where the paper has none. mor: mean opinion rank of the user study, lower is
    better, of the official model where there is one, else of the other.
    """

    same: tuple[float, ...] | None = None
    official: tuple[float, ...] | None = None
    mor: float | None = None


@dataclass(frozen=True)
class RealismRow:
    """Degraded clean images against real noisy ones: AKLD and FID, lower is better."""

    akld: float
    fid: float


TABLES: Mapping[str, Mapping[str, PublishedRow]] = {
    "aim": {
        "none": PublishedRow((21.82, 0.56, 0.514)),
        "white-noise": PublishedRow((22.43, 0.65, 0.406), mor=4.182),
        "noise-patches": PublishedRow((22.54, 0.63, 0.420), mor=4.237),
        "dsgan": PublishedRow((20.47, 0.52, 0.394), (21.00, 0.50, 0.403), 3.855),
        "dasr": PublishedRow((21.16, 0.57, 0.370), (21.79, 0.58, 0.346), 4.285),
        "cyclegan": PublishedRow(None, (21.19, 0.53, 0.476)),
        "deflow": PublishedRow((22.25, 0.62, 0.349), mor=3.317),
    },
    "ntire": {
        "none": PublishedRow((20.59, 0.34, 0.659)),
        "white-noise": PublishedRow((24.39, 0.69, 0.253), mor=3.643),
        "dsgan": PublishedRow((23.04, 0.59, 0.332), mor=4.463),
        "noise-patches": PublishedRow((25.03, 0.70, 0.226), (24.77, 0.67, 0.227), 3.253),
        "cyclegan": PublishedRow(None, (24.75, 0.70, 0.417), 5.257),
        "deflow": PublishedRow((25.87, 0.71, 0.218), mor=3.247),
    },
    "dped": {
        "none": PublishedRow((3.55, 24.56, 8.01)),
        "kernelgan": PublishedRow((6.37, 42.74, 30.32)),
        "cyclegan": PublishedRow(None, (5.47, 49.19, 86.83)),
        "dsgan": PublishedRow((3.27, 22.73, 11.88), mor=2.502),
        "noise-patches": PublishedRow((4.12, 23.24, 14.09), mor=1.590),
        "deflow": PublishedRow((3.42, 21.13, 15.84), mor=1.930),
    },
    "ablations": {
        "steps-4": PublishedRow((22.18, 0.61, 0.362)),
        "steps-8": PublishedRow((22.20, 0.63, 0.355)),
        "full": PublishedRow((22.25, 0.62, 0.349)),
        "h-4": PublishedRow((22.44, 0.61, 0.429)),
        "h-16": PublishedRow((21.52, 0.61, 0.352)),
        "no-conditional": PublishedRow((18.33, 0.52, 0.412)),
        "diagonal": PublishedRow((22.04, 0.61, 0.359)),
        "post-hoc": PublishedRow((22.04, 0.62, 0.405)),
    },
}

_AIM_TITLES = {
    "none": "No degradation",
    "white-noise": "White noise",
    "noise-patches": "Impressionism",
    "dsgan": "Frequency separation",
    "dasr": "DASR",
    "cyclegan": "CycleGAN",
    "deflow": "DeFlow",
}
# The rows of each table in its order: method and title. The full model stands thrice in table 4.
ROWS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "aim": tuple(_AIM_TITLES.items()),
    "ntire": tuple((name, _AIM_TITLES[name]) for name in TABLES["ntire"]),
    "dped": tuple((name, (_AIM_TITLES | {"kernelgan": "KernelGAN only"})[name]) for name in TABLES["dped"]),
    "ablations": (
        ("steps-4", "Flow steps: 4"),
        ("steps-8", "Flow steps: 8"),
        ("full", "Flow steps: 16"),
        ("h-4", "h at 1/4"),
        ("full", "h at 1/8"),
        ("h-16", "h at 1/16"),
        ("no-conditional", "No conditional flow"),
        ("diagonal", "Shift: uncorrelated"),
        ("post-hoc", "Shift: not learned"),
        ("full", "Shift: learned, correlated"),
    ),
}
OTHERS = {"lud-vae": "LUD-VAE", "lud-dif": "LUD-DIF"}  # of the later runs alone

RERUNS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "aim": {
        "dsgan": (20.81, 0.524, 0.387),
        "noise-patches": (21.99, 0.606, 0.420),
        "dasr": (21.06, 0.566, 0.375),
        "deflow": (21.06, 0.584, 0.346),
        "lud-vae": (22.32, 0.620, 0.341),
    },
    "ntire": {
        "dsgan": (21.07, 0.436, 0.414),
        "noise-patches": (25.27, 0.673, 0.229),
        "dasr": (23.70, 0.575, 0.328),
        "deflow": (24.81, 0.678, 0.225),
        "lud-vae": (25.79, 0.718, 0.219),
    },
}

PUBLISHED_REALISM: Mapping[str, Mapping[str, RealismRow]] = {
    "aim": {
        "none": RealismRow(0.701, 112.9),
        "dsgan": RealismRow(0.379, 67.6),
        "noise-patches": RealismRow(0.549, 87.3),
        "dasr": RealismRow(0.328, 72.4),
        "deflow": RealismRow(0.356, 119.8),
        "lud-vae": RealismRow(0.329, 57.2),
        "lud-dif": RealismRow(0.271, 56.6),
    },
    "ntire": {
        "none": RealismRow(0.701, 56.3),
        "dsgan": RealismRow(0.224, 40.2),
        "noise-patches": RealismRow(0.275, 26.5),
        "dasr": RealismRow(0.346, 48.6),
        "deflow": RealismRow(0.156, 34.7),
        "lud-vae": RealismRow(0.120, 24.9),
        "lud-dif": RealismRow(0.106, 24.2),
    },
}
