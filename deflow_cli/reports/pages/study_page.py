"""Study page: the figures of a user study as one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deflow_cli.reports.pages.rendering import render_page
from deflow_cli.reports.pages.score_page import figure
from deflow_cli.reports.pages.tables import Cell, Table, Undefined
from deflow_cli.reports.svg.categorical_plots import bar_plot, strip_plot

Report = Mapping[str, Any]
_TASKS = {"rank": "all methods ranked at once", "2afc": "pairs of methods", "best": "the best of all methods"}
_SIGNIFICANT = 0.05


def study_page(document: Report) -> str:
    """The page of a study's report (its dictionary)."""
    people = document["participants"]
    subtitle = (
        f"{_TASKS[document['mode']]}; {document['trials']['kept']} answers of {people['kept']} of"
        f" {people['recruited']} participants"
    )
    values = {
        "document": document,
        "methods": _methods(document),
        "strengths": _strengths(document),
        "alternatives": _alternatives(document),
        "pairs": _pairs(document),
        "metrics": _metrics(document),
        "agreement": _agreement(document),
        "people": _people(document),
        "answers": _answers(document),
        "identity": _identity(document),
        "power": _power(document),
        "how": _how(document),
    }
    names = [method["name"] for method in document["methods"]]
    return render_page("study.html", f"User study: {', '.join(names)}", subtitle, values)


def _interval(estimate: Mapping[str, float], digits: int = 2) -> str:
    return f"{figure(estimate['low'], digits)} to {figure(estimate['high'], digits)}"


def _methods(document: Report) -> Table:
    ranked = document["identity"] is not None
    columns = ["Method", "Letters", *(["Mean rank", "95 % interval"] if ranked else [])]
    columns += ["Log strength", "95 % interval", "First, %"]
    rows: list[list[Cell]] = []
    for method in document["methods"]:
        row: list[Cell] = [method["name"], method["letters"]]
        if ranked:
            row += [method["mean_rank"]["value"], _interval(method["mean_rank"])]
        rows.append(
            [*row, method["strength"]["value"], _interval(method["strength"]), 100 * method["firsts"]]
        )
    digits = [None, None, *([3, None] if ranked else []), 3, None, 0]
    notes = ["Methods that share a letter are not told apart at 5 %, corrected by Holm for all pairs."]
    if ranked:
        notes.append("Mean rank counts the catch item as papers do; 1 is the best.")
    return Table(columns, rows, notes=notes, digits=digits)


def _alternatives(document: Report) -> Table:
    """The same by other measures."""
    ranked = document["identity"] is not None
    columns = ["Method", *(["Mean rank without catch item", "95 % interval"] if ranked else [])]
    columns += ["Bradley-Terry", "95 % interval", "Elo"]
    rows: list[list[Cell]] = []
    for method in document["methods"]:
        row: list[Cell] = [method["name"]]
        for name in ("corrected", "bradley_terry") if ranked else ("bradley_terry",):
            row += [method[name]["value"], _interval(method[name])]
        rows.append([*row, method["elo"]["value"]])
    return Table(columns, rows, digits=[None, *([3, None] if ranked else []), 3, None, 0])


def _strengths(document: Report) -> str:
    bars = [
        (method["name"], *(method["strength"][part] for part in ("value", "low", "high")))
        for method in document["methods"]
    ]
    return bar_plot(bars, x_label="log strength (Plackett-Luce), mean 0", title="Strength of each method")


def _pairs(document: Report) -> Table:
    rows: list[list[Cell]] = [
        [
            f"{pair['first']} − {pair['second']}",
            pair["difference"]["value"],
            _interval(pair["difference"]),
            pair["p"],
            pair["p_holm"],
            "yes" if pair["p_holm"] < _SIGNIFICANT else "no",
        ]
        for pair in document["pairs"]
    ]
    columns = ["Pair", "Difference of log strengths", "95 % interval", "p", "p, Holm", "Told apart"]
    return Table(columns, rows, digits=[None, 3, None, 4, 4, None])


