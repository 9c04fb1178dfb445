"""Run data: what a run was trained on, written when it begins and compared when it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.format import write_atomically
from deflow_cli.data.contents import Contents, differing_contents
from deflow_cli.errors import DataError
from deflow_cli.paths import DATA_FILE
from deflow_cli.runtime.progress import Reporter

ACCEPT_CHANGED_DATA = "--accept-changed-data"


def record_data(run_dir: Path, contents: Mapping[str, Contents]) -> None:
    """Write ``data.json``: the contents of each set of data by its role, such as ``clean`` or ``pairs``."""
    write_atomically(run_dir / DATA_FILE, (json.dumps(contents, indent=0) + "\n").encode())


def compare_data(
    run_dir: Path, contents: Mapping[str, Contents], accepts_changes: bool, reporter: Reporter
) -> None:
    """Compare the data of a run that goes on with what it began with.

    accepts_changes: tell the difference and go on. Raises DataError with the difference otherwise. A run
    without a record (of an earlier version) is told to have none.
    """
    try:
        before = json.loads((run_dir / DATA_FILE).read_text("utf-8"))
        known = {str(role): {str(k): str(v) for k, v in files.items()} for role, files in before.items()}
    except (OSError, ValueError, AttributeError):
        reporter.note(f"{run_dir} has no record of its data to compare with")
        return
    differences = []
    for role in sorted(known.keys() | contents.keys()):
        if text := differing_contents(known.get(role, {}), contents.get(role, {})):
            differences.append(f"{role}: {text}")
    refuse_changes(run_dir, "; ".join(differences), accepts_changes, reporter)


def renew_facts(facts: dict[str, Any], now: Mapping[str, Any]) -> str:
    """Set a resumed run's facts of its data to those of now; returns which changed, in words.

    The former ones stay in the list ``data_before``, so that a model tells of all data it has seen.
    """
    now = json.loads(json.dumps(now))  # as the state has them
    changed = [name for name, value in now.items() if facts.get(name) != value]
    if not changed:
        return ""
    facts.setdefault("data_before", []).append({name: facts.get(name) for name in changed})
    facts.update({name: now[name] for name in changed})
    return f"{', '.join(changed)} changed"


def compare_facts(
    run_dir: Path,
    facts: dict[str, Any],
    now: Mapping[str, Any],
    accepts_changes: bool,
    reporter: Reporter,
) -> None:
    """Compare what a run's state says of its data, its degrader for instance, with what is now, and renew it.

    Raises DataError where something changed, unless the user accepts that.
    """
    refuse_changes(run_dir, renew_facts(facts, now), accepts_changes, reporter)


def refuse_changes(run_dir: Path, differences: str, accepts_changes: bool, reporter: Reporter) -> None:
    """Raise DataError where there are differences, or only tell them where the user accepts them."""
    if not differences:
        return
    if not accepts_changes:
        raise DataError(
            f"{run_dir}: the data is not what the run began with: {differences}",
            next_step=f"bring the data back, go on all the same by {ACCEPT_CHANGED_DATA}, "
            "or begin anew with another --out",
        )
    reporter.warn(f"the run goes on with other data than it began with: {differences}")
