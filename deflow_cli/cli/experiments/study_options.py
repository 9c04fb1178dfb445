"""Options of `deflow study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Of `study make`.
Methods = Annotated[
    list[Path],
    typer.Argument(metavar="METHOD_DIR...", help="Folders of outputs, a method each, of equal names."),
]
Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="New folder: page/study.html for participants, and key.json.")
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--ref",
        metavar="GT",
        help="References. Shown beside, and hidden among the candidates to be first.",
    ),
]
LowResolution = Annotated[
    Path | None,
    typer.Option(
        "--lq",
        metavar="LQ",
        help="Without references: the low-resolution sources, up-sampled to be shown and to be last.",
    ),
]
ModeName = Annotated[
    str,
    typer.Option(
        "--mode", metavar="MODE", help="rank: order all; 2afc: the better of two; best: the best of all."
    ),
]
Trials = Annotated[
    int, typer.Option("--trials", help="Crops judged by each participant; 15 to 30 are usual.")
]
Crop = Annotated[int, typer.Option("--crop", help="Side of a crop in pixels of the outputs.")]
Zoom = Annotated[int, typer.Option("--zoom", help="Screen pixels for each of them, nearest.")]
EveryPair = Annotated[
    bool, typer.Option("--every-pair", help="With 2afc: all pairs of a crop before the next crop.")
]
Title = Annotated[str, typer.Option("--title", help="Heading of the page.")]
Contact = Annotated[str, typer.Option("--contact", help="Whom participants may ask; shown on the page.")]
PlanSeed = Annotated[int, typer.Option("--seed", help="Of crops, orders and tokens.")]

# Of `study score`.
Answers = Annotated[
    list[Path],
    typer.Argument(metavar="ANSWERS...", help="Files that participants saved, or folders of them."),
]
Key = Annotated[Path, typer.Option("--key", metavar="KEYFILE", help="The study's key.json.")]
MetricTable = Annotated[
    Path | None,
    typer.Option("--metrics", metavar="FILE", help="CSV or JSON of `deflow score` of the same folders."),
]
Accuracy = Annotated[
    float, typer.Option("--min-accuracy", help="Share of catch items that a participant must find.")
]
Checks = Annotated[int, typer.Option("--min-checks", help="Catch items that a participant must have seen.")]
Seconds = Annotated[float, typer.Option("--min-seconds", help="Faster trials are dropped before all else.")]
Draws = Annotated[int, typer.Option("--draws", help="Of the bootstrap.")]
Page = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the figures.")]
DrawSeed = Annotated[int, typer.Option("--seed", help="Of the bootstrap.")]
