"""Weights: list, bring and find what others publish and the package does not carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deflow_cli.checkpoints import hub, hub_hf
from deflow_cli.checkpoints.hub import Pulled
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.paths import HUB_SCHEME
from deflow_cli.runtime.progress import Reporter

MEGABYTE = 1_000_000
KILOBYTE = 1_000


@dataclass(frozen=True)
class WeightsState:
    """Foreign weights and whether they are on this machine; path is None where they are not."""

    name: str
    note: str
    purpose: str
    bytes: int
    licence: str
    url: str
    here: bool
    path: Path | None


def list_weights() -> list[WeightsState]:
    """What the manifest names, in its order. Looks for files, and reads none."""
    states = []
    for remote in hub.remote_files().values():
        path = hub.find(remote)
        states.append(
            WeightsState(
                remote.name,
                remote.note,
                remote.purpose,
                remote.bytes,
                remote.licence,
                remote.url,
                path is not None,
                path,
            )
        )
    return states


def weights_path(name: str) -> Path:
    """Where the weights lie: a name of the list, or hf://... pulled earlier. No network.

    Raises CheckpointError with the command that brings them where they are not here.
    """
    if not name.startswith(HUB_SCHEME):
        return hub.locate(name)
    found = hub_hf.find_hf(name)
    if found is None:
        raise CheckpointError(f"{name}: not on this machine", next_step=f"deflow weights pull {name}")
    return found


def pull_weights(name: str, file: Path | None, reporter: Reporter) -> Pulled:
    """Bring weights into the cache: a name of the list (from `file` if given), or hf://OWNER/REPO/path[@rev].

    Raises CheckpointError naming the source and the cause, ConfigError for a name that is none.
    """
    if name.startswith(HUB_SCHEME):
        if file is not None:
            raise ConfigError(
                f"{name}: --file goes with a name of the list", next_step="pass the file by its path instead"
            )
        pulled = hub_hf.pull_hf(name)
    else:
        pulled = hub.pull(name, file=file, progress=_progress_of(reporter, name))
        reporter.finish()
    if pulled.already_here:
        reporter.note(f"{name}: already here, {pulled.verified}; nothing was downloaded")
    else:
        reporter.note(f"{name}: {pulled.verified}; licence: {pulled.licence}")
    return pulled


def _progress_of(reporter: Reporter, name: str) -> Callable[[int, int | None], None]:
    """Arriving bytes as a task in kB or MB, which starts with the first of them."""
    unit = 0

    def tell(done: int, total: int | None) -> None:
        nonlocal unit
        if not unit:
            small = total is not None and total < 10 * MEGABYTE
            unit = KILOBYTE if small else MEGABYTE
            label = f"{name}, kB" if small else f"{name}, MB"
            reporter.start(label, None if total is None else -(-total // unit))
        reporter.update(-(-done // unit))

    return tell
