"""Options of `deflow sr-train`: what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Pairs = Annotated[
    Path | None,
    typer.Argument(metavar="[PAIRS]", help="Pairs of `deflow make-pairs`, in any of its formats; or --hr."),
]
Val = Annotated[
    Path | None,
    typer.Option(metavar="PAIRS", help="Pairs to validate on (default: some of PAIRS, held out)."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="tiny, fast, paper or a .toml file (default: tiny; with a GPU, fast). Of SRFlow: srflow-tiny, "
        "srflow-base, or as published srflow-df2k-4x, srflow-df2k-8x, srflow-celeba-8x.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="An ESRGAN, rrdb (the full one), rrdb-small or rrdb-tiny (default: preset's); or srflow, whose "
        "restorer gives samples.",
    ),
]
Stage = Annotated[
    str | None,
    typer.Option(
        metavar="psnr|gan|both",
        help="L1 alone, the GAN from --init, or one after the other (default: of tiny, psnr; else gan with "
        "--init, both without).",
    ),
]
Init = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Start from a restorer: ours or any ESRGAN, .pth or .safetensors. Its sizes are taken. With "
        "srflow: the encoder starts from it.",
    ),
]
Discriminator = Annotated[
    str | None, typer.Option(metavar="vgg|patch|unet", help="The GAN stage's discriminator (default: vgg).")
]
Perceptual = Annotated[
    str | None,
    typer.Option(metavar="vgg19|none", help="The GAN stage's perceptual loss (default: vgg19)."),
]
PerceptualWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="VGG19's weights (default: those on this machine).")
]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC",
        help="What chooses the best weights on held-out pairs: lpips, psnr, ssim or niqe (default: lpips "
        "where it can be had, else psnr); of srflow lpips, bits or psnr (default: lpips, else bits).",
    ),
]
LpipsWeights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="AlexNet's weights for lpips (default: those on this machine)."),
]
Scale = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|4|8",
        help="With --hr: how many times smaller the degraded side is (default: 4). Pairs have their own.",
    ),
]
Hr = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="In place of PAIRS: clean images, degraded anew for every crop."),
]
Temperature = Annotated[
    str | None,
    typer.Option(
        metavar="T|LOW:HIGH",
        help="For --hr: strength of the noise, or a range drawn from per crop (default: 1).",
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder (default: runs/NAME).")]
Name = Annotated[str | None, typer.Option(help="The run's name (default: the data folder's).")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")]
TimeBudget = Annotated[str | None, typer.Option(metavar="TIME", help="Train for this long: 90s, 10m, 2h.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Train each stage for so many steps.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run, by its own configuration.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a preset: sr.ema=0.999. Repeatable."),
]
