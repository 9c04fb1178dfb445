"""Options of `deflow make-pairs`: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path, typer.Argument(metavar="HR", help="A folder of clean images (recursive), or one image.")
]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the data set.")]
Degrader = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="deflow, white-noise, spectral, noise-patches or none (default: deflow).",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="For deflow: a model or a run folder (default: the newest fit here, else the embedded one).",
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(metavar="1|2|3|4|8", help="How many times smaller the degraded side is (default: 4)."),
]
Temperature = Annotated[
    str | None,
    typer.Option(
        metavar="T|LOW:HIGH",
        help="Strength of the noise, or a range drawn from per image and variant (default: 1).",
    ),
]
Variants = Annotated[int | None, typer.Option(min=1, help="Degradations of each image (default: 1).")]
Crop = Annotated[
    int | None,
    typer.Option(min=1, help="Cut sub-images of this side, in pixels of HR (default: whole images)."),
]
Stride = Annotated[
    int | None,
    typer.Option(min=1, help="Pixels from one sub-image to the next (default: half of --crop)."),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="Rounding of the bicubic: matlab, deflow or matlab-double (default: matlab).",
    ),
]
Kernels = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Blur kernels (.mat with Kernel, .npy), one drawn per image and variant."
    ),
]
KernelSampling = Annotated[
    str | None,
    typer.Option(
        metavar="bicubic|direct",
        help="After the kernel: bicubic, or every scale-th pixel, for kernels that are the whole "
        "downsampling, such as KernelGAN's (default: bicubic).",
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="For white-noise: std in grey levels of 255 (default: that of --noisy's flat patches).",
    ),
]
Noisy = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Degraded images that white-noise, spectral and noise-patches learn from."
    ),
]
Clean = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="For spectral: clean images (default: HR, made small)."),
]
Flattest = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="For spectral: use this share of each image's patches, the flattest, and match the power of "
        "the contents (default: 1, all patches and the plain difference).",
    ),
]
PatchSize = Annotated[
    int | None, typer.Option(min=1, help="For noise-patches: their side in pixels (default: 256).")
]
PatchVariance = Annotated[
    float | None,
    typer.Option(min=0, help="For noise-patches: flatter than this, in grey levels squared (default: 20)."),
]
PatchMean = Annotated[
    float | None, typer.Option(min=0, help="For noise-patches: brighter than this, of 255 (default: 0).")
]
Form = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="folders, lmdb or webdataset (default: folders)."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="The same seed gives the same pairs (default: 0).")]
Manifest = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Make the data set of this deflow.json again, bit for bit; it stands for the options above, "
        "but for the places of model, folders and kernels.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Threads; the result does not depend on them (default: all cores)."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check the images, tell counts, sizes, disk and time; write nothing."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a data set of deflow's in OUT; never other files.")
]
