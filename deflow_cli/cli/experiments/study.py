"""`deflow study`: a user study as one page for participants, and what their answers say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.experiments.study_table import print_study
from deflow_cli.cli.guard import guarded
from deflow_cli.cli.options import AsJson, Debug, check_folder
from deflow_cli.cli.scoring.result_files import results_first
from deflow_cli.cli.scoring.score_options import check_target
from deflow_cli.errors import ConfigError

app = typer.Typer(
    help="Ask people which images are better: make a study as one page, and score the answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def make_study(
    methods: Annotated[
        list[Path],
        typer.Argument(metavar="METHOD_DIR...", help="Folders of outputs, a method each, of equal names."),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="New folder: page/study.html for participants, and key.json."),
    ],
    ref: Annotated[
        Path | None,
        typer.Option(
            "--ref",
            metavar="GT",
            help="References. Shown beside, and hidden among the candidates to be first.",
        ),
    ] = None,
    lq: Annotated[
        Path | None,
        typer.Option(
            "--lq",
            metavar="LQ",
            help="Without references: the low-resolution sources, up-sampled to be shown and to be last.",
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode", metavar="MODE", help="rank: order all; 2afc: the better of two; best: the best of all."
        ),
    ] = "rank",
    trials: Annotated[
        int, typer.Option("--trials", help="Crops judged by each participant; 15 to 30 are usual.")
    ] = 30,
    crop: Annotated[int, typer.Option("--crop", help="Side of a crop in pixels of the outputs.")] = 128,
    zoom: Annotated[int, typer.Option("--zoom", help="Screen pixels for each of them, nearest.")] = 2,
    every_pair: Annotated[
        bool, typer.Option("--every-pair", help="With 2afc: all pairs of a crop before the next crop.")
    ] = False,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "Image quality study",
    contact: Annotated[
        str, typer.Option("--contact", help="Whom participants may ask; shown on the page.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of crops, orders and tokens.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a study: random crops of all methods at once, as one page that works from disk and on a phone.

    Each trial shows the reference and, unlabelled, the methods; hidden among them is a catch item, whose
    place is known (DeFlow, appendix F). Give participants page/study.html, and keep key.json.
    """
    for folder in methods:
        check_folder(folder, "METHOD_DIR")
    if (ref is None) == (lq is None):
        raise ConfigError("a study shows references or sources", next_step="pass either --ref GT or --lq LQ")
    check_folder(ref or lq or Path(), "--ref" if ref else "--lq")

    from deflow_cli.workflows.study.make import MakeStudyRequest
    from deflow_cli.workflows.study.make import make_study as workflow
    from deflow_cli.workflows.study.plan import MODES

    found = [known for known in MODES if known == mode]
    if not found:
        raise ConfigError(f"--mode is {mode!r}", next_step=f"use one of {', '.join(MODES)}")
    request = MakeStudyRequest(
        tuple(methods), out, ref, lq, found[0], trials, crop, zoom, every_pair, title, contact, seed
    )
    with ConsoleReporter() as reporter:
        made = workflow(request, reporter)
    if as_json:
        print_json(made)
        return
    typer.echo(
        f"{made.trials} trials of {len(made.methods)} methods on {made.images} images,"
        f" {made.catch_trials} with a catch item, in {made.forms} orders; study {made.study}"
    )
    typer.echo(f"for participants: {show_path(made.page)} ({made.bytes / 1e6:.1f} MB)")
    typer.echo(f"for you alone:    {show_path(made.key)}")


def score_study(
    answers: Annotated[
        list[Path],
        typer.Argument(metavar="ANSWERS...", help="Files that participants saved, or folders of them."),
    ],
    key: Annotated[Path, typer.Option("--key", metavar="KEYFILE", help="The study's key.json.")],
    metrics: Annotated[
        Path | None,
        typer.Option("--metrics", metavar="FILE", help="CSV or JSON of `deflow score` of the same folders."),
    ] = None,
    accuracy: Annotated[
        float, typer.Option("--min-accuracy", help="Share of catch items that a participant must find.")
    ] = 0.8,
    checks: Annotated[
        int, typer.Option("--min-checks", help="Catch items that a participant must have seen.")
    ] = 5,
    seconds: Annotated[
        float, typer.Option("--min-seconds", help="Faster trials are dropped before all else.")
    ] = 2.0,
    draws: Annotated[int, typer.Option("--draws", help="Of the bootstrap.")] = 2000,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the figures.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Score the answers to a study: mean opinion ranks, strengths with intervals, and which methods differ.

    Participants who miss catch items are left out. Files of another study are refused, and answers that are
    there twice count once.
    """
    check_target(html, "--html")
    if not 0 <= accuracy <= 1:
        raise ConfigError(f"--min-accuracy is {accuracy:g}", next_step="use a share from 0 to 1, such as 0.8")

    from deflow_cli.metrics.study.attention import AttentionRule
    from deflow_cli.workflows.study import score as workflow

    rule = AttentionRule(accuracy, checks, seconds)
    request = workflow.ScoreStudyRequest(tuple(answers), key, metrics, rule, draws, seed)
    with ConsoleReporter() as reporter:
        document = workflow.score_study(request, reporter).as_dict()

    def page() -> str:
        from deflow_cli.reports.pages.study_page import study_page

        return study_page(document)

    with results_first() as files:
        files.write(html, page)
        if as_json:
            print_json(document)
        else:
            print_study(document)


app.command("make")(guarded(make_study))
app.command("score")(guarded(score_study))
