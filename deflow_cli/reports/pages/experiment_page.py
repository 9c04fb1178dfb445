"""Experiment page: the tables of a reproduced experiment, pictures, and what their reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deflow_cli.arrays import Pixels
from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Table


@dataclass(frozen=True)
class ExampleCrops:
    """The same part of an image by every method. pictures: label and pixels."""

    image: str
    pictures: Sequence[tuple[str, Pixels]]


def experiment_page(
    title: str,
    banner: str,
    tables: Sequence[Table],
    notes: Sequence[str],
    examples: Sequence[ExampleCrops] = (),
) -> str:
    """The page. banner: what must be said first, if anything. tables: with captions, each a section."""
    values = {"banner": banner, "tables": tables, "notes": notes, "examples": examples}
    return render_page("experiment.html", title, "deflow reproduce", values)
