"""Import: a published state dict to a model file of ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deflow_cli.checkpoints.foreign import load_published, read_state_dict
from deflow_cli.checkpoints.format import save_model
from deflow_cli.errors import CheckpointError, naming


@dataclass(frozen=True)
class ImportReport:
    """What was read. config: the sizes found. tensors: how many. unused: those that no computation reads."""

    config: dict[str, Any]
    tensors: int
    unused: list[str]


def import_weights(source: Path, target: Path) -> ImportReport:
    """Read published DeFlow weights, derive the sizes, load strictly and save ``target`` as a model file.

    Raises CheckpointError naming the file and the tensor that does not fit.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise CheckpointError(f"{target}: would overwrite its own source", next_step="choose another OUT")
    state = read_state_dict(source)
    with naming(source, CheckpointError):
        model, unused = load_published(state)
    facts = {"imported_from": source.name, "unused_tensors": unused}
    save_model(target, model, facts, title=source.stem)
    return ImportReport(asdict(model.config), len(state), unused)
