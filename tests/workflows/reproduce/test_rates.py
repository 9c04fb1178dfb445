"""Rates: estimates by hand, from the rates stated."""

from __future__ import annotations

from pathlib import Path

import pytest

from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.layouts import FoundPart
from deflow_cli.workflows.reproduce.rates import Rates
from deflow_cli.workflows.reproduce.recipes import recipe


def test_trainings_take_what_their_steps_take() -> None:
    of = {
        name: recipe(EXPERIMENTS[name], small=False, settings=(), budget=0.0, trainings=1)
        for name in ("aim", "dped")
    }
    rates = Rates()
    assert rates.fit(of["aim"].fit).seconds == pytest.approx(100_000 * 0.119)
    by_work = 0.119 * 3292 / 4776 * (48 * 80**2) / (8 * 160**2)
    assert rates.fit(of["dped"].fit).seconds == pytest.approx(100_000 * by_work)
    assert rates.restorer(of["aim"].restorer).seconds == pytest.approx(60_000 * 0.0348)
    assert rates.restorer(of["aim"].start).seconds == pytest.approx(250_000 * 0.0348 / 2)
    budget = recipe(EXPERIMENTS["aim"], small=False, settings=(), budget=3600.0, trainings=4)
    assert rates.fit(budget.fit).seconds == rates.restorer(budget.restorer).seconds == 900.0


def test_sizes_that_cannot_be_read_are_assumed() -> None:
    unread = FoundPart("clean", Path("clean"), (Path("a.png"), Path("b.png")), 0)
    read = FoundPart("clean", Path("clean"), unread.images, 2_000_000)
    assert Rates().pairs(unread).bytes == pytest.approx(2 * 2.8e6 * (1.6 + 2.4 / 16))
    assert Rates().pairs(read).bytes == pytest.approx(2e6 * (1.6 + 2.4 / 16))
    assert Rates(small=True).pairs(read).seconds == 10.0


def test_small_fits_take_what_their_steps_take() -> None:
    of = {
        name: recipe(EXPERIMENTS[name], small=True, settings=(), budget=0.0, trainings=1)
        for name in ("aim", "ablations")
    }
    assert Rates(small=True).fit(of["aim"].fit).seconds == pytest.approx(35.0)
    assert Rates(small=True).fit(of["ablations"].fit).seconds == pytest.approx(700.0)
