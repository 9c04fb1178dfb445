"""Compare page: two versions of each image on top of each other, with a slider between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deflow_cli.reports.pages.rendering import POLICY, render_page

Size = tuple[int, int]


@dataclass(frozen=True)
class ComparedPair:
    """An image in two versions. first, second: data URIs, or addresses relative to the page. sizes: width and
    height of both in pixels."""

    name: str
    first: str
    second: str
    sizes: tuple[Size, Size]


def compare_page(
    pairs: Sequence[ComparedPair], labels: tuple[str, str], linked: bool, notes: Sequence[str] = ()
) -> str:
    """The page. linked: the pictures are files beside it, which its policy then lets it load."""
    values = {
        "pairs": pairs,
        "labels": labels,
        "notes": notes,
        "data": {"labels": labels, "pairs": [asdict(pair) for pair in pairs]},
        "policy": POLICY.replace("img-src data:", "img-src data: 'self' file:") if linked else POLICY,
    }
    count = f"{len(pairs)} image{'s' if len(pairs) > 1 else ''}"
    how = "linked, so this page must stay beside them" if linked else "held by this page"
    return render_page("compare.html", f"{labels[0]} and {labels[1]}", f"{count}, {how}", values)
