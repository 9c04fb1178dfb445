"""Study form: the page on which a participant of a study judges pictures; one file that sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deflow_cli.errors import ConfigError
from deflow_cli.reports.pages.rendering import render_page


@dataclass(frozen=True)
class _Wording:
    """What a participant is asked: before the first set, how to answer, above each set, and the keys."""

    task: str
    how: str
    ask: str
    keys: str


_WORDING = {
    "rank": _Wording(
        "You will see versions of one picture and put them in order of quality.",
        "Tap or click the pictures from the best to the worst. Tap one again to take its place back.",
        "Tap the pictures from the best to the worst.",
        "Keys: the letters choose, Backspace takes back, Enter goes on.",
    ),
    "2afc": _Wording(
        "You will see two versions of one picture and choose the better one.",
        "Tap or click the better picture, then Next.",
        "Which picture is better?",
        "Keys: A and B or the arrows choose, Enter goes on.",
    ),
    "best": _Wording(
        "You will see versions of one picture and choose the best one.",
        "Tap or click the best picture, then Next.",
        "Which picture is the best?",
        "Keys: the letters choose, Enter goes on.",
    ),
}
_ANCHORS = {
    "reference": ("Reference", "The reference beside them shows what the picture should look like."),
    "source": ("Source", "The source beside them shows the picture that all versions were made from."),
}


def study_form(study: Mapping[str, Any], kind: str, title: str, contact: str = "") -> str:
    """The page. study: what its script reads (mode, trials, forms, images).

    kind: ``reference`` or ``source``. contact: whom a participant may ask, empty for nobody. Raises
    ConfigError for an unknown mode or kind.
    """
    if study["mode"] not in _WORDING or kind not in _ANCHORS:
        raise ConfigError(f"study of mode {study['mode']!r} with a {kind!r}: both must be known")
    wording, (name, anchor) = _WORDING[study["mode"]], _ANCHORS[kind]
    values = {
        "study": study,
        "task": wording.task,
        "how": wording.how,
        "ask": wording.ask,
        "keys": wording.keys,
        "anchor_name": name,
        "anchor": anchor,
        "count": len(study["trials"]) - study["practice"],
        "contact": contact,
    }
    return render_page("study_form.html", title, "", values)
