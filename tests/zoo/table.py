"""The table of the whole zoo in docs/reliability.md: ``python -m tests.zoo.table`` writes it anew.

All animals go through all commands as in ``pytest tests/zoo --zoo full``; here the outcomes are counted.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.zoo.animals import Animal, Right, agreeing
from tests.zoo.commands import COMMANDS, Visit
from tests.zoo.corpus import images
from tests.zoo.judging import outcomes, problems
from tests.zoo.weights import weights
from tests.zoo.weights_judging import problem

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
START, END = "<!-- zoo: begin -->\n", "<!-- zoo: end -->\n"


def _groups(animals: Sequence[Animal]) -> dict[str, list[Animal]]:
    groups: dict[str, list[Animal]] = {}
    for animal in animals:
        groups.setdefault(animal.group, []).append(animal)
    return groups


def _image_rows(folder: Path) -> Iterator[str]:
    visit = Visit(folder, images())
    totals = Counter[str]()
    for group, animals in _groups(images()).items():
        counts = Counter[str]()
        for animal in animals:
            refused = bool(outcomes(visit, animal)["read"].refused)
            counts["refused" if refused else "read"] += 1
            if isinstance(animal.expected, Right):
                counts["held"] += bool(agreeing(animal.data, animal.expected))
            found = problems(visit, animal)
            for command, text in found.items():
                print(f"{animal.label}: {command}: {text}", file=sys.stderr)
            counts["unexpected"] += bool(found)
        totals += counts
        yield _row(group, counts)
    yield _row("**all**", totals)


def _row(title: str, counts: Counter[str]) -> str:
    inputs = counts["read"] + counts["refused"]
    numbers = [inputs, counts["read"], counts["refused"], counts["held"], inputs - counts["unexpected"]]
    return f"| {title} | {' | '.join(map(str, numbers))} |"


def _weight_rows(folder: Path) -> Iterator[str]:
    groups: dict[str, Counter[str]] = {}
    for one in weights():
        counts = groups.setdefault(one.group, Counter())
        counts["refused" if one.refused else "read"] += 1
        text = problem(folder, one)
        if text:
            print(f"{one.label}: {text}", file=sys.stderr)
        counts["unexpected"] += bool(text)
    for group, counts in groups.items():
        inputs = counts["read"] + counts["refused"]
        numbers = [inputs, counts["read"], counts["refused"], inputs - counts["unexpected"]]
        yield f"| {group} | {' | '.join(map(str, numbers))} |"


def tables() -> str:
    """Both tables, of one full run."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            f"Images, each through {', '.join(COMMANDS)}:",
            "",
            "| group | inputs | read | refused | seen alike by another decoder | as expected by all |",
            "|---|--:|--:|--:|--:|--:|",
            *_image_rows(Path(folder)),
            "",
            "Files of weights, as `restore` reads them:",
            "",
            "| group | inputs | read | refused | as expected |",
            "|---|--:|--:|--:|--:|",
            *_weight_rows(Path(folder)),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    before, rest = PAGE.read_text("utf-8").split(START)
    PAGE.write_text(before + START + tables() + END + rest.split(END)[1], "utf-8")


if __name__ == "__main__":
    main()
