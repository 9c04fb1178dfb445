"""Experiment page: tables, pictures and notes, and nothing of what there is not."""

from __future__ import annotations

import numpy as np

from deflow_cli.reports.pages.experiment_page import ExampleCrops, experiment_page
from deflow_cli.reports.pages.tables import Table


def test_tables_pictures_and_notes_are_shown() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    table = Table(["Method", "PSNR"], [["DeFlow", "22.25"]], "Table 1")
    examples = [ExampleCrops("0801.png", [("input", pixels), ("truth", pixels)])]
    page = experiment_page("Table 1, AIM", "Scaled down: <small>", [table], ["A note."], examples)
    assert "<title>Table 1, AIM</title>" in page
    assert "Scaled down: &lt;small&gt;" in page
    assert "<figcaption>truth</figcaption>" in page
    assert "<figcaption>0801.png</figcaption>" in page
    assert "<li>A note.</li>" in page


def test_without_banner_and_pictures() -> None:
    page = experiment_page("Table 2", "", [Table(["Method"], [["DeFlow"]], "Table 2")], [])
    assert "Pictures" not in page
    assert 'class="callout' not in page
