"""Methods: those of each table, offered where their degraders are installed."""

from __future__ import annotations

import pytest

from deflow_cli.degraders.registry import configuration, degrader_options
from deflow_cli.errors import ConfigError
from deflow_cli.workflows.reproduce import methods
from deflow_cli.workflows.reproduce.methods import (
    ABLATIONS,
    METHODS,
    chosen_methods,
    methods_of,
    missing_roles,
)
from deflow_cli.workflows.reproduce.published import TABLES


def test_every_table_names_its_methods() -> None:
    for experiment in ("aim", "ntire", "dped"):
        names = [method.name for method in methods_of(experiment)]
        assert {"none", "deflow", "noise-patches"} <= set(names)
        assert len(set(names)) == len(names)
    assert "white-noise" not in [method.name for method in methods_of("dped")]
    assert {"dsgan", "dasr", "cyclegan"} <= {method.name for method in methods_of("ntire")}
    assert "dasr" not in [method.name for method in methods_of("dped")]
    assert {method.name for method in methods_of("ablations")} == set(TABLES["ablations"])


@pytest.mark.parametrize("method", [*METHODS, *ABLATIONS], ids=lambda method: method.name)
def test_options_are_those_of_the_degrader(method: methods.Method) -> None:
    known = {name for name, each in degrader_options().items() if method.degrader in each.users}
    given = set(method.folders).union(method.small_options, *map(set, method.options.values()))
    assert given <= known
    assert configuration(method.degrader).name == method.degrader


def test_a_method_that_is_not_installed_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "degrader_names", lambda: ("none",))
    assert [method.name for method in methods_of("aim")] == ["none"]


def test_networks_learn_from_clean_images_of_other_scenes_where_there_are_no_others() -> None:
    found = {method.name: method for method in METHODS}
    assert missing_roles(found["cyclegan"], "dped", {"noisy"}) == ["other_clean"]
    assert missing_roles(found["cyclegan"], "dped", {"noisy", "other_clean"}) == []
    assert missing_roles(found["cyclegan"], "aim", {"noisy"}) == []
    assert missing_roles(found["deflow"], "dped", {"noisy"}) == []


def test_only_keeps_the_tables_order_and_refuses_unknown_names() -> None:
    assert [method.name for method in chosen_methods("aim", ("deflow", "none"))] == ["none", "deflow"]
    with pytest.raises(ConfigError, match="'diagonal' is no method of aim") as refused:
        chosen_methods("aim", ("diagonal",))
    assert "deflow" in refused.value.next_step
