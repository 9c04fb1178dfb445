"""`deflow study`: a user study as one page for participants, and what their answers say."""

from __future__ import annotations

from pathlib import Path

import typer

from deflow_cli.cli.console import ConsoleReporter, print_json, show_path
from deflow_cli.cli.experiments import study_options as options
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
    methods: options.Methods,
    out: options.Out,
    ref: options.Reference = None,
    lq: options.LowResolution = None,
    mode: options.ModeName = "rank",
    trials: options.Trials = 30,
    crop: options.Crop = 128,
    zoom: options.Zoom = 2,
    every_pair: options.EveryPair = False,
    title: options.Title = "Image quality study",
    contact: options.Contact = "",
    seed: options.PlanSeed = 0,
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
    answers: options.Answers,
    key: options.Key,
    metrics: options.MetricTable = None,
    accuracy: options.Accuracy = 0.8,
    checks: options.Checks = 5,
    seconds: options.Seconds = 2.0,
    draws: options.Draws = 2000,
    html: options.Page = None,
    seed: options.DrawSeed = 0,
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
