"""Restorers: which kind of restorer a training is of, and what its name says of its sizes."""

from __future__ import annotations

from pathlib import Path

from deflow_cli.config.restorer import RESTORER_SIZES
from deflow_cli.errors import ConfigError
from deflow_cli.paths import CONFIG_FILE
from deflow_cli.presets.reader import SRFLOW

SRFLOW_ARCH = "srflow"


def is_srflow(arch: str | None, preset: str | None, resumed: Path | None) -> bool:
    """Whether an SRFlow is asked for: by --arch, by the preset, or by the run that is resumed.

    Raises ConfigError where the preset and --arch contradict each other.
    """
    by_preset = preset is not None and _has_section(preset)
    if by_preset and arch not in (None, SRFLOW_ARCH):
        raise ConfigError(f"--preset {preset} is an SRFlow's", next_step=f"leave --arch {arch} out")
    if arch is None and preset is None and resumed is not None:
        return (resumed / CONFIG_FILE).is_file() and _has_section(str(resumed / CONFIG_FILE))
    return arch == SRFLOW_ARCH or by_preset


def size_settings(arch: str) -> list[str]:
    """The settings that the name of an ESRGAN's size stands for. Raises ConfigError for an unknown one.

    >>> size_settings("rrdb-tiny")[:2]
    ['restorer.channels=32', 'restorer.blocks=1']
    """
    if arch not in RESTORER_SIZES:
        raise ConfigError(f"--arch is {arch!r}", next_step=f"use {', '.join(RESTORER_SIZES)}, or srflow")
    names = ("channels", "blocks", "growth_channels")
    return [f"restorer.{name}={value}" for name, value in zip(names, RESTORER_SIZES[arch], strict=True)]


def _has_section(preset: str) -> bool:
    if preset.startswith(SRFLOW.prefix) and not preset.endswith(".toml"):
        return True
    try:
        return f"[{SRFLOW_ARCH}]" in Path(preset).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
