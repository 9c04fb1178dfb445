"""Results: an experiment's table from what its steps found, with notes, and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deflow_cli import __version__
from deflow_cli.arrays import Window
from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.checkpoints.hub import find, remote_file
from deflow_cli.data.images.files import read_rgb8
from deflow_cli.data.images.listing import list_images
from deflow_cli.reports.pages.experiment_page import ExampleCrops, experiment_page
from deflow_cli.texts import encoded, json_text
from deflow_cli.workflows.reproduce.experiments import SR_SCALE
from deflow_cli.workflows.reproduce.plan import ExperimentPlan
from deflow_cli.workflows.reproduce.published import ROWS
from deflow_cli.workflows.reproduce.steps.base import TUNED
from deflow_cli.workflows.reproduce.steps.ledger import Facts, Ledger
from deflow_cli.workflows.reproduce.steps.realism import realism_name, spread
from deflow_cli.workflows.reproduce.steps.restoring import lacking_weights, scores_name
from deflow_cli.workflows.reproduce.tables import (
    COLUMNS_OF,
    SCALED_DOWN,
    ReproducedTable,
    markdown,
    measured_row,
    paper_choice,
    shown_tables,
)

_IMAGES_SHOWN = 6  # validation images on the page
_SIDE_SHOWN = 160  # px of their outputs
TABLE_FILES = ("table.md", "table.json", "table.html")


def missing_weights(plan: ExperimentPlan) -> list[str]:
    """Weights of others that are not on this machine, and what the table lacks without them."""
    titles = {name: COLUMNS_OF[measure].title for measure, name in _lacking(plan).items()}
    wants_features = plan.restores and plan.recipe.restorer.loss.features == "vgg19"
    if wants_features and find(remote_file("vgg19")) is None:
        titles["vgg19"] = "the restorers' perceptual loss"
    return [
        f"{remote_file(name).note}, for {what}: deflow weights pull {name}" for name, what in titles.items()
    ]


def _lacking(plan: ExperimentPlan) -> dict[str, str]:
    return lacking_weights(plan.experiment.measures) if plan.restores else {}


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


def example_crops(plan: ExperimentPlan, ledger: Ledger, table: ReproducedTable) -> list[ExampleCrops]:
    """The middles of some validation images: the input, each method's output of the first seed, the truth."""
    inputs, truth = plan.layout.parts["valid_input"], plan.layout.parts.get("valid_truth")
    truths = {} if truth is None else {path.stem: path for path in truth.images}
    choice = paper_choice(table)
    outputs: dict[str, dict[str, Path]] = {}
    for row in table.rows:
        if choice in row.steps and row.title not in outputs:
            folder = ledger.folder(scores_name(row.method, 0)) / row.steps[choice][0]
            outputs[row.title] = {path.stem: path for path in list_images(folder)}
    if not outputs:
        return []
    found = []
    for path in spread(inputs.images, _IMAGES_SHOWN):
        small = read_rgb8(path)
        large = small.repeat(SR_SCALE, axis=0).repeat(SR_SCALE, axis=1)
        shown = [("input", large)]
        shown += [(title, read_rgb8(files[path.stem])) for title, files in outputs.items()]
        if path.stem in truths:
            shown.append(("truth", read_rgb8(truths[path.stem])))
        window = middle_window(large.shape[0], large.shape[1], _SIDE_SHOWN)
        pictures = [(label, pixels[window.slices]) for label, pixels in shown]
        found.append(ExampleCrops(path.name, pictures))
    return found


def middle_window(height: int, width: int, side: int) -> Window:
    """The middle of a picture, at most ``side`` px a side."""
    rows, columns = min(height, side), min(width, side)
    return Window((height - rows) // 2, (width - columns) // 2, rows, columns)


def write_table(out: Path, table: ReproducedTable, examples: Sequence[ExampleCrops] = ()) -> tuple[Path, ...]:
    """Write the table as Markdown, JSON and a page. examples: pictures of the page."""
    banner = SCALED_DOWN.replace("*", "") if table.scaled_down else ""
    document = {"version": __version__, **dataclasses.asdict(table)}
    texts = (
        markdown(table),
        json_text(document, indent=1) + "\n",
        experiment_page(
            f"Table {table.number}, {table.title}", banner, shown_tables(table), table.notes, examples
        ),
    )
    paths = tuple(out / name for name in TABLE_FILES)
    for path, text in zip(paths, texts, strict=True):
        write_atomically(path, encoded(text))
    return paths
