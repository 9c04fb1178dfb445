"""Tables: what was measured beside what was published, as records, Markdown and a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deflow_cli.reports.pages.tables import Cell, Table
from deflow_cli.workflows.reproduce.experiments import Experiment
from deflow_cli.workflows.reproduce.published import (
    OTHERS,
    PUBLISHED_REALISM,
    RERUNS,
    ROWS,
    TABLES,
    PublishedRow,
)
from deflow_cli.workflows.reproduce.steps.ledger import Facts


@dataclass(frozen=True)
class MeasureColumn:
    """A measure as a column: how many decimals are shown of measured values and of the paper's."""

    title: str
    higher_is_better: bool
    digits: int
    printed_digits: int

    @property
    def heading(self) -> str:
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


COLUMNS_OF = {
    "psnr": MeasureColumn("PSNR", True, 2, 2),
    "ssim": MeasureColumn("SSIM", True, 3, 2),
    "lpips": MeasureColumn("LPIPS", False, 3, 3),
    "niqe": MeasureColumn("NIQE", False, 2, 2),
    "brisque": MeasureColumn("BRISQUE", False, 2, 2),
    "piqe": MeasureColumn("PIQE", False, 2, 2),
}
REALISM_COLUMNS = {  # name of a figure: heading and decimals
    "akld": ("AKLD", 3),
    "kl": ("KL, residuals", 4),
    "acf": ("ACF RMS, residuals", 4),
    "psd": ("PSD dB, residuals", 2),
    "flat_kl": ("KL, flat patches", 4),
    "flat_acf": ("ACF RMS, flat patches", 4),
    "flat_psd": ("PSD dB, flat patches", 2),
    "kid": ("KID, NSS features", 3),
    "kid_inception": ("KID, Inception", 3),
    "cnn": ("a small CNN tells", 3),
}
CHOICES = {
    "test": "best on the validation images themselves, as published (a leak)",
    "held-out": "best on a held-out tenth of the training pairs",
    "last": "the last model",
}


@dataclass(frozen=True)
class SeedSpread:
    """A figure over seeds: their median, and from the lowest to the highest.

    Of one seed, low and high bound the 95 % bootstrap interval over images instead.
    """

    median: float
    low: float | None
    high: float | None
    seeds: int

    def text(self, digits: int) -> str:
        """``22.25 [22.10, 22.31]``."""
        if self.low is None or self.high is None:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class MeasuredRow:
    """A method's figures. scores: by choice of the model (`CHOICES`), then metric. steps: chosen, by choice.

    realism: by figure (`REALISM_COLUMNS`).
    """

    method: str
    title: str
    published: PublishedRow
    scores: Mapping[str, Mapping[str, SeedSpread]]
    steps: Mapping[str, tuple[str, ...]]
    realism: Mapping[str, SeedSpread]


@dataclass(frozen=True)
class ReproducedTable:
    """One of the paper's tables. scaled_down: its figures are no measure of the methods."""

    experiment: str
    title: str
    number: int
    measures: tuple[str, ...]
    rows: tuple[MeasuredRow, ...]
    seeds: int
    scaled_down: bool
    notes: tuple[str, ...]


def spread_of(values: Sequence[Mapping[str, float]]) -> SeedSpread | None:
    """Over seeds, of records with ``mean`` and, where they are known, ``low`` and ``high``.

    >>> spread_of([{"mean": 1.0}, {"mean": 4.0}, {"mean": 2.0}])
    SeedSpread(median=2.0, low=1.0, high=4.0, seeds=3)
    """
    means = [value["mean"] for value in values if "mean" in value]
    if not means:
        return None
    if len(means) == 1:
        return SeedSpread(means[0], values[0].get("low"), values[0].get("high"), 1)
    return SeedSpread(statistics.median(means), min(means), max(means), len(means))


def measured_row(
    experiment: Experiment, method: str, title: str, scored: Sequence[Facts], realism: Sequence[Facts]
) -> MeasuredRow:
    """A row of the results of a method's steps, one for each seed; of none where it was not measured."""
    chosen: dict[str, list[str]] = {name: [] for name in CHOICES}
    for one in map(_plain, scored):
        steps = one["scores"]
        chosen["last"].append(one["last"])
        if one["held_out"] is not None:
            chosen["held-out"].append(one["held_out"])
        if experiment.chosen_by:
            metric = (
                experiment.chosen_by if all(experiment.chosen_by in s for s in steps.values()) else "psnr"
            )
            sign = -1.0 if COLUMNS_OF[metric].higher_is_better else 1.0
            chosen["test"].append(min(steps, key=lambda step: sign * steps[step][metric]["mean"]))
    scores: dict[str, dict[str, SeedSpread]] = {}
    for choice, steps_chosen in chosen.items():
        if len(steps_chosen) != len(scored) or not scored:
            continue
        records = [_plain(one)["scores"][step] for one, step in zip(scored, steps_chosen, strict=True)]
        scores[choice] = {
            measure: found
            for measure in experiment.measures
            if (found := spread_of([record.get(measure, {}) for record in records])) is not None
        }
    figures = {
        name: found
        for name in REALISM_COLUMNS
        if (found := spread_of([{"mean": _plain(one)[name]} for one in realism if name in one])) is not None
    }
    published = TABLES[experiment.name].get(method, PublishedRow())
    steps = {choice: tuple(steps) for choice, steps in chosen.items() if choice in scores}
    return MeasuredRow(method, title, published, scores, steps, figures)


