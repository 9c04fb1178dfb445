"""Model card: the page of a model on the Hugging Face Hub, in its Markdown, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Names of the columns, and rows."""

_SHEET_ALT = "samples of the model"


@dataclass(frozen=True)
class ModelCard:
    """What a card says.

    license: an SPDX identifier. usage: commands. facts: names and values, of data and training. findings:
    sentences about how real the samples are, worst first; realism: their figures, None where there are none,
    and why not in ``realism_note``. sheet: a picture beside the card, what it shows in ``sheet_note``.
    configuration: TOML.
    """

    title: str
    license: str
    author: str
    description: str
    tags: Sequence[str]
    usage: Sequence[str]
    facts: Mapping[str, str]
    sheet: str
    sheet_note: str
    findings: Sequence[str] = ()
    realism: Table | None = None
    realism_note: str = ""
    configuration: str = ""
    limits: Sequence[str] = field(default_factory=tuple)


def render_card(card: ModelCard) -> str:
    """The text of README.md: the Hub's facts in YAML, then the page."""
    parts = [
        _front_matter(card),
        f"# {card.title}",
        card.description + (f" Made by {card.author}." if card.author else ""),
        _fenced("\n".join(card.usage), "sh"),
        f"![{_SHEET_ALT}]({card.sheet})",
        card.sheet_note,
        "## Data and training",
        _table((("what", "value"), list(card.facts.items()))),
    ]
    if card.findings or card.realism is not None or card.realism_note:
        parts.append("## How real its samples are")
        parts += ["\n".join(f"- {sentence}" for sentence in card.findings)] if card.findings else []
        parts += [_table(card.realism)] if card.realism is not None and card.realism[1] else []
        parts += [card.realism_note] if card.realism_note else []
    if card.limits:
        parts += ["## Limits", "\n".join(f"- {limit}" for limit in card.limits)]
    if card.configuration:
        parts += ["## Configuration", _fenced(card.configuration.strip(), "toml")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: ModelCard) -> str:
    tags = "\n".join(f"- {_quoted(tag)}" for tag in card.tags)
    return (
        f"---\nlicense: {_quoted(card.license.lower())}\nlibrary_name: deflow-cli\n"
        f"pipeline_tag: image-to-image\ntags:\n{tags}\n---"
    )


def _quoted(text: str) -> str:
    """A text as YAML takes it, whatever it holds."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(table: Table) -> str:
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
