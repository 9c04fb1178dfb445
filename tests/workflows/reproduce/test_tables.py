"""Tables: published beside measured, choices of the model, spreads over seeds, and their text."""

from __future__ import annotations

import dataclasses

from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.published import ROWS
from deflow_cli.workflows.reproduce.steps.ledger import Facts
from deflow_cli.workflows.reproduce.tables import (
    MeasuredRow,
    ReproducedTable,
    SeedSpread,
    markdown,
    measured_row,
    shown_tables,
    spread_of,
)


def scored(lpips: dict[str, float], held_out: str | None, psnr: float = 20.0) -> Facts:
    scores = {
        step: {
            "psnr": {"mean": psnr + number, "low": psnr - 1, "high": psnr + 3},
            "ssim": {"mean": 0.5},
            "lpips": {"mean": value, "low": value - 0.01, "high": value + 0.01},
        }
        for number, (step, value) in enumerate(lpips.items())
    }
    return {"scores": scores, "held_out": held_out, "last": list(lpips)[-1]}


LPIPS = {"10000": 0.35, "20000": 0.33, "40000": 0.36, "60000": 0.34}


def row(*seeds: Facts, realism: list[Facts] | None = None) -> MeasuredRow:
    return measured_row(EXPERIMENTS["aim"], "deflow", "DeFlow", seeds, realism or [])


def table(*rows: MeasuredRow, **changes: object) -> ReproducedTable:
    made = ReproducedTable("aim", "AIM-RWSR", 1, ("psnr", "ssim", "lpips"), rows, 1, False, ("A note.",))
    return dataclasses.replace(made, **changes)


def test_the_three_choices_of_a_model() -> None:
    found = row(scored(LPIPS, "40000"))
    assert found.steps == {"test": ("20000",), "held-out": ("40000",), "last": ("60000",)}
    assert found.scores["test"]["lpips"] == SeedSpread(0.33, 0.32, 0.34, 1)
    assert found.scores["last"]["psnr"].median == 23.0
    assert found.published.same == (22.25, 0.62, 0.349)


def test_without_lpips_psnr_chooses() -> None:
    facts = scored(LPIPS, None)
    scores = facts["scores"]
    assert isinstance(scores, dict)
    for step in scores.values():
        del step["lpips"]
    found = row(facts)
    assert found.steps == {"test": ("60000",), "last": ("60000",)}
    assert "lpips" not in found.scores["test"]


def test_seeds_give_a_median_and_a_spread() -> None:
    found = row(*(scored(LPIPS, "40000", psnr) for psnr in (20.0, 23.0, 21.0)))
    assert found.scores["last"]["psnr"] == SeedSpread(24.0, 23.0, 26.0, 3)
    assert spread_of([{}]) is None
    assert SeedSpread(0.3333, None, None, 1).text(3) == "0.333"


def test_tables_without_ground_truth_take_the_last_model() -> None:
    scores = {"60000": {"niqe": {"mean": 3.5}, "piqe": {"mean": 15.0}}}
    facts = {"scores": scores, "held_out": None, "last": "60000"}
    found = measured_row(EXPERIMENTS["dped"], "deflow", "DeFlow", [facts], [])
    assert set(found.scores) == {"last"}
    made = table(found, experiment="dped", measures=EXPERIMENTS["dped"].measures, number=3)
    assert "measured: the last model" in shown_tables(made)[0].caption


def test_text_of_a_whole_table() -> None:
    rows = [measured_row(EXPERIMENTS["aim"], name, title, [], []) for name, title in ROWS["aim"][:-1]]
    realism: list[Facts] = [{"akld": 0.36, "cnn": 0.9}]
    text = markdown(table(*rows, row(scored(LPIPS, "40000"), realism=realism)))
    lines = text.splitlines()
    assert lines[0] == "# Table 1, AIM-RWSR"
    assert "| Frequency separation | 20.47 | 0.52 | 0.394 | 21.00 | 0.50 | 0.403 |  |  |  | 3.855 |" in lines
    measured = "21.00 [19.00, 23.00] | 0.500 | 0.330 [0.320, 0.340]"
    assert f"| DeFlow | 22.25 | 0.62 | 0.349 |  |  |  | {measured} | 3.317 |" in lines
    assert "| DeFlow | 0.360 | 0.900 | 0.356 | 119.8 |" in lines
    assert "| LUD-VAE | 22.32 | 0.620 | 0.341 |" in lines
    assert "- A note." in lines
    assert "Scaled down" not in text
    assert "no measure of the methods" in markdown(table(*rows, scaled_down=True))


def test_empty_columns_are_left_out() -> None:
    first = shown_tables(table(row(scored(LPIPS, "40000"))))[0]
    assert not any("official" in column for column in first.columns)
    assert all(len(cells) == len(first.columns) for cells in first.rows)