def _plain(facts: Facts) -> dict[str, Any]:
    return dict(facts)


# -- shown --------------------------------------------------------------------------------------------------


def shown_tables(table: ReproducedTable) -> list[Table]:
    """The table as the paper has it, then the other choices of a model, realism, and later runs by others."""
    found = [_main(table)]
    found += [_choice(table, choice) for choice in CHOICES if choice != paper_choice(table)]
    found += [_realism(table), _reruns(table)]
    return [one for one in found if one.rows]


def paper_choice(table: ReproducedTable) -> str:
    """The choice of a model (`CHOICES`) that the paper makes."""
    return "test" if any("test" in row.scores for row in table.rows) else "last"


def _main(table: ReproducedTable) -> Table:
    choice = paper_choice(table)
    columns = ["Method"]
    for source in ("published, same SR stage", "published, official model", "measured"):
        columns += [f"{COLUMNS_OF[measure].heading} ({source})" for measure in table.measures]
    columns.append("MOR (published)")
    rows: list[list[Cell]] = []
    for row in table.rows:
        cells: list[Cell] = [row.title]
        for values in (row.published.same, row.published.official):
            cells += _printed(values, table.measures)
        cells += [_measured(row.scores.get(choice, {}), measure) for measure in table.measures]
        rows.append([*cells, None if row.published.mor is None else f"{row.published.mor:.3f}"])
    keep = [0, *(k for k in range(1, len(columns)) if any(row[k] is not None for row in rows))]
    return Table(
        [columns[k] for k in keep],
        [[row[k] for k in keep] for row in rows],
        f"Table {table.number}: {table.title}; measured: {CHOICES[choice]}",
    )


def _printed(values: tuple[float, ...] | None, measures: Sequence[str]) -> list[Cell]:
    if values is None:
        return [None] * len(measures)
    return [f"{v:.{COLUMNS_OF[name].printed_digits}f}" for v, name in zip(values, measures, strict=True)]


def _measured(scores: Mapping[str, SeedSpread], measure: str) -> Cell:
    return scores[measure].text(COLUMNS_OF[measure].digits) if measure in scores else None


def _choice(table: ReproducedTable, choice: str) -> Table:
    columns = ["Method", *(COLUMNS_OF[measure].heading for measure in table.measures), "Step"]
    rows: list[list[Cell]] = [
        [row.title, *(_measured(row.scores[choice], m) for m in table.measures), ", ".join(row.steps[choice])]
        for row in table.rows
        if choice in row.scores
    ]
    return Table(columns, rows, f"Measured: {CHOICES[choice]}")


def _realism(table: ReproducedTable) -> Table:
    known = PUBLISHED_REALISM.get("aim" if table.experiment == "ablations" else table.experiment, {})
    names = [name for name in REALISM_COLUMNS if any(name in row.realism for row in table.rows)]
    columns = ["Method", *(f"{REALISM_COLUMNS[name][0]} ↓" for name in names)]
    columns += ["AKLD ↓ (published)", "FID ↓ (published)"]
    rows: list[list[Cell]] = []
    for row in table.rows:
        if not row.realism:
            continue
        cells = [
            row.realism[name].text(REALISM_COLUMNS[name][1]) if name in row.realism else None
            for name in names
        ]
        theirs = known.get(row.method)
        printed = (None, None) if theirs is None else (f"{theirs.akld:.3f}", f"{theirs.fid:.1f}")
        rows.append([row.title, *cells, *printed])
    return Table(columns, rows, "Realism of the degradations, without any restorer")


def _reruns(table: ReproducedTable) -> Table:
    titles = OTHERS | dict(ROWS["aim"])
    rows: list[list[Cell]] = [
        [titles[name], *_printed_finely(values, table.measures)]
        for name, values in RERUNS.get(table.experiment, {}).items()
    ]
    return Table(
        ["Method", *(COLUMNS_OF[measure].heading for measure in table.measures)],
        rows,
        "Later runs of the pipeline by others (LUD-DIF)",
    )


def _printed_finely(values: tuple[float, ...], measures: Sequence[str]) -> list[Cell]:
    return [
        f"{value:.{COLUMNS_OF[measure].digits}f}" for value, measure in zip(values, measures, strict=True)
    ]


def markdown(table: ReproducedTable) -> str:
    """The tables as Markdown, with the notes below."""
    blocks = [f"# Table {table.number}, {table.title}"]
    if table.scaled_down:
        blocks.append(SCALED_DOWN)
    for one in shown_tables(table):
        lines = [_line(one.columns), _line("---" for _ in one.columns)]
        lines += [_line("" if cell is None else str(cell) for cell in row) for row in one.rows]
        blocks += [f"## {one.caption}", "\n".join(lines)]
    if table.notes:
        blocks.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(blocks) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


SCALED_DOWN = (
    "**Scaled down**: small networks, trained for a thousandth of the steps, to try the pipeline and learn. "
    "These figures are no measure of the methods."
)
