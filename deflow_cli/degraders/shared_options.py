"""Options that several degraders have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deflow_cli.degraders.base import DegraderOption
from deflow_cli.errors import ConfigError

Noisy = Annotated[
    Path | None, DegraderOption("Degraded images that {users} learn from.", metavar="DIR", kind="folder")
]


def require_noisy(name: str, noisy: Path | None, or_else: str = "") -> None:
    """Raise ConfigError without a folder of degraded pictures. or_else: another option that would do."""
    if noisy is None:
        raise ConfigError(
            f"the degrader {name} learns from degraded pictures", next_step=f"add --noisy DIR{or_else}"
        )
