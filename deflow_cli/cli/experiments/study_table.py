"""Study table: the figures of `deflow study score` on stdout, and beneath them who was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deflow_cli.cli.tables import Column, TextTable, results_console, say, show_table

StudyDocument = Mapping[str, Any]  # a report of a study as a dictionary


def print_study(document: StudyDocument) -> None:
    """Print the methods, the pairs, and the lines below."""
    console = results_console()
    show_table(console, _methods_table(document))
    show_table(console, _pairs_table(document))
    for line in study_footer(document):
        say(console, line)


def study_footer(document: StudyDocument) -> list[str]:
    """Who was kept, the identity of rank sums, agreement, power, metrics; then the notes."""
    people, trials, rule = document["participants"], document["trials"], document["rule"]
    left_out = [person for person in people["people"] if person["reason"]]
    lines = [
        f"participants: {people['recruited']}, of whom {people['kept']} kept (at least {rule['accuracy']:.0%}"
        f" of {rule['checks']} or more catch items)",
        f"answers: {trials['answered']} in {trials['files']} files, of which {trials['kept']} kept"
        f" ({trials['too_fast']} under {rule['seconds']:g} s, {trials['of_people_left_out']} of people left"
        f" out, {trials['repeated']} repeated)",
        *(f"left out: {person['participant']}: {person['reason']}" for person in left_out),
    ]
    if identity := document["identity"]:
        items, total = identity["items"], identity["expected_sum"]
        lines.append(
            f"mean ranks 1 to {items} sum to {total:g}: {total:g} - {identity['sum_of_methods']:.3f} ="
            f" {identity['catch_from_sum']:.3f} is the catch item's, counted {identity['catch_counted']:.3f}"
        )
    if agreement := document["agreement"]:
        lines.append(f"Kendall's W over {len(agreement['crops'])} crops: mean {agreement['mean_w']:.3f}")
    if power := document["power"]:
        lines.append(
            f"power: a gap of {power['gap']:g} in mean rank takes about {power['trials_for_gap']:.0f}"
            f" independent trials (rank sd {power['rank_sd']:.2f}, 80 % at 5 %); these show"
            f" {power['visible_gap']:.2f}"
        )
    lines += [
        f"Spearman with {one['metric']}: {one['spearman']:.2f} over {one['methods']} methods"
        for one in document["metrics"]
    ]
    lines.append(
        f"[low, high]: 95 % two-way bootstrap over participants and images ({document['draws']} draws, seed"
        f" {document['seed']}); methods that share a letter are not told apart at 5 % (Holm)"
    )
    return lines + [f"note: {note}" for note in document["notes"]]


def _methods_table(document: StudyDocument) -> TextTable:
    ranked = document["identity"] is not None
    names = [*(["mean rank", "without catch item"] if ranked else []), "Plackett-Luce", "Bradley-Terry"]
    columns = [Column("method", wraps=True, style="cyan"), *(Column(name, right=True) for name in names)]
    columns += [Column("first", right=True), Column("letters")]
    table = TextTable(f"study {document['study']}, {document['mode']}", columns)
    for method in document["methods"]:
        figures = [method["mean_rank"], method["corrected"]] if ranked else []
        figures += [method["strength"], method["bradley_terry"]]
        first = "-" if math.isnan(method["firsts"]) else f"{method['firsts']:.0%}"
        table.rows.append((method["name"], *map(_estimate, figures), first, method["letters"]))
    return table


def _pairs_table(document: StudyDocument) -> TextTable:
    columns = [Column("pair", wraps=True, style="cyan"), Column("difference", right=True)]
    columns += [Column("p", right=True), Column("p, Holm", right=True)]
    table = TextTable("pairs (Plackett-Luce)", columns)
    for pair in document["pairs"]:
        cells = _estimate(pair["difference"]), f"{pair['p']:.4f}", f"{pair['p_holm']:.4f}"
        table.rows.append((f"{pair['first']} - {pair['second']}", *cells))
    return table


def _estimate(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
