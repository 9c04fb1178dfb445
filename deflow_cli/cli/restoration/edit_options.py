"""Options of `deflow edit`: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EditModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        help="An SRFlow: a restorer.safetensors, its folder, hf://USER/REPO, or a file of the published "
        "layout (default: the newest runs/*/restorer.safetensors here).",
    ),
]
PastedImage = Annotated[
    Path, typer.Option("--with", metavar="IMAGE", help="The image to paste from, of the same size.")
]
DetailImage = Annotated[
    Path, typer.Option("--with", metavar="IMAGE", help="The image whose detail is taken, of the same size.")
]
OtherEnd = Annotated[
    Path | None,
    typer.Option(
        "--with", metavar="IMAGE", help="The image at the other end, of the same size (default: two samples)."
    ),
]
PasteMask = Annotated[
    Path, typer.Option("--mask", metavar="IMAGE", help="White where to paste, black where IN stays.")
]
EditMask = Annotated[
    Path | None,
    typer.Option(
        "--mask", metavar="IMAGE", help="White where to edit, black where IN stays (default: everywhere)."
    ),
]
EditTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="How bold detail is, 0 to 1: of samples, variations and normalised latents (default: 0.8).",
    ),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        metavar="A,B,...",
        help="Give latents the mean and variance of a sample's, in this order: global (all together), local "
        "(the channels at a position), spatial (the positions of a channel); none: leave them.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Normalise to mean 0 and variance T^2, rather than to drawn ones."),
]
Strength = Annotated[
    float,
    typer.Option("--strength", metavar="A", help="How far variations go, 0 (IN itself) to 1 (new samples)."),
]
EditSamples = Annotated[
    int, typer.Option("--samples", metavar="N", help="Results of each image, as _s01, _s02 ...")
]
StripLength = Annotated[
    int,
    typer.Option("--samples", metavar="N", help="Images from one end to the other, as _s01, _s02 ..."),
]
EditSeed = Annotated[
    int, typer.Option("--seed", min=0, help="The same seed, file name and options give the same results.")
]
EditConsistent = Annotated[
    bool,
    typer.Option("--consistent", help="Project results onto the images that shrink to IN's small version."),
]
EditSheet = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE.png", help="A sheet of before and after.")
]
