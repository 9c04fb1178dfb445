"""Published figures: every row of the paper's tables, in their shape."""

from __future__ import annotations

import pytest

from deflow_cli.workflows.reproduce.experiments import EXPERIMENTS
from deflow_cli.workflows.reproduce.published import OTHERS, PUBLISHED_REALISM, RERUNS, ROWS, TABLES


@pytest.mark.parametrize(("name", "rows"), [("aim", 7), ("ntire", 6), ("dped", 6), ("ablations", 10)])
def test_tables_have_the_papers_shape(name: str, rows: int) -> None:
    assert len(ROWS[name]) == rows
    assert {method for method, _ in ROWS[name]} == set(TABLES[name])
    for row in TABLES[name].values():
        assert row.same or row.official
        for values in (row.same, row.official):
            assert values is None or len(values) == len(EXPERIMENTS[name].measures)


def test_anchors_of_the_paper() -> None:
    assert TABLES["aim"]["deflow"].same == (22.25, 0.62, 0.349)
    assert TABLES["aim"]["dasr"].official == (21.79, 0.58, 0.346)
    assert TABLES["ntire"]["deflow"].same == (25.87, 0.71, 0.218)
    assert TABLES["dped"]["deflow"].same == (3.42, 21.13, 15.84)
    assert TABLES["ablations"]["h-4"].same == (22.44, 0.61, 0.429)


def test_deflow_has_the_best_lpips_of_what_the_same_stage_was_trained_on() -> None:
    for name in ("aim", "ntire"):
        lpips = {method: row.same[2] for method, row in TABLES[name].items() if row.same}
        assert min(lpips, key=lambda method: lpips[method]) == "deflow"


def test_opinion_ranks_leave_the_catch_items_rank() -> None:
    """Ranks 1 to m sum to m (m + 1) / 2, the catch item counted: appendix F."""
    for name, items, catch in (("aim", 6, 1.124), ("ntire", 6, 1.137), ("dped", 4, 3.978)):
        ranks = [row.mor for row in TABLES[name].values() if row.mor is not None]
        assert len(ranks) == items - 1
        assert items * (items + 1) / 2 - sum(ranks) == pytest.approx(catch, abs=5e-4)


def test_every_figure_by_others_names_a_known_method() -> None:
    for name in ("aim", "ntire"):
        known = set(TABLES[name]) | set(TABLES["aim"]) | set(OTHERS)
        assert set(RERUNS[name]) <= known
        assert set(PUBLISHED_REALISM[name]) <= known
        assert len(RERUNS[name]) == 5
        assert len(PUBLISHED_REALISM[name]) == 7
