"""Experiment page: the tables of a reproduced experiment, and what their reader must know."""

from __future__ import annotations

from collections.abc import Sequence

from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.tables import Table


def experiment_page(title: str, banner: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    """The page. banner: what must be said first, if anything. tables: with captions, each a section."""
    values = {"banner": banner, "tables": tables, "notes": notes}
    return render_page("experiment.html", title, "deflow reproduce", values)
