"""Options of `deflow score --space`: the samples, what they are compared with, and where maps are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SPACE_PANEL = "Space of super-resolutions (--space)"

Space = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="[T=]DIR",
        help="Tell instead how varied and how good many samples of each image are: a folder of NAME_s01.png,"
        " NAME_s02.png ..., of NTIRE's names, or with a folder for every image, sample or temperature"
        " (t0.80). T=DIR gives the temperature of a folder; may be repeated.",
        rich_help_panel=SPACE_PANEL,
    ),
]
LowResolution = Annotated[
    Path | None,
    typer.Option(
        "--lq",
        metavar="LQ",
        help="The images that the samples were made from: for LR-PSNR and its scale.",
        rich_help_panel=SPACE_PANEL,
    ),
]
Scale = Annotated[
    int | None,
    typer.Option(
        "--scale", metavar="N", min=1, help="Scale of LR-PSNR without --lq.", rich_help_panel=SPACE_PANEL
    ),
]
Maps = Annotated[
    Path | None,
    typer.Option(
        "--maps",
        metavar="DIR",
        help="Write the best temperature of every pixel, a PNG for each image.",
        rich_help_panel=SPACE_PANEL,
    ),
]
