"""Results: an experiment's table from what its steps found, with notes, and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deflow_cli import __version__
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.hub import find, remote_file
from deflow_cli.reports.pages.experiment_page import experiment_page
from deflow_cli.texts import encoded, json_text
from deflow_cli.workflows.reproduce.plan import ExperimentPlan, realism_name, scores_name
from deflow_cli.workflows.reproduce.published import ROWS
from deflow_cli.workflows.reproduce.steps.base import TUNED
from deflow_cli.workflows.reproduce.steps.ledger import Facts, Ledger
from deflow_cli.workflows.reproduce.tables import (
    SCALED_DOWN,
    ReproducedTable,
    markdown,
    measured_row,
    shown_tables,
)

TABLE_FILES = ("table.md", "table.json", "table.html")


def missing_weights(plan: ExperimentPlan) -> list[str]:
    """Weights of others that are not on this machine, and what the table lacks without them."""
    needed = {"alexnet": "LPIPS"} if "lpips" in plan.experiment.measures else {"brisque": "BRISQUE"}
    if plan.restores and plan.recipe.restorer.loss.features == "vgg19":
        needed["vgg19"] = "the restorers' perceptual loss"
    return [
        f"{remote_file(name).note}, for {purpose}: deflow weights pull {name}"
        for name, purpose in needed.items()
        if find(remote_file(name)) is None
    ]


def reproduced_table(plan: ExperimentPlan, ledger: Ledger) -> ReproducedTable:
    """The rows that the paper prints, measured where they could be, then those that it does not have."""
    experiment, seeds = plan.experiment, range(plan.seeds)
    measured = {method.name: method.title for method in plan.methods}
    printed = ROWS[experiment.name]
    ours = [(name, title) for name, title in measured.items() if name not in dict(printed)]
    rows = []
    for name, title in (*printed, *ours):
        done = seeds if name in measured else range(0)
        scored = _results(ledger, [scores_name(name, seed) for seed in done if plan.restores])
        realism = _results(ledger, [realism_name(name, seed) for seed in done])
        rows.append(measured_row(experiment, name, title, scored, realism))
    return ReproducedTable(
        experiment.name,
        experiment.title,
        experiment.number,
        experiment.measures,
        tuple(rows),
        plan.seeds,
        plan.small,
        tuple(_notes(plan, ledger)),
    )


def _results(ledger: Ledger, names: Sequence[str]) -> list[Facts]:
    """What came of steps, but for those that failed."""
    return [ledger.result(name) for name in names if ledger.standing(name).condition == "done"]


def _notes(plan: ExperimentPlan, ledger: Ledger) -> list[str]:
    """What a reader of the figures must know."""
    seeds = (
        f"median over {plan.seeds} seeds, and from the lowest to the highest"
        if plan.seeds > 1
        else "one seed, with the 95 % bootstrap interval over images; --seeds 3 shows how far seeds differ"
    )
    notes = [f"Measured: {seeds}."]
    notes += [f"Left out: {line}." for line in missing_weights(plan)]
    if not plan.experiment.clean_is_noisy:
        notes.append(
            "Protocol: PSNR and SSIM (7 x 7 uniform window) on RGB without a border, means over images."
        )
    else:
        notes.append(
            "Published NIQE and BRISQUE are probably of MATLAB's own models; ours use LIVE's, and only PIQE "
            "can be compared. The paper says that these metrics do not follow perception."
        )
    tuned = any(method.fit == "sigma" for method in plan.methods) and plan.restores
    for result in _results(ledger, [TUNED] if tuned else []):
        found: dict[str, Any] = dict(result)
        notes.append(
            f"White noise: sigma {found['sigma']:g} of 255, the best {found['metric']} on the validation "
            f"images after {plan.recipe.tuning or 'short'} steps ({found['tried']})."
        )
    notes.append("The same method moves by up to 1.2 dB PSNR and 0.007 LPIPS between laboratories.")
    return notes


def write_table(out: Path, table: ReproducedTable) -> tuple[Path, ...]:
    """Write the table as Markdown, JSON and a page."""
    banner = SCALED_DOWN.replace("*", "") if table.scaled_down else ""
    document = {"version": __version__, **dataclasses.asdict(table)}
    texts = (
        markdown(table),
        json_text(document, indent=1) + "\n",
        experiment_page(f"Table {table.number}, {table.title}", banner, shown_tables(table), table.notes),
    )
    paths = tuple(out / name for name in TABLE_FILES)
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, encoded(text))
    return paths
