"""Options of `deflow make-pairs`: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    Path, typer.Argument(metavar="HR", help="A folder of clean images (recursive), or one image.")
]
Target = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the data set.")]
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
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N|auto",
        help="Make part I of N, beside other processes that make the others into the same OUT; auto: of a "
        "SLURM array or torchrun. Then --merge.",
    ),
]
Merge = Annotated[
    bool, typer.Option("--merge", help="Check what the shards made, and make one data set of it.")
]
EngineName = Annotated[
    str,
    typer.Option("--engine", metavar="local|ray", help="ray: a running Ray cluster makes the pairs."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check the images, tell counts, sizes, disk and time; write nothing."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a data set of deflow's in OUT; never other files.")
]
