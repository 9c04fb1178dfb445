"""`deflow compare`: two versions of images on one page, with a slider between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.options import AsJson, Debug, check_source
from deflow_cli.cli.scoring.score_options import check_target
from deflow_cli.errors import ConfigError


def compare_images(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image, or a folder of images.")],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Another version: an image, or a folder of the same names.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page that is written.")
    ] = Path("compare.html"),
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B", help="What the two are called (default: their names)."),
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link",
            help="Name the files instead of holding the pictures: small, but it must stay with them.",
        ),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare two versions of images before and after, on a page with a slider.

    The page holds its pictures, lossless, and works from disk, by mouse, touch and keyboard. Sizes may differ
    by a whole factor, such as an input and its super-resolution.
    """
    for path, name in ((first, "A"), (second, "B")):
        check_source(path, name)
    check_target(out, "--out")
    named = tuple(part.strip() for part in labels.split(",")) if labels is not None else None
    if named is not None and (len(named) != 2 or not all(named)):
        raise ConfigError(
            f"--labels is {labels!r}", next_step="pass two names, such as --labels before,after"
        )

    from deflow_cli.workflows.compare import CompareRequest
    from deflow_cli.workflows.compare import compare_images as workflow

    pair = (named[0], named[1]) if named is not None else None
    with ConsoleReporter() as reporter:
        made = workflow(CompareRequest(first, second, out, pair, link), reporter)
    if as_json:
        print_json(made)
        return
    how = "linked" if made.linked else "held by the page"
    count = f"{made.images} image{'s' if made.images > 1 else ''}"
    typer.echo(f"{show_path(made.page)}: {count}, {how} ({made.bytes / 1e6:.1f} MB)")