def _metrics(document: Report) -> Table | None:
    rows: list[list[Cell]] = [
        [
            one["metric"],
            Undefined("all methods have one value") if math.isnan(one["spearman"]) else one["spearman"],
            one["methods"],
        ]
        for one in document["metrics"]
    ]
    notes = ["1: the metric orders methods as people do; −1: the other way round. Few methods say little."]
    return Table(["Metric", "Spearman", "Methods"], rows, notes=notes, digits=[None, 2, 0]) if rows else None


def _agreement(document: Report) -> str | None:
    if document["agreement"] is None:
        return None
    by_image: dict[str, list[float]] = {}
    for one in document["agreement"]["crops"]:
        by_image.setdefault(one["image"], []).append(one["w"])
    label = "Kendall's W of a crop, 0: no agreement, 1: all ranked alike"
    return strip_plot(list(by_image.items()), x_label=label, title="Agreement on each image")


def _people(document: Report) -> Table:
    rows: list[list[Cell]] = [
        [
            person["participant"],
            "left out" if person["reason"] else "kept",
            person["trials"],
            person["too_fast"],
            f"{person['passed']} of {person['checks']}",
            person["reason"] or "–",
        ]
        for person in document["participants"]["people"]
    ]
    columns = ["Participant", "Answers", "Trials", "Too fast", "Catch items found", "Why left out"]
    return Table(columns, rows)


def _answers(document: Report) -> dict[str, int]:
    trials = document["trials"]
    return {
        "Files": trials["files"],
        "Answers": trials["answered"],
        f"Under {document['rule']['seconds']:g} s": trials["too_fast"],
        "Of people left out": trials["of_people_left_out"],
        "Repeated, dropped": trials["repeated"],
        "Kept": trials["kept"],
    }


def _identity(document: Report) -> str:
    found = document["identity"]
    if found is None:
        return ""
    total = f"{found['expected_sum']:g}"
    return (
        f"The ranks 1 to {found['items']} of a trial sum to {total}, and so do mean ranks. Those of the"
        f" methods sum to {found['sum_of_methods']:.3f}, which leaves {found['catch_from_sum']:.3f} for the"
        f" catch item; counted, it is {found['catch_counted']:.3f}."
    )


def _power(document: Report) -> str:
    power = document["power"]
    if power is None:
        return ""
    needed, visible = f"{power['trials_for_gap']:.0f}", f"{power['visible_gap']:.2f}"
    return (
        f"Ranks have a standard deviation of {power['rank_sd']:.2f}. To see a gap of {power['gap']:g} in"
        f" mean rank with 80 % power at 5 % takes about {needed} independent trials; as many as were kept"
        f" show a gap of {visible}. Ranks of one trial are paired, so fewer are enough; trials of one person"
        " are not independent, so more are needed."
    )


def _how(document: Report) -> Table:
    rule = document["rule"]
    catch = (
        "the reference, which must be first" if document["kind"] == "reference" else "the up-sampled source"
    )
    catch += "" if document["kind"] == "reference" else ", which must be last"
    rows: list[list[Cell]] = [
        ["Trials", f"crops of {document['crop']} px, {_TASKS[document['mode']]}"],
        ["Catch item", catch],
        [
            "Attention",
            f"trials under {rule['seconds']:g} s are dropped, then people who found fewer than"
            f" {rule['accuracy']:.0%} of their catch items, or saw fewer than {rule['checks']}",
        ],
        ["Strengths", "Plackett-Luce by Hunter's MM; Bradley-Terry of all pairs, ties as half a win"],
        [
            "95 % intervals",
            f"percentile bootstrap over participants and images, {document['draws']} draws, seed"
            f" {document['seed']}",
        ],
        ["Study", document["study"]],
        ["Computed by", f"deflow {document['version']}"],
    ]
    return Table(["What", "How"], rows)
