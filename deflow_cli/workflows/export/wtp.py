"""Export to wtp_dataset_destroyer: an adapter for its folder of degradations, with the model beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from deflow_cli import __version__
from deflow_cli.checkpoints.format import load_model, write_atomically
from deflow_cli.checkpoints.registry import default_model
from deflow_cli.errors import CheckpointError, ConfigError
from deflow_cli.runtime.progress import Reporter

ADAPTER_ENDING = "_degr.py"  # of the files that the host imports by themselves
DEFAULT_ADAPTER = "deflow_degr.py"

_ADAPTER = '''\
"""Degrades images as the model in {weights} has learned it. Written by deflow {version}.

Belongs into src/process of wtp_dataset_destroyer, whose environment needs deflow: pip install deflow-cli.

degradation {{
  type = "{name}"
  temperature = [0.6, 1.2]  # strength, or one number; 1 is the model itself
  probability = 1.0
  seed = 0  # what an image becomes is a function of this and of its pixels
}}
"""

from pathlib import Path

from src.utils.registry import register_class

MODEL = Path(__file__).with_name("{weights}")  # sha256 {sha256}


@register_class("{name}")
class {class_name}:
    def __init__(self, options: dict):
        from deflow_cli.integrations.wtp import WtpDegradation  # here, so that others load without it

        self.degradation = WtpDegradation(MODEL, options)

    def run(self, lq, hq):
        """Float32 H x W x C in [0, 1]; from any thread. hq stays as it is."""
        return self.degradation.run(lq, hq)
'''


@dataclass(frozen=True)
class WtpReport:
    """What was written. adapter: the file to import. weights: the model beside it. type: the block's."""

    adapter: Path
    weights: Path
    type: str


def export_wtp(target: Path, given: Path | None, reporter: Reporter) -> WtpReport:
    """Write the adapter and a copy of the model beside it.

    target: a folder, or a file whose name ends as the host's do; what stands before becomes the type. given:
    a model of a fit; None: the default one. Raises ConfigError for another name, CheckpointError for no such
    model.
    """
    found = default_model(given)
    load_model(found.path)  # refuses what is no such model before anything is written
    adapter = target if target.suffix == ".py" else target / DEFAULT_ADAPTER
    name = adapter.name.removesuffix(ADAPTER_ENDING)
    if name == adapter.name or not name.isidentifier():
        raise ConfigError(
            f"{adapter}: the host imports files named TYPE{ADAPTER_ENDING} alone",
            next_step=f"use {DEFAULT_ADAPTER}, or a folder",
        )
    weights = adapter.with_name(f"{name}_degr.safetensors")
    if weights.exists() and weights.samefile(found.path):
        raise CheckpointError(f"{weights}: is the model itself", next_step="choose another OUT")
    content = found.path.read_bytes()
    write_atomically(weights, content)
    class_name = "".join(part.capitalize() for part in name.split("_")) or "Deflow"
    text = _ADAPTER.format(
        weights=weights.name,
        version=__version__,
        name=name,
        class_name=class_name,
        sha256=hashlib.sha256(content).hexdigest(),
    )
    write_atomically(adapter, text.encode())
    reporter.note(f"model: {found.path} ({found.origin})")
    return WtpReport(adapter, weights, name)
