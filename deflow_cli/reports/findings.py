"""Findings in words: for each kind of finding the sentence that a page and the console print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deflow_cli.reports.pages.rendering import CalloutKind

FigureValue = float | str | tuple[str, ...]


@dataclass(frozen=True)
class WordedFinding:
    """One sentence about one ``subject`` of the noise, ready to be printed."""

    subject: str
    severity: CalloutKind
    sentence: str


@dataclass(frozen=True)
class _Template:
    """A sentence with its figures as fields of `str.format`.

    The field ``reference`` becomes ``with_real`` where the figures have one called ``real`` (the same
    quantity of the real noise), and ``without_real`` otherwise.
    """

    text: str
    with_real: str = ""
    without_real: str = ""


_STDS = "{std:.1f} grey levels where the real noise has {real_std:.1f} ({percent:.0f} %)"
_GRAIN = (
    "adjacent pixels are correlated {neighbour:.2f}, in the real noise {real_neighbour:.2f}, "
    "and the coarse half of its spectrum stands {tilt_db:+.1f} dB over the fine one, "
    "in the real noise {real_tilt_db:+.1f}."
)
_CORRELATIONS = "{pair} correlation {correlation:.2f}, in the real noise {real_correlation:.2f}."
_KURTOSES = "excess kurtosis {kurtosis:.1f}, in the real noise {real_kurtosis:.1f}."
_SHIFT = ": it shifts {channel} by {shift:+.1f}{reference}."
_REAL_SHIFT = ", the real noise {real:+.1f}"
_SURVIVES = "{percent:.0f} % of the {band} detail survives {reference}."
_REAL_DETAIL, _IDEAL_DETAIL = "(real: {real:.0f} %)", "(100 % if only noise is added)"
_CHANCE = "(correlation {correlation:.2f}, chance stays below {bound:.2f})."

_TEMPLATES = {
    "no noise": _Template("No noise: std {std:.2f} grey levels where the real noise has {real_std:.1f}."),
    "too weak": _Template(f"Too weak: {_STDS}; it takes more noise."),
    "too strong": _Template(f"Too strong: {_STDS}; it takes less noise."),
    "tone too weak": _Template(f"Too weak in the {{tone}}: {_STDS}."),
    "tone too strong": _Template(f"Too strong in the {{tone}}: {_STDS}."),
    "too coarse": _Template(f"Too smooth, its grain is too coarse: {_GRAIN}"),
    "too white": _Template(f"Too white, the real noise is coarser: {_GRAIN}"),
    "another spectrum": _Template(
        "Its spectrum has another shape: {difference:.1f} dB off on average at equal level "
        "({threshold:.1f} would pass)."
    ),
    "another pattern": _Template(
        "Its grain has another pattern (direction, stripes or period): the autocorrelations differ by "
        "{difference:.3f} RMS ({threshold:.3f} would pass)."
    ),
    "channels too independent": _Template(
        f"The colour channels are tied together too little: {_CORRELATIONS}"
    ),
    "channels too dependent": _Template(f"The colour channels are tied together too much: {_CORRELATIONS}"),
    "heavy tails": _Template(f"Heavier tails, more outliers: {_KURTOSES}"),
    "light tails": _Template(f"Lighter tails, fewer outliers: {_KURTOSES}"),
    "too bright": _Template(f"Too bright by {{mean:.1f}} grey levels{_SHIFT}", _REAL_SHIFT),
    "too dark": _Template(f"Too dark by {{mean:.1f}} grey levels{_SHIFT}", _REAL_SHIFT),
    "colour cast": _Template(
        f"Colour cast of {{difference:+.1f}} grey levels in {{channel}}{_SHIFT}", _REAL_SHIFT
    ),
    "detail blurred": _Template(f"Detail is blurred: only {_SURVIVES}", _REAL_DETAIL, _IDEAL_DETAIL),
    "detail exaggerated": _Template(f"Detail is exaggerated: {_SURVIVES}", _REAL_DETAIL, _IDEAL_DETAIL),
    "detail preserved too well": _Template(
        f"Detail is kept too well: {_SURVIVES}", _REAL_DETAIL, _IDEAL_DETAIL
    ),
    "picture changed": _Template(
        "The picture itself changes: {psnr:.1f} dB PSNR once the noise is blurred away{reference}.",
        " (real: {real:.1f})",
        " ({threshold:.0f} would pass)",
    ),
    "no randomness": _Template("No randomness: two samples of one image are the same."),
    "little randomness": _Template(
        "Too little randomness: two samples of one image correlate {correlation:.2f} "
        "(independent noise stays below {bound:.2f}); the mean of {samples} "
        "is worth {effective_samples:.1f}."
    ),
    "repeats within an image": _Template(
        f"The noise repeats: the same pattern comes back {{displacement}} in image {{first}} {_CHANCE}"
    ),
    "repeats across images": _Template(
        f"The noise repeats: images {{first}} and {{second}} carry the same pattern, {{displacement}} "
        f"{_CHANCE}"
    ),
    "nothing judged": _Template("Nothing could be judged: no real noise, and no clean input."),
    "nothing wrong": _Template("Nothing wrong in {subjects}; the noise had no real one to go by."),
    "indistinguishable": _Template("Cannot be told from the real noise in {subjects}."),
    "in order": _Template("In order: {subjects}."),
}
KINDS = frozenset(_TEMPLATES)


def sentence(kind: str, figures: Mapping[str, FigureValue]) -> str:
    """The sentence of a finding of this kind with its figures.

    Several names in a figure are listed; ``down`` and ``right``, in pixels, give the field
    ``displacement``.

    >>> sentence("in order", {"subjects": ("level", "tones", "grain")})
    'In order: level, tones and grain.'
    >>> sentence("too bright", {"mean": 2.0, "channel": "red", "shift": 2.5})
    'Too bright by 2.0 grey levels: it shifts red by +2.5.'
    """
    template = _TEMPLATES[kind]
    reference = template.with_real if "real" in figures else template.without_real
    fields = {name: _listed(value) if isinstance(value, tuple) else value for name, value in figures.items()}
    if "down" in figures:
        fields["displacement"] = _displacement(int(fields["down"]), int(fields["right"]))
    return template.text.replace("{reference}", reference).format(**fields)


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b`` or ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _displacement(down: int, right: int) -> str:
    """``3 px down and 2 px to the left``."""
    moves = ((down, "down", "up"), (right, "to the right", "to the left"))
    parts = [f"{abs(n)} px {ahead if n > 0 else back}" for n, ahead, back in moves if n]
    return " and ".join(parts) or "at the same place"
